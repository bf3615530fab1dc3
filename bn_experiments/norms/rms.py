"""Root mean square normalization with the features on the second axis; torch's own has them on the last axis."""

from typing import Literal

import torch
from torch import Tensor, nn

from bn_experiments.norms.batch import wide

Over = Literal["example", "position"]


class RMSNorm(nn.Module):
    r"""Divides each example, or each of its positions, by its root mean square over all features.

    y = gamma_F x / sqrt(mean(x^2) + eps), where the mean goes over the features, and with `over=example` over the
    positions too. On (B, F) it equals `torch.nn.RMSNorm(F)`.

    Shapes: x (B, F, ...) to (B, F, ...).

    Args:
        num_features: The number F of features.
        over: What is normalized as a whole: an example, or each position of it.
        eps: The number that is added to the mean square.
        affine: Whether there is a scale gamma (F,), which starts at one.

    Source: Zhang & Sennrich 2019, arXiv:1910.07467, equation 4.

    >>> RMSNorm(2, over="example", eps=0.0, affine=False)(torch.tensor([[3.0, 4.0]])).square().mean()
    tensor(1.)
    """

    def __init__(self, num_features: int, *, over: Over, eps: float, affine: bool):
        super().__init__()
        self.over = over
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None

    def reset_parameters(self) -> None:
        """Sets the scale to one."""
        if self.weight is not None:
            nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes x (B, F, ...) to (B, F, ...)."""
        axes = range(1, x.dim() if self.over == "example" else 2)
        mean_square = x.square().mean(tuple(axes), keepdim=True)  # (B, 1, ...)
        x = x * torch.rsqrt(mean_square + self.eps)
        return x if self.weight is None else x * wide(self.weight, x)

    def extra_repr(self) -> str:
        """The options."""
        return f"over={self.over}, eps={self.eps}"
