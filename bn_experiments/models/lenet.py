"""LeNet-5, for signals and for images."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from bn_experiments.models.hidden import ActivationName, hidden_layers, named_activation
from bn_experiments.models.shapes import position_axes, shown_shape
from bn_experiments.norms.slot import Slot
from bn_experiments.refusal import Refusal, shown

_POOL = {"max": "MaxPool", "average": "AvgPool"}


class LeNet(nn.Module):
    """Convolutional layers, then fully connected hidden layers, then a linear map to the classes.

    Each convolutional layer is a convolution, a norm slot, an activation and a pooling by 2.

    Shapes: x (B, C_in, L) or (B, C_in, H, W) to logits (B, C).

    Args:
        input_shape: The shape of one example, (C_in, L) or (C_in, H, W).
        num_classes: The number C of classes.
        norm: The slot in every convolutional and hidden layer.
        channels: The number of output channels of each convolution.
        kernel_size: The kernel size of every convolution.
        padding: The number of zeros on each side, of every convolution, or a list with one for each convolution.
        pooling: The kind of pooling, max or average.
        hidden: The width of each fully connected hidden layer.
        activation: The name of the activation.
        dropout: The probability that a unit is zeroed, after each fully connected hidden layer.

    Raises:
        Refusal: The input has no positions, or too few for the convolutions and poolings, or the list of paddings has
            another length than the list of channels.

    Source: LeCun et al. 1998, doi:10.1109/5.726791, section II.B.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        norm: Slot,
        *,
        channels: Annotated[list[PositiveInt], Field(min_length=1)],
        kernel_size: PositiveInt,
        padding: NonNegativeInt | Annotated[list[NonNegativeInt], Field(min_length=1)],
        pooling: Literal["max", "average"],
        hidden: Annotated[list[PositiveInt], Field(min_length=1)],
        activation: ActivationName,
        dropout: Annotated[float, Field(ge=0, lt=1)],
    ):
        super().__init__()
        paddings = _one_for_each(padding, len(channels))
        sizes = _sizes_after_pooling(input_shape, kernel_size, paddings, padding)
        dim = len(sizes)
        self.features = nn.Sequential()
        for inputs, outputs, zeros in zip([input_shape[0], *channels[:-1]], channels, paddings, strict=True):
            conv = getattr(nn, f"Conv{dim}d")(inputs, outputs, kernel_size, padding=zeros)
            layer = norm.around(conv, named_activation(activation))
            layer.add_module("pool", getattr(nn, f"{_POOL[pooling]}{dim}d")(2))
            self.features.append(layer)
        self.hidden = hidden_layers([channels[-1] * math.prod(sizes), *hidden], norm, activation, dropout)
        self.output = nn.Linear(hidden[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, C_in, L) or (B, C_in, H, W) to logits (B, C)."""
        return self.output(self.hidden(self.features(x).flatten(1)))


def _one_for_each(padding: int | list[int], convolutions: int) -> list[int]:
    paddings = padding if isinstance(padding, list) else [padding] * convolutions
    if len(paddings) != convolutions:
        got = f"has {len(paddings)} paddings for {convolutions} convolutions"
        remedy = "give one for each of model.channels"
        raise Refusal("model.padding", got, f"a number, or a list of {convolutions}", remedy, value=padding)
    return paddings


def _sizes_after_pooling(
    input_shape: Sequence[int], kernel_size: int, paddings: list[int], padding: int | list[int]
) -> list[int]:
    """The number of positions on each spatial axis after all convolutions and poolings by 2."""

    def left(size: int) -> int:
        for zeros in paddings:
            size = max(size + 2 * zeros - kernel_size + 1, 0) // 2
        return size

    sizes = [left(size) for size in position_axes(input_shape, "lenet")]
    if min(sizes) < 1:
        least = next(size for size in range(1, 2**31) if left(size) >= 1)
        got = f"got examples of shape {shown_shape(input_shape)}, too small for {len(paddings)} convolutions of "
        got += f"{kernel_size} with poolings"
        allowed = f"at least {least} positions an axis with model.padding={shown(padding)}"
        raise Refusal("model=lenet", got, allowed, "raise model.padding, or lower model.kernel_size")
    return sizes
