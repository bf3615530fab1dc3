"""The fully connected network."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bn_experiments.models.parts.activation import ActivationName, named_activation
from bn_experiments.models.parts.dropout import Dropout
from bn_experiments.norms.slot import Slot


class MLP(nn.Module):
    """Hidden layers of a linear map, a norm slot, an activation and dropout; then a linear map to the classes.

    Shapes: x (B, ...) of `input_shape` to logits (B, C).

    Args:
        input_shape: Of one example, flattened here.
        num_classes: C.
        norm: The slot.
        hidden: Width of each hidden layer.
        activation: Its name.
        dropout: Probability, after each hidden layer.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        norm: Slot,
        *,
        hidden: Annotated[list[PositiveInt], Field(min_length=1)],
        activation: ActivationName,
        dropout: Annotated[float, Field(ge=0, lt=1)],
    ):
        super().__init__()
        widths = [math.prod(input_shape), *hidden]
        self.hidden = hidden_layers(widths, norm, activation, dropout)
        self.output = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to logits (B, C)."""
        return self.output(self.hidden(x.flatten(1)))


def hidden_layers(widths: Sequence[int], norm: Slot, activation: ActivationName, dropout: float) -> nn.Sequential:
    """Fully connected hidden layers (B, widths[0]) to (B, widths[-1]), each with the slot around it."""
    layers = nn.Sequential()
    for inputs, outputs in pairwise(widths):
        layer = norm.around(nn.Linear(inputs, outputs), named_activation(activation))
        if dropout > 0:
            layer.add_module("dropout", Dropout(dropout))
        layers.append(layer)
    return layers
