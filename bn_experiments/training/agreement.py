"""Agreement: whether networks that are trained in a stack, or cut and continued, become what each becomes alone.

That is so for the modules of torch, and for most others. It is not so for every module that somebody may write, so it
is tried with a few steps before anything trains.
"""

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bn_experiments.copies import refuse_what_cannot_be_copied
from bn_experiments.data.examples import Examples
from bn_experiments.refusal import one_line
from bn_experiments.seeds import Stream, generator, global_state
from bn_experiments.training.attributes import Unseen, attributes, changed, memories, restore, same
from bn_experiments.training.losses import Loss
from bn_experiments.training.replicas import Part, StackedReplicas
from bn_experiments.training.steps import Clip, Steps

SEEDS = (0, 1)  # of the replicas that are tried
STEPS = 2  # on full mini-batches before what was trained is compared; a third one shows whether a run can go on
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}  # of a difference, relative to a tensor's largest number
CUT = 1e-4  # the same where a run goes on, whose optimizer may have kept numbers of another type
LEAST = 0.1  # that the largest number counts as: a tensor may hold nothing but the rounding of zeros
MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


@dataclass(frozen=True)
class Agreement:
    """What was found of the networks of a cell.

    Args:
        alone: Why each replica has to be trained alone; None if a stack of them becomes what each becomes alone.
        anew: Why a run that was cut has to start anew; None if it can go on from a checkpoint.
        draws: Whether the networks draw from the global random generators.
    """

    alone: str | None
    anew: str | None
    draws: bool


@dataclass
class Trial:
    """How networks are tried.

    Args:
        make: The function that makes the network of the replica with a seed, always the same.
        optimizer: The function that makes the optimizer of a network.
        elementwise: Whether the optimizer acts element by element, so that it can be given a stack.
        loss: The loss that training minimizes (see `losses`).
        clip: The function that limits the gradients of each replica; None: no clipping.
        examples: The training examples.
        sizes: The numbers of examples in a mini-batch, the usual one first; each is tried, before and after a cut.
        stacks: Whether a stack is to be tried too.
        device: Where they are tried.
        dtype: The type of the numbers, float64 where the networks take it, in which rounding hides nothing.
    """

    make: Callable[[int], nn.Module]
    optimizer: MakeOptimizer
    elementwise: bool
    loss: Loss
    clip: Clip | None
    examples: Examples
    sizes: Sequence[int]
    stacks: bool
    device: str = "cpu"
    dtype: torch.dtype = torch.float64

    def __post_init__(self) -> None:
        some = slice(len(SEEDS) * (STEPS + 1) * sum(self.sizes))
        few = replace(self.examples, x=self.examples.x[some], y=self.examples.y[some])
        self.examples = few.to(torch.device(self.device), torch.float32)

    @property
    def seeds(self) -> Sequence[int]:
        """The seeds of the replicas that are tried: one, unless a stack is tried too."""
        return SEEDS if self.stacks else SEEDS[:1]

    def network(self, seed: int) -> nn.Module:
        """The network of the replica with a seed, in training mode, where the examples are."""
        made = self.make(seed).to(self.device).train()
        return made.double() if self.dtype == torch.float64 else made  # which leaves complex numbers what they are

    def in_dtype(self) -> Examples:
        """The examples, with numbers of the type."""
        return self.examples.to(torch.device(self.device), self.dtype)

    def index(self) -> tuple[list[Tensor], list[Tensor]]:
        """The places (1, R, B) of the examples of the mini-batch of each step, before a cut and after it."""
        full, *others = self.sizes
        before, after = [full] * STEPS + others, [full, *others]
        count = len(self.examples)
        drawn = torch.stack([torch.randperm(count, generator=generator(seed, "agreement")) for seed in self.seeds])
        places = drawn[:, torch.arange(sum(before + after)) % count].to(self.device)  # (R, K B)
        taken = [own[None] for own in places.split(before + after, dim=1)]
        return taken[: len(before)], taken[len(before) :]

    def evaluated(self) -> Tensor:
        """The inputs (B, ...) that are evaluated."""
        return self.in_dtype().take(self.index()[1][0][0, 0])[0]


class Alone:
    """A network that is trained by itself.

    Args:
        trial: How it is tried.
        seed: The seed of its replica.
    """

    def __init__(self, trial: Trial, seed: int):
        self.network = trial.network(seed)
        self.optimizer = trial.optimizer(self.network)
        self.steps = Steps(Part.of(self.network), [self.optimizer], trial.loss, trial.clip)
        self.stream = Stream(seed, "training")
        self.draws = False

    def take(self, examples: Examples, index: Sequence[Tensor]) -> Tensor:
        """The losses (K,) of K steps on the mini-batches at indices (1, B) of examples."""
        with self.stream.drawn():
            before = global_state()
            losses = torch.cat([self.steps(examples, own) for own in index])
            self.draws = self.draws or not same(before, global_state())
        return losses

    def logits(self, x: Tensor) -> Tensor:
        """The logits (B, C) for x (B, ...) in evaluation mode, as after an epoch."""
        with Stream(0, "evaluation").drawn(), torch.no_grad():
            before = global_state()
            logits = self.network.eval()(x)
            self.draws = self.draws or not same(before, global_state())
        self.network.train()
        return logits

    def state(self) -> bytes:
        """All that a checkpoint would hold."""
        buffer = io.BytesIO()
        torch.save(
            {
                "network": self.network.state_dict(),
                "attributes": attributes(self.network),
                "optimizer": self.optimizer.state_dict(),
                "stream": self.stream.state,
            },
            buffer,
        )
        return buffer.getvalue()

    def go_on_from(self, state: bytes) -> None:
        """Takes over what a checkpoint holds."""
        held = torch.load(io.BytesIO(state), weights_only=True)
        restore(self.network, held["attributes"])
        self.network.load_state_dict(held["network"])
        self.optimizer.load_state_dict(held["optimizer"])
        self.stream.state = held["stream"]


def agreement(trial: Trial) -> Agreement:
    """Trains replicas for some steps each alone, then in a stack, then one for further steps with a cut and without.

    Compared are the losses, the parameters, the buffers, the plain attributes, and the logits in evaluation mode; after
    the cut also all else that the network and the optimizer remember.

    Args:
        trial: How the networks are tried. Where they do not take float64, they are tried in float32.

    Raises:
        Exception: What a network or an optimizer raises in a step that it takes alone.
    """
    try:
        runs, losses, logits = _alone(trial)
    except (Exception, SystemExit):
        if trial.dtype != torch.float64:
            raise
        trial = replace(trial, dtype=torch.float32)
        runs, losses, logits = _alone(trial)
    return Agreement(
        alone=_reason(lambda: _shared(trial) or _stacked(trial, runs, losses, logits)) if trial.stacks else None,
        anew=_reason(lambda: _cut(trial, runs[0])),
        draws=runs[0].draws,
    )


def _reason(find: Callable[[], str | None]) -> str | None:
    try:
        with warnings.catch_warnings(action="ignore"):  # that torch has no fast rule for an operation
            return find()
    except (Exception, SystemExit) as error:
        return one_line(error)


def _alone(trial: Trial) -> tuple[list[Alone], Tensor, list[Tensor]]:
    """The runs after their steps, their losses (K, R), and the logits (B, C) of each in evaluation mode.

    Raises:
        Refusal: A network cannot be copied after its steps, as it will be where a probe measures it.
    """
    runs, examples = [Alone(trial, seed) for seed in trial.seeds], trial.in_dtype()
    before, _ = trial.index()
    losses = [run.take(examples, [own[:, i] for own in before]) for i, run in enumerate(runs)]
    refuse_what_cannot_be_copied(runs[0].network, "model, norm")
    return runs, torch.stack(losses, dim=1), [run.logits(trial.evaluated()) for run in runs]


def _shared(trial: Trial) -> str | None:
    """Two tensors of a network that are one memory, which they would not be in a stack, nor in another dtype."""
    network, seen = trial.make(SEEDS[0]), dict[int, str]()
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.numel() and (other := seen.setdefault(tensor.data_ptr(), name)) != name:
            return f"{other} and {name} share their memory"
    return None


def _stacked(trial: Trial, runs: Sequence[Alone], losses: Tensor, logits: Sequence[Tensor]) -> str | None:
    """What differs in a stack; what the stack raises is raised."""
    if runs[0].draws:
        return "a pass draws random numbers"
    stack = StackedReplicas([trial.network(seed) for seed in SEEDS])
    (part,) = stack.parts(None if trial.elementwise else [range(i, i + 1) for i in range(len(SEEDS))])
    take = Steps(part, [trial.optimizer(network) for network in part.networks], trial.loss, trial.clip)
    examples, (before, _) = trial.in_dtype(), trial.index()
    first = take(examples, before[0])
    for held, value in memories(stack.network).items():
        if isinstance(value, Tensor | Unseen):
            what = "a tensor" if isinstance(value, Tensor) else "an iterator, whose state cannot be seen"
            return f"{held.partition('[')[0]} keeps {what}, which in a stack would be of all replicas"
    together, tolerance = torch.cat([first, *(take(examples, own) for own in before[1:])]), TOLERANCE[trial.dtype]
    with torch.no_grad():
        evaluated = stack.eval()(trial.evaluated()[None])
    pairs = [({"the loss": together}, {"the loss": losses})]
    pairs += [(stack.replica(i).state_dict(), run.network.state_dict()) for i, run in enumerate(runs)]
    for found, expected in pairs:
        if name := _differing(found, expected, tolerance):
            return f"{name} differs in a stack"
    if names := [name for run in runs for name in changed(memories(run.network), memories(stack.network))]:
        return f"{names[0].partition('[')[0]} differs in a stack"
    if _differing({"": evaluated}, {"": torch.stack(list(logits))}, tolerance):
        return "the output in evaluation mode differs in a stack"
    return None


def _cut(trial: Trial, run: Alone) -> str | None:
    """What differs between a run that goes on and one that goes on from its checkpoint."""
    other = Alone(trial, SEEDS[0])
    other.go_on_from(run.state())
    index = [own[:, 0] for own in trial.index()[1]]
    one, two = (
        {
            "the loss": each.take(trial.in_dtype(), index),
            "the output in evaluation mode": each.logits(trial.evaluated()),
            **each.network.state_dict(),
        }
        for each in (run, other)
    )
    for owner in ("network", "optimizer"):
        held, loaded = (memories(getattr(each, owner)) for each in (run, other))
        if names := changed(loaded, held):
            return f"the {owner} keeps {names[0].partition('[')[0]}, which a checkpoint does not hold"
    name = _differing(two, one, CUT)
    return f"{name} differs after it" if name else None


def _differing(found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float) -> str | None:
    """The name of the first tensor that differs by more than a share of its largest number."""
    for name, tensor in expected.items():
        own = found.get(name)
        if not isinstance(tensor, Tensor):
            continue
        if own is None or own.shape != tensor.shape:
            return name
        due = tensor.detach().double()
        largest = float(due[due.isfinite()].abs().max()) if due.isfinite().any() else 0.0
        bound = tolerance * max(largest, LEAST)
        if not torch.allclose(own.detach().double(), due, rtol=0, atol=bound, equal_nan=True):
            return name
    return None
