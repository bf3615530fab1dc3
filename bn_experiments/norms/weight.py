"""Weight normalizations by output unit: parametrizations of a layer's weight that work under torch.vmap."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bn_experiments.refusal import Refusal


class WeightNorm(nn.Module):
    """The weight w = g v / ||v||, with a length g and a direction v for each output unit.

    Shapes: g (out, 1, ...), v and w (out, in, ...); ||v|| is the 2-norm over all axes except the first.

    Source: Salimans & Kingma 2016, arXiv:1602.07868, equation 2.
    """

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """The weight w (out, in, ...) from g (out, 1, ...) and v (out, in, ...)."""
        return g * v / _lengths(v)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The length g = ||w|| (out, 1, ...) and the direction v = w (out, in, ...), which give `weight`."""
        return _lengths(weight), weight


class WeightStandardization(nn.Module):
    """The weight w = (v - mean) / sqrt(var + eps), with mean and biased variance of each output unit.

    Shapes: v and w (out, in, ...); mean and var go over all axes except the first.

    Args:
        eps: The number that is added to the variance.

    Source: Qiao et al. 2019, arXiv:1903.10520.
    """

    def __init__(self, eps: float):
        super().__init__()
        self.eps = eps

    def forward(self, v: Tensor) -> Tensor:
        """The weight w (out, in, ...) from v (out, in, ...)."""
        rows = v.flatten(1)
        mean, var = rows.mean(1, keepdim=True), rows.var(1, unbiased=False, keepdim=True)  # (out, 1)
        return ((rows - mean) * torch.rsqrt(var + self.eps)).view_as(v)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The weight itself becomes v: its mean and its scale are lost."""
        return weight


class ScaledWeightStandardization(WeightStandardization):
    """The weight w = g gamma (v - mean) / sqrt(n (var + eps)), with n inputs and a learned gain g of each output unit.

    Shapes: v and w (out, in, ...), g (out,), which starts at one; n = in times the size of the kernel.

    Args:
        gamma: The gain gamma, which makes up for the activation that follows.
        eps: The number that is added to the variance.

    Source: Brock et al. 2021, arXiv:2101.08692 (scaled weight standardization).
    """

    def __init__(self, gamma: float, eps: float):
        super().__init__(eps)
        self.gamma = gamma

    def forward(self, v: Tensor, g: Tensor) -> Tensor:  # type: ignore[override]
        """The weight w (out, in, ...) from v (out, in, ...) and g (out,)."""
        scale = g * (self.gamma * v[0].numel() ** -0.5)
        return super().forward(v) * scale.view(-1, *(1,) * (v.dim() - 1))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """The weight itself becomes v, and the gains one."""
        return weight, torch.ones_like(weight.flatten(1)[:, 0])


def weight_norm(module: nn.Module) -> None:
    """Splits the weight (out, in, ...) of a layer into length and direction, in place (see `WeightNorm`)."""
    parametrize.register_parametrization(module, "weight", WeightNorm())


def weight_standardization(module: nn.Module, *, eps: float) -> None:
    """Standardizes the weight (out, in, ...) of a layer, in place (see `WeightStandardization`)."""
    _refuse_one_input(module)
    parametrize.register_parametrization(module, "weight", WeightStandardization(eps))


def scaled_weight_standardization(module: nn.Module, *, gamma: Annotated[float, Field(gt=0)], eps: float) -> None:
    """Standardizes the weight (out, in, ...) of a layer, in place (see `ScaledWeightStandardization`)."""
    _refuse_one_input(module)
    parametrize.register_parametrization(module, "weight", ScaledWeightStandardization(gamma, eps))


def _refuse_one_input(module: nn.Module) -> None:
    if module.weight[0].numel() == 1:  # type: ignore[index]
        got = f"{type(module).__name__} has one weight for each unit, which has no variance"
        allowed, remedy = "layers with two or more inputs", "set norm.layers, or use larger inputs"
        raise Refusal("norm", got, allowed, remedy, no_place=True)


def _lengths(weight: Tensor) -> Tensor:
    return weight.flatten(1).norm(dim=1).view(-1, *(1,) * (weight.dim() - 1))
