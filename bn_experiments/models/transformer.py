"""The transformer encoder on patches, for signals and for images."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bn_experiments.models.branch import ScaleStart, Scaling, scale_of
from bn_experiments.models.hidden import ActivationName, Dropout
from bn_experiments.models.shapes import position_axes, shown_shape
from bn_experiments.models.tokens import Attention, Network, TokenLinear, Tokens, patches
from bn_experiments.norms.slot import Slot
from bn_experiments.refusal import Refusal


class Residual(nn.Module):
    """A branch b with its norm N: h + b(N(h)) (pre), or N(h + b(h)) (post).

    Shapes: h (B, D, T) to (B, D, T). The norm is given (B, D, T).

    Args:
        branch: The branch.
        norm: The norm. None: no norm.
        norm_position: The place of the norm, pre or post.
        dropout: The probability that a unit of the branch is zeroed.
        scale: What scales the branch.

    Source: Xiong et al. 2020, arXiv:2002.04745, table 1.
    """

    def __init__(self, branch: nn.Module, norm: nn.Module | None, norm_position: str, dropout: float, scale: nn.Module):
        super().__init__()
        self.norm = nn.Identity() if norm is None else norm
        self.branch = branch
        self.dropout = Dropout(dropout) if dropout > 0 else nn.Identity()
        self.scale = scale
        self.norm_position = norm_position

    def forward(self, h: Tensor) -> Tensor:
        """Maps h (B, D, T) to (B, D, T)."""
        read = self.norm(h) if self.norm_position == "pre" else h
        h = h + self.scale(self.dropout(self.branch(read)))
        return h if self.norm_position == "pre" else self.norm(h)


class Transformer(nn.Module):
    """Patches as tokens, a linear map of each, blocks of attention and a two-layer network, then a map to the classes.

    Both parts of a block are residual, with a norm each; with norms at the inputs of branches (pre) one more norm
    follows the last block. Tokens are (B, D, T), and so is what a norm is given: a norm that takes its statistics over
    all features and positions of an example, as `norm=ln` does, is not the norm of each token that the sources have.

    Shapes: x (B, C_in, L) or (B, C_in, H, W) to logits (B, C).

    Args:
        input_shape: The shape of one example, (C_in, L) or (C_in, H, W).
        num_classes: The number C of classes.
        norm: The slot of each residual branch.
        patch_size: The number of positions of a patch, on each axis.
        width: The number D of features of a token.
        depth: The number of blocks.
        heads: The number of heads of an attention, a divisor of D.
        hidden: The width of the hidden layer of each two-layer network.
        norm_position: The place of the norms: pre, at the input of each branch, or post, after each addition.
        pooling: What the classes are read from: mean, the mean over tokens, or class_token, a learned token of its own.
        activation: The name of the activation.
        dropout: The probability that a unit is zeroed, at the end of each branch.
        branch_scale: What scales each branch at its end (see `branch.scale_of`).
        branch_scale_start: What the scales of skipinit and layer_scale start at.

    Raises:
        Refusal: The input has no positions or is not made of whole patches, D has no such number of heads, or the norm
            is to be placed after activations.

    Source: Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.1; Xiong et al. 2020, arXiv:2002.04745 (pre and post).
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        norm: Slot,
        *,
        patch_size: PositiveInt,
        width: PositiveInt,
        depth: PositiveInt,
        heads: PositiveInt,
        hidden: PositiveInt,
        norm_position: Literal["pre", "post"],
        pooling: Literal["mean", "class_token"],
        activation: ActivationName,
        dropout: Annotated[float, Field(ge=0, lt=1)],
        branch_scale: Scaling,
        branch_scale_start: ScaleStart,
    ):
        super().__init__()
        axes = _patches_on_axes(input_shape, patch_size)
        _refuse_what_does_not_fit(norm, width, heads)
        self.patch_size, self.pooling = patch_size, pooling
        self.embedding = TokenLinear(input_shape[0] * patch_size ** len(axes), width)
        self.tokens = Tokens(width, math.prod(axes), pooling == "class_token")
        last = norm.fill(self.embedding)  # a norm of D features, which stands after the last block
        self.blocks = nn.Sequential()
        for _ in range(depth):
            block = nn.Sequential()
            branches: dict[str, Attention | Network] = {"attention": Attention(width, heads)}
            branches["network"] = Network(width, hidden, activation)
            for name, branch in branches.items():
                scale = scale_of(branch_scale, branch_scale_start, width, 2 * depth)
                block.add_module(name, Residual(branch, norm.fill(branch.outputs), norm_position, dropout, scale))
                norm.fill(branch.inputs)  # for a parametrization; a norm of its features has no place
            self.blocks.append(block)
        self.norm = nn.Identity() if last is None or norm_position == "post" else last
        self.output = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, C_in, L) or (B, C_in, H, W) to logits (B, C)."""
        h = self.tokens(self.embedding(patches(x, self.patch_size)))
        h = self.norm(self.blocks(h))
        return self.output(h.mean(2) if self.pooling == "mean" else h[:, :, 0])


def _patches_on_axes(input_shape: Sequence[int], patch_size: int) -> list[int]:
    axes = position_axes(input_shape, "transformer")
    if any(size % patch_size for size in axes):
        divisors = [str(p) for p in range(1, min(axes) + 1) if not any(size % p for size in axes)]
        got = f"does not divide examples of shape {shown_shape(input_shape)}"
        raise Refusal("model.patch_size", got, ", ".join(divisors), "choose one", value=patch_size)
    return [size // patch_size for size in axes]


def _refuse_what_does_not_fit(norm: Slot, width: int, heads: int) -> None:
    if width % heads:
        got, allowed = f"does not divide the width {width}", "a divisor of model.width"
        raise Refusal("model.heads", got, allowed, "change it, or model.width", value=heads)
    if norm.target and norm.placement != "pre":
        got = "model=transformer has its norms at its branches, not at activations"
        raise Refusal("norm.placement", got, "pre", "set model.norm_position", value=norm.placement)
