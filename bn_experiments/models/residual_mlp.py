"""The fully connected residual network."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bn_experiments.models.branch import Fixup, ScaleStart, Scaling, norm_after, scale_of, start_of
from bn_experiments.models.hidden import ActivationName, Dropout, named_activation
from bn_experiments.norms.slot import Slot
from bn_experiments.refusal import Refusal

NormPosition = Literal["branch", "last", "trunk"]


class Link(nn.Module):
    """One residual link: h + W f(norm(h)) (branch), h + norm(W f(h)) (last), or h' + W f(h') with h' = norm(h) (trunk).

    With an expected spread beta the branch reads h / beta in place of h.

    With `norm.placement=post` the first of them is h + W norm(f(h)). Only the norm that is last has the linear map
    directly before it, so only there does `norm.bias=auto` remove a bias. What scales the branch is applied to it
    directly before the addition.

    Shapes: h (B, F) to (B, F).

    Args:
        width: The number F of features.
        norm: The slot.
        activation: The activation f.
        dropout: The probability that a unit is zeroed, before the linear map.
        norm_position: The place of the norm.
        scale: What scales the branch.
        spread: beta.
    """

    def __init__(
        self,
        width: int,
        norm: Slot,
        activation: nn.Module,
        dropout: float,
        norm_position: str,
        scale: nn.Module,
        spread: float = 1.0,
    ):
        super().__init__()
        self.spread = spread
        self.norm_position = norm_position
        self.placement = norm.placement
        self.activation = activation
        self.layer = nn.Linear(width, width)
        made = norm_after(norm, self.layer) if norm_position == "last" else norm.fill(self.layer)
        self.norm = nn.Identity() if made is None else made
        self.dropout = Dropout(dropout) if dropout > 0 else nn.Identity()
        self.scale = scale

    def forward(self, h: Tensor) -> Tensor:
        """Maps h (B, F) to (B, F)."""
        if self.norm_position == "trunk":
            h = self.norm(h)
        read = h if self.spread == 1 else h / self.spread
        if self.norm_position != "branch":
            branch = self.activation(read)
        elif self.placement == "pre":
            branch = self.activation(self.norm(read))
        else:
            branch = self.norm(self.activation(read))
        branch = self.layer(self.dropout(branch))
        if self.norm_position == "last":
            branch = self.norm(branch)
        return h + self.scale(branch)


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
        norm_position: The place of the norm: branch, last or trunk (see `Link`).
        branch_scale: What scales each branch at its end (see `branch.scale_of`); fixup also starts the linear maps of
            the links and the last one at zero (see `branch.Fixup`), and nf divides what branch l = 0, 1, ... reads by
            sqrt(1 + l alpha^2), the spread that the trunk would have.
        branch_scale_start: What the scales of skipinit and layer_scale start at, and alpha of nf, which stays.

    Raises:
        Refusal: The last norm of a branch is to be placed after an activation.

    Source: Prince 2023, Understanding Deep Learning, section 11.2 and figure 11.6; branch: He et al. 2016,
    arXiv:1603.05027, figure 1b; nf: Brock et al. 2021, arXiv:2101.08692.
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
        norm_position: NormPosition,
        branch_scale: Scaling | Literal["fixup", "nf"],
        branch_scale_start: ScaleStart,
    ):
        super().__init__()
        if norm_position == "last" and norm.target and norm.placement != "pre":
            got = "model.norm_position=last has its norm after the linear map, where no activation follows"
            raise Refusal("norm.placement", got, "pre", "set norm.placement=pre", value=norm.placement)
        self.input = nn.Linear(math.prod(input_shape), width)
        scales = [scale_of(branch_scale, branch_scale_start, width, links) for _ in range(links)]
        alpha = start_of(branch_scale_start, links) if branch_scale == "nf" else 0.0
        made = [
            Link(width, norm, named_activation(activation), dropout, norm_position, scale, math.sqrt(1 + i * alpha**2))
            for i, scale in enumerate(scales)
        ]
        self.links = nn.Sequential(*made)
        self.output = nn.Linear(width, num_classes)
        if branch_scale == "fixup":
            self.start = Fixup([[link.layer] for link in made], self.output)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, ...) to logits (B, C)."""
        return self.output(self.links(self.input(x.flatten(1))))
