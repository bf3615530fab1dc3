"""Cost: how often a module takes the time of another one, forward and backward, measured in turn."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

ROUNDS = 9  # the smallest and the largest of 9 are a 99.6% interval of the median
ELEMENTS = 200_000  # that a module is given in a round, at the least, so that a round can be timed


class Cost(NamedTuple):
    """A ratio of two times: the median of n rounds, the smallest and the largest."""

    median: float
    low: float
    high: float
    n: int


def costs(module: nn.Module, other: nn.Module, x: Tensor, after: Callable[[nn.Module], object]) -> dict[str, Cost]:
    """The time of a module over the time of another one, both in training mode, which take turns.

    Args:
        module: The module.
        other: The module that it is compared with.
        x: The input of both, whose gradient is computed too.
        after: The function that is called on a module after each step, untimed.

    Returns:
        The ratios of the forward and of the backward pass.
    """
    x = x.clone().requires_grad_()
    direction = torch.randn_like(x)
    ratios = []
    for _ in range(ROUNDS + 1):
        one, two = (_seconds(each, x, direction, after) for each in (module.train(), other.train()))
        ratios.append([own / its for own, its in zip(one, two, strict=True)])
    rounds = zip(*ratios[1:], strict=True)  # the first one warms up
    return {
        name: Cost(statistics.median(values), min(values), max(values), len(values))
        for name, values in zip(("forward", "backward"), rounds, strict=True)
    }


def _seconds(module: nn.Module, x: Tensor, direction: Tensor, after: Callable[[nn.Module], object]) -> list[float]:
    """The seconds of the forward and of the backward passes of a round."""
    seconds = [0.0, 0.0]
    for _ in range(-(-ELEMENTS // x.numel())):
        for tensor in (x, *module.parameters()):
            tensor.grad = None
        start = time.perf_counter()
        y = module(x)
        between = time.perf_counter()
        y.backward(direction)
        end = time.perf_counter()
        seconds = [seconds[0] + between - start, seconds[1] + end - between]
        after(module)
    return seconds
