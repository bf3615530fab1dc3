"""Perturbation: what a norm's outputs depend on, and whether its gradients are derivatives, found by changed inputs."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError, gradcheck
from torch.func import functional_call

from bn_experiments.seeds import Stream, generator, global_state

SIZES = (1, 30, 1000)  # of the changes, since a median, a maximum or a clamp does not follow every one
DIRECTIONS = 4  # random ones, of inputs and of outputs, in which a derivative is compared
WRONG = "differs from the derivative"
AXES = ("example", "channel", "position")
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}  # of a change, relative to the largest output


class Others(NamedTuple):
    """On how many of the `of` other places of an axis an output depends: between `low` and `high` by output."""

    low: int
    high: int
    of: int


def output(norm: nn.Module, x: Tensor, training: bool) -> Tensor:
    """What a norm gives for x (B, F, ...) from the state and the random numbers that it has now.

    A copy is asked, so that the norm keeps its state; what it draws is the same at every call.

    Args:
        norm: The norm.
        x: The input.
        training: Whether it is asked in training mode, with gradients, or in evaluation mode, without.
    """
    asked = copy.deepcopy(norm).train(training)
    with _stream().drawn(), torch.set_grad_enabled(training):
        return asked(x)


def dependence(norm: nn.Module, x: Tensor, training: bool) -> dict[str, Others]:
    """On how many other examples, channels and positions an output y[b, f, l] depends.

    Args:
        norm: The norm.
        x: The input (B, F), (B, F, L) or (B, F, H, W), in float64 or float32.
        training: The mode (see `output`).

    Returns:
        The numbers by axis. All positions are one axis, which an input (B, F) lacks.

    >>> x = torch.randn(6, 4, 5, dtype=torch.float64)
    >>> dependence(nn.BatchNorm1d(4).double(), x, True)["example"], dependence(nn.Identity(), x, True)["position"]
    (Others(low=5, high=5, of=5), Others(low=0, high=0, of=4))
    """
    found = {}
    for axis in range(min(x.dim(), 3)):
        others = influence(norm, x, axis, training).sum(1)
        found[AXES[axis]] = Others(int(others.min()), int(others.max()), len(others) - 1)
    return found


def influence(norm: nn.Module, x: Tensor, axis: int, training: bool) -> Tensor:
    """Whether the outputs at place i of an axis change with the inputs at another place j of it, (N, N).

    Args:
        norm: The norm.
        x: The input (B, F, ...).
        axis: The axis of N places: 0 of examples, 1 of channels, 2 of positions, all of them in one axis.
        training: The mode (see `output`).
    """
    before = _outputs(norm, x, axis, training)
    bound = TOLERANCE[x.dtype] * max(float(before.abs().max()), 1e-3)

    def changed(places: Tensor) -> Tensor:
        """Whether the outputs at each of the other places change with the inputs at these, (N,)."""
        source, found = generator(0, "perturbation", axis), places.clone()
        for size in SIZES:
            other = x.clone()
            part = _flat(other).movedim(axis, 0)
            part[places] = size * torch.randn(part[places].shape, generator=source, dtype=x.dtype)
            found |= (_outputs(norm, other, axis, training) - before).abs().flatten(1).amax(1) > bound
            if found.all():
                break
        return found & ~places

    place = torch.arange(len(before))
    halves = [(place >> bit) % 2 == side for bit in range((len(place) - 1).bit_length()) for side in (0, 1)]
    if not any(changed(half).any() for half in halves):  # of any two places, some half holds just the one
        return torch.zeros(len(place), len(place), dtype=torch.bool)
    return torch.stack([changed(place == j) for j in place], dim=1)


def gradients(
    norm: nn.Module, x: Tensor, training: bool, words: Callable[[BaseException], str]
) -> dict[str, str | None]:
    """Why the gradient of the input, or of a parameter, is not the derivative of the output; None where it is.

    It is compared with differences of outputs (`torch.autograd.gradcheck`) along random directions, from the same state
    and with the same random numbers.

    Args:
        norm: The norm, in float64.
        x: The input (B, F, ...), in float64.
        training: Whether it is in training mode.
        words: The function that puts an error of the norm in words.

    Returns:
        The reasons, by the name of a parameter, or `input`.
    """
    source = generator(0, "perturbation")

    def directions(like: Tensor) -> Tensor:
        return torch.randn(DIRECTIONS, *like.shape, generator=source, dtype=like.dtype)

    def check(name: str, value: Tensor) -> str | None:
        ways, seen = directions(value), directions(x) / x.numel() ** 0.5

        def along(t: Tensor) -> Tensor:
            moved = {name: value + torch.tensordot(t, ways, 1)}
            asked, given = copy.deepcopy(norm).train(training), moved.pop("input", x)
            with _stream().drawn():
                return torch.tensordot(seen, functional_call(asked, moved, (given,)), x.dim())  # (DIRECTIONS,)

        try:
            gradcheck(along, torch.zeros(DIRECTIONS, dtype=x.dtype, requires_grad=True), nondet_tol=1e-9)
        except GradcheckError as error:
            return WRONG if "mismatch" in str(error) else words(error)
        except Exception as error:
            return words(error)
        return None

    floats = {name: one.detach() for name, one in norm.named_parameters() if one.is_floating_point()}
    values = {"input": x} | floats
    return {name: check(name, value) for name, value in values.items()}


def _outputs(norm: nn.Module, x: Tensor, axis: int, training: bool) -> Tensor:
    """The outputs, with N places of the axis first, (N, ...)."""
    return _flat(output(norm, x, training).detach()).movedim(axis, 0)


def _flat(x: Tensor) -> Tensor:
    """The input with all positions in one axis: (B, F) or (B, F, L)."""
    return x.flatten(2) if x.dim() > 2 else x


def _stream() -> Stream:
    """The same stream at its start every time."""
    stream = Stream(0, "perturbation")
    stream.state = _start()
    return stream


@cache
def _start() -> dict[str, Any]:
    with Stream(0, "perturbation").drawn():  # which takes a millisecond, too long for each of a thousand passes
        return global_state()
