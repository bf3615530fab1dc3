"""Recurrent networks: the terms of a step with their norms, and an example read in time steps."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bn_experiments.models.shapes import position_axes
from bn_experiments.norms.per_step import PerStep
from bn_experiments.norms.slot import Slot
from bn_experiments.refusal import Refusal
from bn_experiments.seeds import generator

Reading = Literal["rows", "pixels", "permuted"]
Norms = Literal["terms", "sum"]


class InputLayer(nn.Linear):
    """The linear map W_x v + b. Weight and bias start as in `torch.nn.LSTM` and `torch.nn.RNN`.

    They are drawn from U(-1/sqrt(H), 1/sqrt(H)); `nn.Linear` would take the bound from its number of inputs, which is
    H in the hidden term alone.

    Shapes: v (B, F) to (B, G H).

    Args:
        features: The number F of features of a time step.
        width: The width H of the state.
        gates: The number G of gates.
    """

    def __init__(self, features: int, width: int, gates: int):
        self.bound = 1 / math.sqrt(width)  # which `reset_parameters`, called by nn.Linear, needs
        super().__init__(features, gates * width)

    def reset_parameters(self) -> None:
        """Draws the weight (G H, F), then the bias (G H,)."""
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -self.bound, self.bound)

    def forward(self, v: Tensor, has_bias: bool = True) -> Tensor:
        """Maps v (B, F) to W_x v + b, or to W_x v alone where the bias comes behind a norm, (B, G H)."""
        return F.linear(v, self.weight, self.bias if has_bias else None)


class Term(nn.Module):
    """One term of a step: N(W v) + b with a norm N, or W v + b without one.

    Shapes: v (B, F) to (B, G H).

    Args:
        layer: The linear map W, with the bias b if it has one.
        norm: The norm N. None: no norm.
    """

    def __init__(self, layer: nn.Linear, norm: PerStep | None):
        super().__init__()
        self.layer = layer
        self.norm = norm

    def forward(self, v: Tensor, step: int) -> Tensor:
        """The term (B, G H) of v (B, F) at the time step `step`."""
        if self.norm is None:
            return self.layer(v)
        if self.layer.bias is None:
            return self.norm(self.layer(v), step)
        return self.norm(self.layer(v, has_bias=False), step) + self.layer.bias


def terms(
    input_layer: nn.Linear, hidden_layer: nn.Linear, norm: Slot, norms: Norms, steps: int, model: str
) -> tuple[Term, Term, PerStep | None]:
    """The input term and the hidden term of a step, and the norm of their sum, where it is the sum that has one.

    The input layer loses its bias where `norm.bias=auto` and its norm, or that of the sum, has a shift.

    Args:
        input_layer: The linear map of a time step.
        hidden_layer: The linear map of the state, to as many features.
        norm: The slot.
        norms: What has a norm: each of the two terms, or their sum. A norm of the weights is on both maps in any case.
        steps: The number T of time steps.
        model: The option of the model, for the refusal.

    Raises:
        Refusal: The norm is placed after the activation, or cannot be made (see `Slot.make`).
    """
    made = [norm.fill(layer) for layer in (input_layer, hidden_layer)]
    if made[0] is not None and norm.placement != "pre":
        got = f"model={model} has its norms before the activations"
        raise Refusal("norm.placement", got, "pre", "set norm.placement=pre", value=norm.placement)
    first, second = (None if one is None else PerStep(one, steps) for one in made)
    if first is not None and norm.bias == "auto" and first.bias is not None:
        input_layer.register_parameter("bias", None)
    if norms == "sum":
        return Term(input_layer, None), Term(hidden_layer, None), first
    return Term(input_layer, first), Term(hidden_layer, second), None


def steps_and_features(input_shape: Sequence[int], reading: Reading, model: str) -> tuple[int, int]:
    """The number T of time steps of an example, and the number F of features of each.

    Args:
        input_shape: The shape of one example, (C, L) or (C, H, W).
        reading: The time steps of an image: rows, H steps of C W features, or pixels or permuted, H W steps of C
            features.
        model: The option of the model, for the refusal.

    Raises:
        Refusal: The example is neither a signal nor an image.

    >>> steps_and_features((3, 32, 24), "rows", "lstm")
    (32, 72)
    """
    channels, sizes = input_shape[0], position_axes(input_shape, model)
    rows = reading == "rows" and len(sizes) == 2
    return (sizes[0], channels * sizes[1]) if rows else (math.prod(sizes), channels)


def time_steps(x: Tensor, reading: Reading) -> Sequence[Tensor]:
    """The T time steps (B, F) of x (B, C, L) or (B, C, H, W).

    Permuted: the positions in an order that is drawn once, the same for every example, replica and arm.
    """
    rows = reading == "rows" and x.dim() == 4
    steps = x.movedim(2, 0).flatten(2) if rows else x.flatten(2).movedim(2, 0)  # (T, B, F)
    if reading != "permuted":
        return steps.unbind()
    order = torch.randperm(len(steps), generator=generator(0, "order of positions")).tolist()
    in_order = steps.unbind()
    return [in_order[t] for t in order]
