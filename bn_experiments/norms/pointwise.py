"""Element-wise stand-ins for a norm: a bounded function of each number, with a learned slope and no statistics."""

import torch
from torch import Tensor, nn

from bn_experiments.norms.batch import wide


class DynamicTanh(nn.Module):
    """The function y = gamma_F tanh(alpha x) + beta_F.

    Shapes: x (B, F, ...) to (B, F, ...).

    Args:
        num_features: The number F of features.
        alpha: The start value of the slope alpha (), which is learned.

    Source: Zhu et al. 2025, arXiv:2503.10622, section 4.

    >>> DynamicTanh(1, alpha=0.5)(torch.tensor([[0.0, 2000.0]]).T).flatten().tolist()
    [0.0, 1.0]
    """

    def __init__(self, num_features: int, *, alpha: float):
        super().__init__()
        self.alpha_init = alpha
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    def reset_parameters(self) -> None:
        """Sets the slope to its start value, the scale to one and the shift to zero."""
        nn.init.constant_(self.alpha, self.alpha_init)
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, F, ...) to (B, F, ...)."""
        return torch.tanh(self.alpha * x) * wide(self.weight, x) + wide(self.bias, x)


class DynamicErf(DynamicTanh):
    """The function y = gamma_F erf(alpha x + s) + beta_F.

    Shapes: x (B, F, ...) to (B, F, ...).

    Args:
        num_features: The number F of features.
        alpha: The start value of the slope alpha (), which is learned.
        shift: The start value of the shift s (), which is learned.

    Source: Chen et al. 2025, arXiv:2512.10938, equation 10.
    """

    def __init__(self, num_features: int, *, alpha: float, shift: float):
        super().__init__(num_features, alpha=alpha)
        self.shift_init = shift
        self.shift = nn.Parameter(torch.tensor(float(shift)))

    def reset_parameters(self) -> None:
        """Sets slope and shift to their start values, gamma to one and beta to zero."""
        super().reset_parameters()
        nn.init.constant_(self.shift, self.shift_init)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, F, ...) to (B, F, ...)."""
        return torch.erf(self.alpha * x + self.shift) * wide(self.weight, x) + wide(self.bias, x)
