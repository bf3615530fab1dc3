"""Trials: what a norm does on small inputs and in small networks, one question a function."""

import copy
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from bn_experiments.data.examples import Examples
from bn_experiments.models.lenet import LeNet
from bn_experiments.models.mlp import MLP
from bn_experiments.norms.examine.cost import Cost, costs
from bn_experiments.norms.examine.perturbation import Others, dependence, gradients, output
from bn_experiments.norms.slot import Slot, registered
from bn_experiments.refusal import Refusal, one_line
from bn_experiments.seeds import Stream, generator, global_state
from bn_experiments.training.agreement import Agreement, Trial, agreement
from bn_experiments.training.attributes import attributes, changed, same, settle, with_tensors
from bn_experiments.training.initialization import initialize
from bn_experiments.training.losses import cross_entropy

POSITIONS = {"(B, F)": (), "(B, F, L)": (6,), "(B, F, H, W)": (5, 4)}  # the shapes of a norm's input
SHAPES = {"all": (*POSITIONS,), "linear": ("(B, F)",), "conv": ("(B, F, L)", "(B, F, H, W)")}  # by norm.layers
MODES = {"training": True, "evaluation": False}
T = TypeVar("T")


class Subject:
    """The norm that is examined.

    Args:
        path: The import path of its class, with `{dim}` for the number of spatial axes.
        options: Its options, and keys of the slot.
        width: The number F of features.
        batch_size: The number B of examples.
    """

    def __init__(self, path: str, options: Mapping[str, Any], width: int, batch_size: int):
        self.path = path
        self.options = {"layers": "all"} | dict(options)
        self.width = width
        self.batch_size = batch_size
        self.slot = Slot(path, **self.options)

    def input(self, shape: str, dtype: torch.dtype = torch.float32, size: int | None = None) -> Tensor:
        """Random examples (B, F, ...) of a shape."""
        positions = (n + (n == self.width) for n in POSITIONS[shape])  # never F, with which a norm may confuse them
        full = (size or self.batch_size, self.width, *positions)
        return torch.randn(full, generator=generator(0, "input"), dtype=dtype)

    def norm(self, shape: str, dtype: torch.dtype = torch.float32) -> nn.Module:
        """A new norm for inputs of a shape, with parameters off their start values, at which a scale may be zero."""
        try:
            norm = self.slot.make(self.width, dim=max(len(POSITIONS[shape]), 1)).to(dtype)
        except (AttributeError, NotImplementedError, SystemExit) as error:
            got, allowed = f"makes no module ({one_line(error)})", "a class derived from torch.nn.Module"
            raise Refusal("norm._target_", got, allowed, "change it", value=self.path) from error
        source = generator(0, "parameters")
        with torch.no_grad():
            for parameter in filter(torch.is_floating_point, norm.parameters()):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=source, dtype=torch.float64))
        return norm

    def trained(self, shape: str, dtype: torch.dtype = torch.float32) -> nn.Module:
        """A norm after a forward and a backward pass in training mode."""
        norm, x = self.norm(shape, dtype), self.input(shape, dtype).requires_grad_()
        with Stream(0, "training").drawn():
            y = norm.train()(x)
            (y * torch.randn(y.shape, generator=generator(0, "loss"))).sum().backward()
        settle(norm)  # as the bench does after a step
        return norm

    def network(self, shape: str, seed: int) -> nn.Module:
        """A small network with the norm in layers that give inputs of a shape."""
        slot = Slot(self.path, **self.options | {"layers": "conv" if POSITIONS[shape] else "linear"})
        shape_of_one, widths = self.examples(shape).x.shape[1:], [self.width] * 2
        with Stream(seed, "network").drawn():
            make: Callable[..., nn.Module] = partial(MLP, hidden=widths, repeat=1, bias=True)
            if POSITIONS[shape]:
                make = partial(LeNet, channels=widths, kernel_size=3, padding=1, pooling="max", hidden=[8])
            network = make(shape_of_one, 3, slot, activation="relu", dropout=0.0)
        initialize(registered(network), seed, "torch", slot.scale_init)
        return network

    def examples(self, shape: str) -> Examples:
        """Random examples of three classes for the network."""
        count, source = 6 * self.batch_size, generator(0, "examples")
        positions = {0: (8,), 1: (12,), 2: (8, 8)}[len(POSITIONS[shape])]
        x, y = torch.randn(count, 1, *positions, generator=source), torch.randint(3, (count,), generator=source)
        one = torch.ones(1, *(1,) * len(positions))
        return Examples(x, y, one, 0 * one)


def words(error: BaseException) -> str:
    """The first sentence of an error."""
    text = f"{error.key}: {error.got}" if isinstance(error, Refusal) else one_line(error)
    return text.split(". ")[0][:160]


def tried(find: Callable[[], T]) -> T | str:
    """What is found, or the error in words."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return find()
    except (Exception, SystemExit) as error:
        return words(error)


def _wrong(y: Any, x: Tensor) -> str | None:
    """What is wrong with an output y for the input x; None if nothing is."""
    if not isinstance(y, Tensor):
        return f"it gives {type(y).__name__}, not a tensor"
    if y.shape != x.shape:
        return f"it gives the shape {tuple(y.shape)} for {tuple(x.shape)}"
    if y.dtype != x.dtype:
        return f"it gives {y.dtype} for {x.dtype}"
    return None if bool(y.isfinite().all()) else "it gives numbers that are not finite"


def taken(subject: Subject, shape: str, mode: str, notes: dict[str, str]) -> str | None:
    """Why an input is not taken; where an evaluation needs a training step before it, that is noted."""
    x = subject.input(shape)

    def reason(make: Callable[[str], nn.Module]) -> str | None:
        found = _wrong(output(make(shape), x, MODES[mode]), x)
        if not found and MODES[mode]:
            subject.trained(shape)  # raises where the backward pass fails
        return found

    with warnings.catch_warnings(record=True, action="always") as warned:
        try:
            found = reason(subject.norm)
        except (Exception, SystemExit) as error:
            found = words(error)
    if warned:
        notes[shape] = f"it warns: {one_line(warned[0].message)}"
    if found and mode == "evaluation" and tried(lambda: reason(subject.trained)) is None:
        notes[shape] = f"it has no evaluation before its first training step: {found}"
        return None
    return found


def takes_size(subject: Subject, shape: str, mode: str, size: int) -> str | None:
    """Why another number of examples is not taken, after a training step."""
    x = subject.input(shape, size=size)
    return tried(lambda: _wrong(output(subject.trained(shape), x, MODES[mode]), x))


def constructor(subject: Subject) -> tuple[list[str], list[str]]:
    """The generators from which the constructor draws, and the plain attributes with tensors that it makes."""
    slot, dim = subject.slot, 2 if subject.slot.layers == "conv" else 1
    with Stream(0, "constructor").drawn():
        before = global_state()
        made = slot.import_target(dim)(**{slot.width_argument: subject.width}, **slot.options)
        return _drawn_since(before), [name for name in with_tensors(made) if isinstance(vars(made).get(name), Tensor)]


def draws(subject: Subject, shape: str, mode: str) -> list[str]:
    """The generators from which a pass draws."""
    norm, x = subject.trained(shape).train(MODES[mode]), subject.input(shape)
    with Stream(0, "draws").drawn(), torch.set_grad_enabled(MODES[mode]):
        before = global_state()
        norm(x)
        return _drawn_since(before)


def _drawn_since(before: Mapping[str, Any]) -> list[str]:
    names = {"torch": "torch", "cuda": "torch", "numpy": "NumPy", "python": "Python"}
    return sorted({names[key] for key, state in global_state().items() if not same(before.get(key), state)})


def repeats(subject: Subject, shape: str, mode: str) -> bool:
    """Whether two passes from the same state give the same output, while the global generators go on."""
    norm, x = subject.trained(shape).train(MODES[mode]), subject.input(shape)
    with Stream(0, "repeats").drawn(), torch.set_grad_enabled(MODES[mode]):
        first, second = (copy.deepcopy(norm)(x) for _ in range(2))
    return torch.equal(first, second)


def changes(subject: Subject, shape: str, mode: str) -> list[str]:
    """The buffers and plain attributes that a pass changes."""
    norm = subject.norm(shape) if MODES[mode] else subject.trained(shape)
    before = _held(norm)
    with torch.set_grad_enabled(MODES[mode]):
        after = _held(subject.trained(shape)) if MODES[mode] else _after(norm.eval(), subject.input(shape))
    return changed(before, after)


def _after(norm: nn.Module, x: Tensor) -> dict[str, Any]:
    norm(x)
    return _held(norm)


def _held(norm: nn.Module) -> dict[str, Any]:
    buffers = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    return {name: value for name, value in (attributes(norm) | buffers).items() if name != "training"}


def left_behind(norm: nn.Module) -> list[str]:
    """The attributes with tensors that stay on their device as the norm moves to another."""
    return [name for name in with_tensors(norm.to("meta")) if not _all_meta(attributes(norm).get(name))]


def _all_meta(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_all_meta, value.values()))
    return all(map(_all_meta, value)) if isinstance(value, list | tuple) else getattr(value, "is_meta", True)


def _exact(subject: Subject, shape: str, mode: str) -> tuple[nn.Module, Tensor]:
    """The norm and an input in float64 where it takes that, in the state in which it is asked in a mode."""
    make = subject.norm if MODES[mode] else subject.trained
    dtype = torch.float32 if _dtype(subject, shape, torch.float64) else torch.float64
    return make(shape, dtype), subject.input(shape, dtype)


def depends(subject: Subject, shape: str, mode: str) -> dict[str, Others]:
    """On how many others an output depends in a mode."""
    return dependence(*_exact(subject, shape, mode), MODES[mode])


def derivatives(subject: Subject, shape: str, mode: str) -> dict[str, str | None]:
    """Why a gradient is not a derivative in a mode, by parameter."""
    norm, x = _exact(subject, shape, mode)
    if x.dtype != torch.float64:
        raise TypeError("it does not take float64")
    return gradients(norm, x, MODES[mode], words)


def _dtype(subject: Subject, shape: str, dtype: torch.dtype) -> str | None:
    """Why a norm that was moved to a dtype does not work in it."""
    x = subject.input(shape, dtype)
    return tried(lambda: _wrong(output(subject.norm(shape).to(dtype), x, True), x))


def moves(subject: Subject, shape: str) -> dict[str, str | None]:
    """Why the norm does not work in float64, in bfloat16, or on a GPU where there is one."""
    found = {str(t).removeprefix("torch."): _dtype(subject, shape, t) for t in (torch.float64, torch.bfloat16)}
    if torch.cuda.is_available():
        x = subject.input(shape).cuda()
        found["cuda"] = tried(lambda: _wrong(output(subject.norm(shape).cuda(), x, True), x))
    return found


def agreement_in(subject: Subject, shape: str) -> Agreement:
    """What the bench finds of a network with the norm (see `training.agreement`)."""
    make = partial(subject.network, shape)
    loss, examples, sizes = partial(cross_entropy, label_smoothing=0.0), subject.examples(shape), [subject.batch_size]
    return agreement(Trial(make, _sgd, True, loss, clip=None, examples=examples, sizes=sizes, stacks=True))


def _sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)


def costs_on(subject: Subject, shape: tuple[int, ...]) -> dict[str, Cost]:
    """The cost against torch's batch norm on inputs of a shape."""
    dim = max(len(shape) - 2, 1)
    batch_norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}[dim](shape[1])
    x = torch.randn(shape, generator=generator(0, "cost"))
    with Stream(0, "cost").drawn():
        return costs(subject.slot.make(shape[1], dim), batch_norm, x, settle)
