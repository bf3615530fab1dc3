"""Fully connected hidden layers: each is a linear map, a slot for the norm, an activation and dropout."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from bn_experiments.norms.slot import Slot

ActivationName = Literal["relu", "sigmoid", "tanh", "gelu", "silu", "elu", "leaky_relu", "softplus"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
}
_GAMMA = 0x9E3779B97F4A7C15 - 2**64  # the odd constant nearest 2^64 / golden ratio, as a signed integer
_MIX = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


def hidden_layers(widths: Sequence[int], norm: Slot, activation: ActivationName, dropout: float) -> nn.Sequential:
    """Fully connected hidden layers with a norm slot each; they map (B, widths[0]) to (B, widths[-1])."""
    layers = nn.Sequential()
    for inputs, outputs in pairwise(widths):
        layer = norm.around(nn.Linear(inputs, outputs), named_activation(activation))
        if dropout > 0:
            layer.add_module("dropout", Dropout(dropout))
        layers.append(layer)
    return layers


def named_activation(name: ActivationName) -> nn.Module:
    """The activation with this name, with torch's default options.

    >>> named_activation("relu")
    ReLU()
    """
    return _ACTIVATIONS[name]()


class Dropout(nn.Module):
    r"""Zeroes each element with probability `p` in training mode and scales the rest by 1 / (1 - p).

    The mask depends on (seed, layer, step) alone.

    Element i of step t is kept if SplitMix64(SplitMix64(seed + t) + i) is at least p 2^64. There is no state of a
    generator. So a stack of replicas drops the units that each replica would drop alone, both arms of a comparison
    drop the same units, and a run that was interrupted continues with the same masks. The step is counted in training
    mode and saved with the network.

    Shapes: x (B, ...) to (B, ...).

    Args:
        p: The probability that an element is zeroed, in [0, 1).

    Source: Srivastava et al. 2014; SplitMix64: Steele et al. 2014, doi:10.1145/2660193.2660195, figure 18.
    """

    seed: Tensor
    step: Tensor

    def __init__(self, p: float):
        super().__init__()
        self.p = p
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the layer's seed from the global generator, and sets the step to 0."""
        self.seed.random_()
        self.step.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Drops elements of x (B, ...) in training mode; returns x as it is in evaluation mode."""
        if not self.training:
            return x
        self.step += 1
        element = torch.arange(x.numel(), device=x.device).view(x.shape)
        bits = _split_mix(_split_mix(self.seed + self.step) + element)
        kept = _shift_right(bits, 11) >= round(self.p * 2**53)
        return x * kept * (1 / (1 - self.p))

    def extra_repr(self) -> str:
        """The probability, as torch's dropout shows it."""
        return f"p={self.p}"


def _split_mix(z: Tensor) -> Tensor:
    """SplitMix64's output for the counters z (...), 64 bits that look random; int64 (...), which wraps around."""
    z = z * _GAMMA
    z = (z ^ _shift_right(z, 30)) * _MIX[0]
    z = (z ^ _shift_right(z, 27)) * _MIX[1]
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 z (...) to (...); torch's own shift would copy the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
