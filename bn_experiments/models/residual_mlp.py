"""The fully connected residual network."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bn_experiments.models.hidden import ActivationName, Dropout, named_activation
from bn_experiments.norms.slot import Slot


class Link(nn.Module):
    """One residual link: h + W f(norm(h)) (branch), or h' + W f(h') with h' = norm(h) (trunk).

    With `norm.placement=post` the branch is h + W norm(f(h)). No linear layer stands directly before the norm, so
    `norm.bias=auto` removes no bias.

    Shapes: h (B, F) to (B, F).
    """

    def __init__(self, width: int, norm: Slot, activation: nn.Module, dropout: float, norm_position: str):
        super().__init__()
        self.norm_position = norm_position
        self.placement = norm.placement
        self.activation = activation
        self.layer = nn.Linear(width, width)
        made = norm.fill(self.layer)
        self.norm = nn.Identity() if made is None else made
        self.dropout = Dropout(dropout) if dropout > 0 else nn.Identity()

    def forward(self, h: Tensor) -> Tensor:
        """Maps h (B, F) to (B, F)."""
        if self.norm_position == "trunk":
            h = self.norm(h)
            branch = self.activation(h)
        elif self.placement == "pre":
            branch = self.activation(self.norm(h))
        else:
            branch = self.norm(self.activation(h))
        return h + self.layer(self.dropout(branch))


class ResidualMLP(nn.Module):
    """A linear map to the trunk, then residual links, then a linear map to the classes.

    Shapes: x (B, ...) of `input_shape` to logits (B, C).

    Args:
        input_shape: The shape of one example, which the network flattens.
        num_classes: The number C of classes.
        norm: The slot in each link.
        links: The number of residual links.
        width: The width F of the trunk.
        activation: The name of the activation.
        dropout: The probability that a unit is zeroed, before the linear map of each link.
        norm_position: The place of the norm, branch or trunk (see `Link`).

    Source: Prince 2023, Understanding Deep Learning, section 11.2 and figure 11.6; branch: He et al. 2016,
    arXiv:1603.05027, figure 1b.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        norm: Slot,
        *,
        links: PositiveInt,
        width: PositiveInt,
        activation: ActivationName,
        dropout: Annotated[float, Field(ge=0, lt=1)],
        norm_position: Literal["branch", "trunk"],
    ):
        super().__init__()
        self.input = nn.Linear(math.prod(input_shape), width)
        self.links = nn.Sequential(
            *(Link(width, norm, named_activation(activation), dropout, norm_position) for _ in range(links))
        )
        self.output = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, ...) to logits (B, C)."""
        return self.output(self.links(self.input(x.flatten(1))))
