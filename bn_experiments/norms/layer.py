"""Layer normalization with the features on the second axis; torch's own has them on the last axes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bn_experiments.norms.rms import Over


class LayerNorm(nn.Module):
    """Layer normalization, y = gamma_F (x - mean) / sqrt(var + eps) + beta_F, of each example or each of its positions.

    Mean and biased variance go over the features, and with `over=example` over the positions too, which is a group norm
    with one group. On (B, F) both equal `torch.nn.LayerNorm(F)`.

    Shapes: x (B, F, ...) to (B, F, ...).

    Args:
        num_features: The number F of features.
        over: What is normalized as a whole: an example, or each position of it.
        eps: The number that is added to the variance.
        affine: Whether there are a scale gamma and a shift beta (F,), which start at one and at zero.

    Source: Ba et al. 2016, arXiv:1607.06450, equation 3; over an example of a convolution: Wu & He 2018,
    arXiv:1803.08494, section 3.1; over a position: Liu et al. 2022, arXiv:2201.03545, section 2.6.
    """

    def __init__(self, num_features: int, *, over: Over, eps: float, affine: bool):
        super().__init__()
        self.over = over
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None

    def reset_parameters(self) -> None:
        """Sets the scale to one and the shift to zero."""
        if self.weight is not None and self.bias is not None:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes x (B, F, ...) to (B, F, ...)."""
        if self.over == "example":
            return F.group_norm(x, 1, self.weight, self.bias, self.eps)
        features_last = x.movedim(1, -1)  # (B, ..., F)
        return F.layer_norm(features_last, features_last.shape[-1:], self.weight, self.bias, self.eps).movedim(-1, 1)

    def extra_repr(self) -> str:
        """The options."""
        return f"over={self.over}, eps={self.eps}"
