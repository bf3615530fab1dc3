"""The fully connected residual network."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bn_experiments.models.parts.activation import ActivationName, named_activation
from bn_experiments.models.parts.dropout import Dropout
from bn_experiments.norms.slot import Slot


class Link(nn.Module):
    """One residual link: h + W f(norm(h)) (branch), or h' + W f(h') with h' = norm(h) (trunk).

    With `norm.placement=post` the branch is h + W norm(f(h)). The norm reads the trunk, no layer of its
    own, so there is no bias to drop.

    Shapes: (B, F) to the same.
    """

    def __init__(self, width: int, norm: Slot, activation: nn.Module, dropout: float, norm_position: str):
        super().__init__()
        self.norm_position = norm_position
        self.placement = norm.placement
        self.activation = activation
        self.layer = nn.Linear(width, width)
        self.norm: nn.Module = nn.Identity()
        if norm.wants(self.layer) and norm.parametrizes:
            norm.parametrize(self.layer)
        elif norm.wants(self.layer):
            self.norm = norm.make(width, dim=1)
        self.dropout = Dropout(dropout) if dropout > 0 else nn.Identity()

    def forward(self, h: Tensor) -> Tensor:
        """(B, F) to the same."""
        if self.norm_position == "trunk":
            h = self.norm(h)
            branch = self.activation(h)
        elif self.placement == "pre":
            branch = self.activation(self.norm(h))
        else:
            branch = self.norm(self.activation(h))
        return h + self.layer(self.dropout(branch))


class ResidualMLP(nn.Module):
    """A linear map to the trunk, residual links, a linear map to the classes.

    Shapes: x (B, ...) of `input_shape` to logits (B, C).

    Args:
        input_shape: Of one example, flattened here.
        num_classes: C.
        norm: The slot, one a link.
        links: Number of residual links.
        width: Of the trunk.
        activation: Its name.
        dropout: Probability, before each link's linear map.
        norm_position: branch or trunk (see `Link`).

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
        """(B, ...) to logits (B, C)."""
        return self.output(self.links(self.input(x.flatten(1))))
