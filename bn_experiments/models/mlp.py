"""The fully connected network."""

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bn_experiments.models.hidden import ActivationName, Probability, hidden_layers
from bn_experiments.norms.slot import Slot
from bn_experiments.refusal import Refusal


class MLP(nn.Module):
    """Fully connected hidden layers, then a linear map to the classes.

    Each hidden layer is a linear map, a norm slot, an activation and dropout.

    Shapes: x (B, ...) of `input_shape` to logits (B, C).

    Args:
        input_shape: The shape of one example, which the network flattens.
        num_classes: The number C of classes.
        norm: The slot in each hidden layer.
        hidden: The width of each hidden layer, in each of the repetitions.
        repeat: The number of repetitions of `hidden`: the depth is `repeat` times the length of `hidden`.
        bias: Whether the linear maps, the last one too, have biases; the norm may remove some of them (`norm.bias`).
        activation: The name of the activation.
        dropout: The probability that a unit is zeroed, after each hidden layer; or one for each of them.

    Raises:
        Refusal: There are more or fewer probabilities than hidden layers.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        norm: Slot,
        *,
        hidden: Annotated[list[PositiveInt], Field(min_length=1)],
        activation: ActivationName,
        dropout: Probability | list[Probability],
        repeat: PositiveInt,
        bias: bool,
    ):
        super().__init__()
        depth = len(hidden) * repeat
        if isinstance(dropout, list) and len(dropout) != depth:
            got, allowed = f"{depth} hidden layers have a probability each", f"a number, or a list of {depth} of them"
            raise Refusal("model.dropout", got, allowed, "change it", value=dropout)
        widths = [math.prod(input_shape), *hidden * repeat]
        self.hidden = hidden_layers(widths, norm, activation, dropout, bias)
        self.output = nn.Linear(widths[-1], num_classes, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, ...) to logits (B, C)."""
        return self.output(self.hidden(x.flatten(1)))
