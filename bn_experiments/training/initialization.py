"""Initial weights: (seed, layer name) seeds the draw of each layer, so that arms start with equal weights."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.utils import parametrize

from bn_experiments.norms.slot import norms_of
from bn_experiments.refusal import Refusal
from bn_experiments.seeds import derive

Init = Literal["torch", "he_uniform", "xavier_uniform", "own"]


def initialize(network: nn.Module, seed: int, init: Init, scale_init: str | float) -> None:
    """Draws the parameters of `network` anew, unless they are to keep what the network's own constructor drew.

    The parameters of each module come from a random stream of their own, seeded by (seed, name of the module). So
    networks that differ in their norms alone start with the same weights.

    Args:
        network: The network, which is changed in place.
        seed: The seed of the replica.
        init: torch calls `reset_parameters` of each module; he_uniform and xavier_uniform draw the weights of linear
            and convolutional layers from U(-b, b), with b = sqrt(6 / fan_in) and b = sqrt(6 / (fan_in + fan_out)), and
            set their biases to zero; own draws nothing.
        scale_init: The start value of the norms' scales: ones, uniform in (0, 1), a number, or kept, as they are.

    Raises:
        Refusal: `scale_init` is not ones, and a norm has no scale.

    Source: He et al. 2015, arXiv:1502.01852, equation 10; Glorot & Bengio 2010, Understanding the difficulty of
    training deep feedforward neural networks, equation 16.
    """
    # reset_parameters takes no generator: the CPU's global one is seeded, and gets its old state back at the end;
    # torch.manual_seed takes a millisecond more, to remember from where each of the other devices is to be seeded
    seeded = torch.default_generator.manual_seed
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for name, module in network.named_modules() if init != "own" else ():
            seeded(derive(seed, name))
            if init in DRAWS and isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                _draw(module, DRAWS[init])
            elif hasattr(module, "reset_parameters"):
                _draw(module, type(module).reset_parameters)
        for name, norm in norms_of(network).items():
            seeded(derive(seed, name, "scale"))
            if scale_init not in ("ones", "kept"):
                _scale(norm, scale_init)


def he_uniform(layer: nn.Linear | nn.Conv1d | nn.Conv2d) -> None:
    """Draws a layer's weight (out, in, ...) from U(-b, b), b = sqrt(6 / fan_in), and sets its bias (out,) to zero."""
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def xavier_uniform(layer: nn.Linear | nn.Conv1d | nn.Conv2d) -> None:
    """Draws a layer's weight (out, in, ...) from U(-b, b), b = sqrt(6 / (fan_in + fan_out)), and sets its bias to zero.

    A layer with the attribute `maps` M holds M maps of the same input in one weight, (M out, in). Each of them is drawn
    by its own fan_out. So in attention of width D, where M = 3, the bound of queries, keys and values is sqrt(6 / 2D).
    `torch.nn.MultiheadAttention` counts the outputs of all three: its bound is sqrt(6 / 4D).
    """
    for weight in layer.weight.chunk(getattr(layer, "maps", 1)):  # (out, in, ...) each
        nn.init.xavier_uniform_(weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


DRAWS: dict[str, Callable[[Any], None]] = {draw.__name__: draw for draw in (he_uniform, xavier_uniform)}


def _draw(module: nn.Module, reset: Callable[[Any], None]) -> None:
    # the draw goes into the weight that a parametrization computes, and then through the inverse into its parameters
    with parametrize.cached():
        reset(module)
        for name in getattr(module, "parametrizations", ()):
            setattr(module, name, getattr(module, name))


def _scale(norm: nn.Module, scale_init: str | float) -> None:
    weight = getattr(norm, "weight", None)
    if weight is None:
        remedy = "set norm.scale_init=ones, or norm.affine=true"
        raise Refusal("norm.scale_init", "the norm has no scale", "ones", remedy, value=scale_init)
    if scale_init == "uniform":
        nn.init.uniform_(weight)
    else:
        nn.init.constant_(weight, float(scale_init))
