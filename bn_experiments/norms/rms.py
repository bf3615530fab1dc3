"""Root mean square normalization with the features on the second axis; torch's own has them on the last axis."""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    r"""Divides each example by its root mean square over all features and positions.

    y = gamma_F x / sqrt(mean(x^2) + eps), where the mean goes over all axes except B. On (B, F) it equals
    `torch.nn.RMSNorm(F)`.

    Shapes: x (B, F, ...) to (B, F, ...).

    Args:
        num_features: The number F of features.
        eps: The number that is added to the mean square.
        affine: Whether there is a scale gamma (F,), which starts at one.

    Source: Zhang & Sennrich 2019, arXiv:1910.07467, equation 4.

    >>> RMSNorm(2, eps=0.0, affine=False)(torch.tensor([[3.0, 4.0]])).square().mean()
    tensor(1.)
    """

    def __init__(self, num_features: int, *, eps: float, affine: bool):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None

    def reset_parameters(self) -> None:
        """Sets the scale to one."""
        if self.weight is not None:
            nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes x (B, F, ...) to (B, F, ...)."""
        mean_square = x.square().mean(dim=tuple(range(1, x.dim())), keepdim=True)  # (B, 1, ...)
        x = x * torch.rsqrt(mean_square + self.eps)
        if self.weight is None:
            return x
        return x * self.weight.view(-1, *(1,) * (x.dim() - 2))
