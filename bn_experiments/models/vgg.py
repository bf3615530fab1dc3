"""VGG, the plain deep convolutional network, for signals and for images."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bn_experiments.models.hidden import ActivationName, hidden_layers, named_activation
from bn_experiments.models.shapes import position_axes, shown_shape
from bn_experiments.norms.slot import Slot
from bn_experiments.refusal import Refusal

# the convolutions of each stage in configurations A, B, D and E: Simonyan & Zisserman 2014, arXiv:1409.1556, table 1
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
STAGES = 5


class VGG(nn.Module):
    """Five stages of convolutions of kernel size 3, each stage with a max pooling by 2 at its end, then linear maps.

    Each convolutional layer is a convolution, a norm slot and an activation. Without hidden layers a linear map reads
    the mean over positions; with them, they read all positions, as in the source.

    Shapes: x (B, C_in, L) or (B, C_in, H, W) to logits (B, C).

    Args:
        input_shape: The shape of one example, (C_in, L) or (C_in, H, W).
        num_classes: The number C of classes.
        norm: The slot in every convolutional and hidden layer.
        depth: The number of layers with weights in the source, where three are fully connected.
        channels: The number of channels of each stage.
        hidden: The width of each fully connected hidden layer.
        activation: The name of the activation.
        dropout: The probability that a unit is zeroed, after each fully connected hidden layer.

    Raises:
        Refusal: The input has no positions, or fewer than 32 on an axis.

    Source: Simonyan & Zisserman 2014, arXiv:1409.1556, table 1, configurations A, B, D and E.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        norm: Slot,
        *,
        depth: Literal[11, 13, 16, 19],
        channels: Annotated[list[PositiveInt], Field(min_length=STAGES, max_length=STAGES)],
        hidden: list[PositiveInt],
        activation: ActivationName,
        dropout: Annotated[float, Field(ge=0, lt=1)],
    ):
        super().__init__()
        axes = position_axes(input_shape, "vgg")
        if min(axes) < 2**STAGES:
            got = f"got examples of shape {shown_shape(input_shape)}, too small for {STAGES} poolings by 2"
            raise Refusal("model=vgg", got, f"at least {2**STAGES} positions an axis", "choose model=resnet")
        inputs = input_shape[0]
        self.features = nn.Sequential()
        for count, outputs in zip(CONVOLUTIONS[depth], channels, strict=True):
            for i in range(count):
                conv = getattr(nn, f"Conv{len(axes)}d")(inputs, outputs, 3, padding=1)
                layer = norm.around(conv, named_activation(activation))
                if i == count - 1:
                    layer.add_module("pool", getattr(nn, f"MaxPool{len(axes)}d")(2))
                self.features.append(layer)
                inputs = outputs
        self.pools = not hidden
        positions = 1 if self.pools else math.prod(size // 2**STAGES for size in axes)
        widths = [inputs * positions, *hidden]
        self.hidden = hidden_layers(widths, norm, activation, dropout)
        self.output = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, C_in, L) or (B, C_in, H, W) to logits (B, C)."""
        h = self.features(x).flatten(2)
        h = h.mean(2) if self.pools else h.flatten(1)
        return self.output(self.hidden(h))
