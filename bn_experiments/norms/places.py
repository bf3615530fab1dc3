"""Places: what stands where the norm of an existing network was, beside or instead of the norm of an arm."""

import torch
from torch import Tensor, nn


class Shift(nn.Module):
    """Adds a number to each channel: x + beta_C. It stands where a norm with a shift was removed.

    Shapes: x (B, C, ...) to (B, C, ...).

    Args:
        width: The number C of channels; the shift starts at zero.
    """

    def __init__(self, width: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def reset_parameters(self) -> None:
        """Sets the shift to zero."""
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the shift to x (B, C, ...)."""
        return x + self.bias.view(-1, *(1,) * (x.dim() - 2))


class Copy(nn.Module):
    """A copy of x, as a norm makes a new tensor, so that what is changed in place after it changes nothing before."""

    def forward(self, x: Tensor) -> Tensor:
        """A copy of x (B, C, ...)."""
        return x.clone()


class Place(nn.Module):
    """The place of a norm that had more to do than to normalize, or channels on the last axis.

    Shapes: x (B, C, ...), or (B, ..., C) where the channels are last, to the same shape.

    Args:
        norm: The norm, which sees (B, C, ...).
        channels_last: Whether the channels of x are on the last axis.
        drop: What follows the norm in a layer that is norm, dropout and activation in one.
        act: The activation of such a layer.
    """

    def __init__(self, norm: nn.Module, channels_last: bool, drop: nn.Module, act: nn.Module):
        super().__init__()
        self.norm, self.channels_last, self.drop, self.act = norm, channels_last, drop, act

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes x, and applies what was part of the removed norm."""
        x = self.norm(x.movedim(-1, 1)).movedim(1, -1) if self.channels_last else self.norm(x)
        return self.act(self.drop(x))
