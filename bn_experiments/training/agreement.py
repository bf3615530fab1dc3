"""Agreement: whether networks that are trained in a stack, or cut and continued, become what each becomes alone.

That is so for the modules of torch, and for most others. It is not so for every module that somebody may write, so it
is tried with a few steps before anything trains.
"""

import copy
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bn_experiments.data.splits import Examples
from bn_experiments.refusal import one_line
from bn_experiments.seeds import Stream, generator, global_state
from bn_experiments.training.attributes import attributes, changed, restore, same, with_tensors
from bn_experiments.training.replicas import Part, StackedReplicas
from bn_experiments.training.steps import Steps

SEEDS = (0, 1)  # of the replicas that are tried
STEPS = 2  # before what was trained is compared; a third one shows whether a run can go on
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
        clip: The largest 2-norm of each replica's gradient; None: no clipping.
        examples: The training examples.
        batch_size: The number of examples in a mini-batch.
        stacks: Whether a stack is to be tried too.
        device: Where they are tried.
        dtype: The type of the numbers, float64 where the networks take it, in which rounding hides nothing.
    """

    make: Callable[[int], nn.Module]
    optimizer: MakeOptimizer
    elementwise: bool
    clip: float | None
    examples: Examples
    batch_size: int
    stacks: bool
    device: str = "cpu"
    dtype: torch.dtype = torch.float64

    def __post_init__(self) -> None:
        some = slice(len(SEEDS) * (STEPS + 1) * self.batch_size)
        few = replace(self.examples, x=self.examples.x[some], y=self.examples.y[some])
        self.examples = few.to(torch.device(self.device), torch.float32)

    @property
    def seeds(self) -> Sequence[int]:
        """The seeds of the replicas that are tried: one, unless a stack is tried too."""
        return SEEDS if self.stacks else SEEDS[:1]

    def network(self, seed: int) -> nn.Module:
        """The network of the replica with a seed, in training mode, where the examples are."""
        return self.make(seed).to(self.device, self.dtype).train()

    def in_dtype(self) -> Examples:
        """The examples, with numbers of the type."""
        return self.examples.to(torch.device(self.device), self.dtype)

    def index(self) -> Tensor:
        """The places (K, R, B) of the examples of K mini-batches for each of R replicas."""
        count = len(self.examples)
        drawn = [torch.randperm(count, generator=generator(seed, "agreement")) for seed in self.seeds]
        places = torch.arange((STEPS + 1) * self.batch_size) % count
        return torch.stack([own[places].view(STEPS + 1, -1) for own in drawn], dim=1).to(self.device)


class Alone:
    """A network that is trained by itself.

    Args:
        trial: How it is tried.
        seed: The seed of its replica.
    """

    def __init__(self, trial: Trial, seed: int):
        self.network = trial.network(seed)
        self.optimizer = trial.optimizer(self.network)
        self.steps = Steps(Part.of(self.network), [self.optimizer], trial.clip)
        self.stream = Stream(seed, "training")
        self.draws = False

    def take(self, examples: Examples, index: Tensor) -> Tensor:
        """The losses (K,) of steps on the mini-batches at an index (K, B) of examples."""
        with self.stream.drawn():
            before = global_state()
            losses = self.steps(examples, index)
            self.draws = self.draws or not same(before, global_state())
        return losses

    def logits(self, x: Tensor) -> Tensor:
        """The logits (B, C) for x (B, ...) in evaluation mode, which leaves no trace."""
        with Stream(0, "evaluation").drawn(), torch.no_grad():
            before = global_state()
            logits = copy.deepcopy(self.network).eval()(x)
            self.draws = self.draws or not same(before, global_state())
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
    """Trains replicas for two steps each alone, then in a stack, then one for a step more after a cut.

    Compared are the losses, the parameters, the buffers, the plain attributes, and the logits in evaluation mode.

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
        alone=_reason(lambda: _stacked(trial, runs, losses, logits)) if trial.stacks else None,
        anew=_reason(lambda: _cut(trial, copy.deepcopy(runs[0]))),
        draws=runs[0].draws,
    )


def _reason(find: Callable[[], str | None]) -> str | None:
    try:
        with warnings.catch_warnings(action="ignore"):  # that torch has no fast rule for an operation
            return find()
    except (Exception, SystemExit) as error:
        return one_line(error)


def _alone(trial: Trial) -> tuple[list[Alone], Tensor, list[Tensor]]:
    """The runs after their steps, their losses (K, R), and the logits (B, C) of each in evaluation mode."""
    runs, examples = [Alone(trial, seed) for seed in trial.seeds], trial.in_dtype()
    indices = trial.index()[:STEPS].unbind(1)
    losses = torch.stack([run.take(examples, own) for run, own in zip(runs, indices, strict=True)], dim=1)
    return runs, losses, [run.logits(examples.take(trial.index()[-1, 0])[0]) for run in runs]


def _stacked(trial: Trial, runs: Sequence[Alone], losses: Tensor, logits: Sequence[Tensor]) -> str | None:
    """What differs in a stack; what the stack raises is raised."""
    if runs[0].draws:
        return "a pass draws random numbers"
    stack = StackedReplicas([trial.network(seed) for seed in SEEDS])
    (part,) = stack.parts(trial.elementwise)
    take = Steps(part, [trial.optimizer(network) for network in part.networks], trial.clip)
    examples, index = trial.in_dtype(), trial.index()
    first = take(examples, index[:1])
    if names := with_tensors(stack.network):
        return f"{names[0]} keeps a tensor, which in a stack would be of all replicas"
    together, tolerance = torch.cat([first, take(examples, index[1:STEPS])]), TOLERANCE[trial.dtype]
    pairs = [({"the loss": together}, {"the loss": losses})]
    pairs += [(stack.replica(i).state_dict(), run.network.state_dict()) for i, run in enumerate(runs)]
    for found, expected in pairs:
        if name := _differing(found, expected, tolerance):
            return f"{name} differs in a stack"
    if names := changed(attributes(runs[0].network), attributes(stack.network)):
        return f"{names[0]} differs in a stack"
    with torch.no_grad():
        evaluated = stack.eval().forward_shared(examples.take(index[-1, 0])[0])
    if _differing({"": evaluated}, {"": torch.stack(list(logits))}, tolerance):
        return "the output in evaluation mode differs in a stack"
    return None


def _cut(trial: Trial, run: Alone) -> str | None:
    """What differs between a run that goes on and one that goes on from its checkpoint."""
    other = Alone(trial, SEEDS[0])
    other.go_on_from(run.state())
    index = trial.index()[STEPS:, 0]
    one, two = ({"the loss": each.take(trial.in_dtype(), index), **each.network.state_dict()} for each in (run, other))
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
