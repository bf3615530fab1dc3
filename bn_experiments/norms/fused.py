"""Norms with an activation of their own, in whose place no other one stands (`activates`)."""

from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from bn_experiments.norms.batch import BatchNorm, Momentum, wide
from bn_experiments.refusal import Refusal


class FilterResponseNorm(nn.Module):
    """Filter response normalization with its thresholded linear unit, y = max(gamma_F x / rms + beta_F, tau_F).

    rms = sqrt(mean(x^2) + eps), where the mean goes over the positions of each feature of each example. At one position
    it would be |x|, and y a function of the sign of x.

    Shapes: x (B, F, L) or (B, F, H, W) to the same shape.

    Args:
        num_features: The number F of features.
        eps: The number that is added to the mean square.

    Raises:
        Refusal: There is one position.

    Source: Singh & Krishnan 2020, arXiv:1911.09737, section 3.
    """

    activates: ClassVar[bool] = True

    def __init__(self, num_features: int, *, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.threshold = nn.Parameter(torch.zeros(num_features))

    def reset_parameters(self) -> None:
        """Sets the scale to one, the shift and the threshold to zero."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        nn.init.zeros_(self.threshold)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, F, ...) to (B, F, ...)."""
        refuse_one_position(x, "a sign")
        mean_square = x.square().mean(tuple(range(2, x.dim())), keepdim=True)  # (B, F, 1, ...)
        y = x * torch.rsqrt(mean_square + self.eps) * wide(self.weight, x) + wide(self.bias, x)
        return torch.maximum(y, wide(self.threshold, x))


class EvoNormS0(nn.Module):
    """EvoNorm-S0, y = gamma_F x sigmoid(v_F x) / sd + beta_F.

    sd = sqrt(var + eps), where the biased variance is that of all positions and features of a group of features of an
    example, as in group normalization.

    Shapes: x (B, F), (B, F, L) or (B, F, H, W) to the same shape.

    Args:
        num_features: The number F of features.
        num_groups: The number of groups, which divides F.
        eps: The number that is added to the variance.

    Raises:
        Refusal: A group has one value.

    Source: Liu et al. 2020, arXiv:2004.02967.
    """

    activates: ClassVar[bool] = True

    def __init__(self, num_features: int, *, num_groups: PositiveInt, eps: float):
        super().__init__()
        self.num_groups = num_groups
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.v = nn.Parameter(torch.ones(num_features))

    def reset_parameters(self) -> None:
        """Sets the scale and v to one, the shift to zero."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        nn.init.ones_(self.v)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, F, ...) to (B, F, ...)."""
        groups = x.unflatten(1, (self.num_groups, -1))  # (B, G, F / G, ...)
        if groups[0, 0].numel() == 1:
            got, allowed = "leaves one value in a group, which has no variance", f"1 to {x.shape[1] // 2}"
            raise Refusal("norm.num_groups", got, allowed, "lower it", value=self.num_groups)
        var = groups.var(tuple(range(2, groups.dim())), unbiased=False, keepdim=True)
        y = (groups * torch.rsqrt(var + self.eps)).flatten(1, 2)  # (B, F, ...)
        return y * torch.sigmoid(wide(self.v, x) * x) * wide(self.weight, x) + wide(self.bias, x)


class EvoNormB0(BatchNorm):
    """EvoNorm-B0, y = gamma_F x / max(sd_F, v_F x + sd_BF) + beta_F.

    sd_F = sqrt(var + eps) with the biased variance of a feature over the batch and its positions, or the running one in
    evaluation mode; sd_BF with that over the positions of one example, in both modes.

    Shapes: x (B, F, L) or (B, F, H, W) to the same shape.

    Args:
        num_features: The number F of features.
        eps: The number that is added to both variances.
        momentum: The weight of the newest batch in the running variance; None: its cumulative mean.

    Raises:
        Refusal: There is one position.

    Source: Liu et al. 2020, arXiv:2004.02967.
    """

    activates: ClassVar[bool] = True
    kept: ClassVar[dict[str, float]] = {"var": 1.0}

    def __init__(self, num_features: int, *, eps: float, momentum: Momentum):
        super().__init__(num_features, eps=eps, momentum=momentum, affine=True)
        self.v = nn.Parameter(torch.ones(num_features))

    def reset_parameters(self) -> None:
        """Sets the scale and v to one, the shift to zero, and the running variance to one."""
        super().reset_parameters()
        nn.init.ones_(self.v)

    def measured(self, x: Tensor) -> dict[str, Tensor]:
        """The biased variance (F,) over the batch and its positions."""
        return {"var": super().measured(x)["var"]}

    def normalized(self, x: Tensor, var: Tensor) -> Tensor:  # type: ignore[override]
        """The input x (B, F, ...) divided by the larger of the two denominators."""
        refuse_one_position(x, "no variance")
        own = x.var(tuple(range(2, x.dim())), unbiased=False, keepdim=True)  # (B, F, 1, ...)
        batch = wide(torch.sqrt(var + self.eps), x)
        return x / torch.maximum(batch, wide(self.v, x) * x + torch.sqrt(own + self.eps))


def refuse_one_position(x: Tensor, has: str) -> None:
    """Raises a refusal where each feature of an example x (B, F, ...) has one position, and so only what `has` says."""
    if x.shape[2:].numel() == 1:
        got = f"gets one position of each feature, which has {has}"
        allowed, remedy = "convolutions with several positions", "set norm.layers=conv, or use larger inputs"
        raise Refusal("norm", got, allowed, remedy, no_place=True)
