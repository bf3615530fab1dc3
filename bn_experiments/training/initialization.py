"""Initial weights: drawn for each layer by (seed, layer name), so that arms start alike."""

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.nn.utils import parametrize

from bn_experiments.norms.slot import norms_of
from bn_experiments.refusal import Refusal
from bn_experiments.seeds import derive

Init = Literal["torch", "he_uniform"]


def initialize(network: nn.Module, seed: int, init: Init, scale_init: str | float) -> None:
    """Draws every parameter of `network` anew.

    Each module's parameters come from a stream of their own, seeded by (seed, its name): networks that
    differ only in their norms start from the same weights.

    Args:
        network: Changed in place.
        seed: The replica's.
        init: torch calls each module's `reset_parameters`; he_uniform draws the weights of linear and
            convolutional layers from U(-b, b) with b = sqrt(6 / fan_in), and sets their biases to zero.
        scale_init: What the norms' scales start at: ones, uniform in (0, 1), or a number.

    Raises:
        ValueError: A scale is asked for, and the norm has none.

    Source: He et al. 2015, arXiv:1502.01852, equation 10.
    """
    # reset_parameters takes no generator, so the global one is seeded, and given back as it was
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for name, module in network.named_modules():
            torch.manual_seed(derive(seed, name))
            if init == "he_uniform" and isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                _draw(module, he_uniform)
            elif hasattr(module, "reset_parameters"):
                _draw(module, lambda module: module.reset_parameters())
        for name, norm in norms_of(network).items():
            torch.manual_seed(derive(seed, name, "scale"))
            if scale_init != "ones":
                _scale(norm, scale_init)


def he_uniform(layer: nn.Linear | nn.Conv1d | nn.Conv2d) -> None:
    """Draws a layer's weight from U(-sqrt(6 / fan_in), sqrt(6 / fan_in)), and sets its bias to zero."""
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _draw(module: nn.Module, reset: Callable[[Any], None]) -> None:
    if not parametrize.is_parametrized(module):
        return reset(module)
    # the draw lands in the weight that the parametrization computes, then goes back through its inverse
    with parametrize.cached():
        reset(module)
        for name in cast(nn.ModuleDict, module.parametrizations):
            setattr(module, name, getattr(module, name))
    return None


def _scale(norm: nn.Module, scale_init: str | float) -> None:
    weight = getattr(norm, "weight", None)
    if weight is None:
        raise Refusal(
            "norm.scale_init",
            "the norm has no scale",
            "ones",
            "set norm.scale_init=ones, or norm.affine=true",
            value=scale_init,
        )
    if scale_init == "uniform":
        nn.init.uniform_(weight)
    else:
        nn.init.constant_(weight, float(scale_init))
