"""Activations, each by the name that stands in a config."""

from typing import Literal

from torch import nn

ActivationName = Literal["relu", "sigmoid", "tanh", "gelu", "silu", "elu", "leaky_relu", "softplus"]

_CLASSES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
}


def named_activation(name: ActivationName) -> nn.Module:
    """The activation with this name, with torch's default options.

    >>> named_activation("relu")
    ReLU()
    """
    return _CLASSES[name]()
