"""The LSTM, with norms on its input term, its hidden term and its memory cell."""

import math
from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bn_experiments.norms.per_step import PerStep
from bn_experiments.norms.slot import Slot
from bn_experiments.refusal import Refusal


class InputLayer(nn.Linear):
    """The linear map W_x v + b. Weight and bias start as in `torch.nn.LSTM`, from U(-1/sqrt(H), 1/sqrt(H)).

    `nn.Linear` would take the bound from its number of inputs, which is H in the hidden term alone.

    Shapes: v (B, F) to (B, 4 H).
    """

    def reset_parameters(self) -> None:
        """Draws the weight (4 H, F), then the bias (4 H,)."""
        bound = 1 / math.sqrt(self.out_features / 4)
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -bound, bound)


class Term(nn.Module):
    """One term of the gates: N(W v) + b with a norm N, or W v + b without one.

    Shapes: v (B, F) to (B, 4 H).

    Args:
        layer: The linear map W, with the bias b if it has one.
        norm: The norm N. None: no norm.
    """

    def __init__(self, layer: nn.Linear, norm: PerStep | None):
        super().__init__()
        self.layer = layer
        self.norm = norm

    def forward(self, v: Tensor, step: int) -> Tensor:
        """The term (B, 4 H) of v (B, F) at the time step `step`."""
        if self.norm is None:
            return self.layer(v)
        term = self.norm(F.linear(v, self.layer.weight), step)
        return term if self.layer.bias is None else term + self.layer.bias


class MemoryCell(nn.Module):
    """The state h = sigmoid(o) tanh(N(c)) with a norm N, or sigmoid(o) tanh(c) without one.

    Shapes: memory c (B, H) and output gate o (B, H) to h (B, H).

    Args:
        norm: The norm N. None: no norm.
    """

    def __init__(self, norm: PerStep | None):
        super().__init__()
        self.norm = norm
        self.activation = nn.Tanh()  # a module, so that probes find it in every arm

    def forward(self, c: Tensor, o: Tensor, step: int) -> Tensor:
        """The state h (B, H) of c (B, H) and o (B, H) at the time step `step`."""
        shown = c if self.norm is None else self.norm(c, step)
        return o.sigmoid() * self.activation(shown)


class LSTM(nn.Module):
    """An LSTM that reads an example in time steps, from h = c = 0, then a linear map of the last h to the classes.

    (i, f, g, o) = N(W_h h) + N(W_x x_t) + b, in torch's order; c = sigmoid(f) c + sigmoid(i) tanh(g);
    h = sigmoid(o) tanh(N(c)). Each of the three norms has separate statistics for each time step. Without norms the
    network is `torch.nn.LSTM` with one bias in place of two. The source holds the shifts of the first two norms at
    zero and keeps b; here `norm.bias=auto` keeps the shifts and removes b.

    Shapes: x (B, C, L), which is L time steps of C features, or x (B, C, H, W), to logits (B, classes).

    Args:
        input_shape: The shape of one example, (C, L) or (C, H, W).
        num_classes: The number of classes.
        norm: The slot on both linear maps and on the memory cell.
        hidden: The width of h and c.
        reading: The time steps of an image: rows, H steps of C W features, or pixels, H W steps of C features.

    Raises:
        Refusal: The input has no positions, or the norm is placed after the activation.

    Source: Cooijmans et al. 2016, arXiv:1603.09025, equations 6 to 8.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        norm: Slot,
        *,
        hidden: PositiveInt,
        reading: Literal["rows", "pixels"],
    ):
        super().__init__()
        self.width = hidden
        self.rows = reading == "rows" and len(input_shape) == 3
        steps, features = _steps_and_features(input_shape, self.rows)
        input_layer, hidden_layer = InputLayer(features, 4 * hidden), nn.Linear(hidden, 4 * hidden, bias=False)
        norms: list[PerStep] | list[None] = [None] * 3
        input_norm, hidden_norm = norm.fill(input_layer), norm.fill(hidden_layer)
        if input_norm is not None and hidden_norm is not None:
            if norm.placement != "pre":
                got = "model=lstm has its norms before the activations"
                raise Refusal("norm.placement", got, "pre", "set norm.placement=pre", value=norm.placement)
            norms = [PerStep(made, steps) for made in (input_norm, hidden_norm, norm.make(hidden, dim=1))]
            if norm.bias == "auto" and norms[0].bias is not None:
                input_layer.register_parameter("bias", None)
        self.input = Term(input_layer, norms[0])
        self.hidden = Term(hidden_layer, norms[1])
        self.cell = MemoryCell(norms[2])
        self.output = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, C, L) or (B, C, H, W) to logits (B, classes)."""
        steps = x.movedim(2, 0).flatten(2) if self.rows else x.flatten(2).movedim(2, 0)  # (T, B, F)
        h = c = x.new_zeros(len(x), self.width)
        with parametrize.cached():  # the weights stay the same over the time steps
            for t, x_t in enumerate(steps.unbind()):
                i, f, g, o = (self.hidden(h, t) + self.input(x_t, t)).chunk(4, dim=1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = self.cell(c, o, t)
        return self.output(h)


def _steps_and_features(input_shape: Sequence[int], rows: bool) -> tuple[int, int]:
    if len(input_shape) not in (2, 3):
        got = f"got examples of shape {'x'.join(map(str, input_shape))}"
        allowed = "channels x length or channels x height x width"
        raise Refusal("model=lstm", got, allowed, "choose model=mlp, or data with positions")
    channels, *sizes = input_shape
    return (sizes[0], channels * sizes[1]) if rows else (math.prod(sizes), channels)
