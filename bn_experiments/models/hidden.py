"""Fully connected hidden layers: each is a linear map, a slot for the norm, an activation and dropout."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bn_experiments.counters import random_bits, shift_right
from bn_experiments.norms.slot import Slot
from bn_experiments.refusal import Refusal

ActivationName = Literal["relu", "sigmoid", "tanh", "gelu", "silu", "elu", "leaky_relu", "softplus", "identity"]
Probability = Annotated[float, Field(ge=0, lt=1)]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}


def hidden_layers(
    widths: Sequence[int],
    norm: Slot,
    activation: ActivationName,
    dropout: Probability | Sequence[Probability],
    bias: bool = True,
) -> nn.Sequential:
    """Fully connected hidden layers with a norm slot each; they map (B, widths[0]) to (B, widths[-1]).

    Where dropout is a number, it is that of every layer.
    """
    layers = nn.Sequential()
    each = [dropout] * (len(widths) - 1) if isinstance(dropout, int | float) else dropout
    for (inputs, outputs), p in zip(pairwise(widths), each, strict=True):
        layer = norm.around(nn.Linear(inputs, outputs, bias), named_activation(activation))
        if p > 0:
            layer.add_module("dropout", Dropout(p))
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

    With `axes` the elements that share their place on the first axes are zeroed together: 2 is a channel of an
    example, 1 an example, 0 the batch.

    The mask depends on (seed, layer, step) alone.

    Element i of step t is kept if SplitMix64(SplitMix64(seed + t) + i) is at least p 2^64. There is no state of a
    generator. So a stack of replicas drops the units that each replica would drop alone, both arms of a comparison
    drop the same units, and a run that was interrupted continues with the same masks. The step is counted in training
    mode and saved with the network.

    Shapes: x (B, ...) to (B, ...).

    Args:
        p: The probability that an element is zeroed, in [0, 1]; it may be changed during training.
        axes: The number of first axes that have a draw for each place; None: all axes.
        scales: Whether the rest is scaled.

    Source: Srivastava et al. 2014; SplitMix64: Steele et al. 2014, doi:10.1145/2660193.2660195, figure 18.
    """

    seed: Tensor
    step: Tensor

    def __init__(self, p: float, axes: int | None = None, scales: bool = True):
        super().__init__()
        self.p = p
        self.count(axes, scales)

    def count(self, axes: int | None, scales: bool) -> None:
        """Starts the counter; a dropout of another class has its probability already (see `existing.network`)."""
        self.axes, self.scales = axes, scales
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
        if torch._C._current_graph_task_id() >= 0:  # where the mask of the next step would be drawn
            got = "computes a dropout once more in the backward pass (torch.utils.checkpoint)"
            raise Refusal("model", got, "a network that does not", "switch it off")
        self.step += 1
        axes = x.dim() if self.axes is None else min(self.axes, x.dim() - 1)  # of (B, F), 2 means 1 as in torch
        shape = (*x.shape[:axes], *(1,) * (x.dim() - axes))
        bits = random_bits(self.seed, self.step, math.prod(shape)).view(shape)
        kept = shift_right(bits, 11) >= round(self.p * 2**53)
        return x * kept * (1 / (1 - self.p)) if self.scales and self.p < 1 else x * kept

    def extra_repr(self) -> str:
        """The probability, as torch's dropout shows it."""
        return f"p={self.p}"
