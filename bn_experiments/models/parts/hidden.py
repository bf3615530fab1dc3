"""Hidden layers: fully connected, each with a slot for the norm."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from bn_experiments.models.parts.activation import ActivationName, named_activation
from bn_experiments.models.parts.dropout import Dropout
from bn_experiments.norms.slot import Slot


def hidden_layers(widths: Sequence[int], norm: Slot, activation: ActivationName, dropout: float) -> nn.Sequential:
    """Fully connected hidden layers with a norm slot each; they map (B, widths[0]) to (B, widths[-1])."""
    layers = nn.Sequential()
    for inputs, outputs in pairwise(widths):
        layer = norm.around(nn.Linear(inputs, outputs), named_activation(activation))
        if dropout > 0:
            layer.add_module("dropout", Dropout(dropout))
        layers.append(layer)
    return layers
