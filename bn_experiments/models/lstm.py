"""The LSTM, with norms on its input term, its hidden term and its memory cell."""

from collections.abc import Sequence

from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bn_experiments.models.recurrent import InputLayer, Norms, Reading, steps_and_features, terms, time_steps
from bn_experiments.norms.per_step import PerStep
from bn_experiments.norms.slot import Slot


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
        norm: The slot on both linear maps, or on their sum, and on the memory cell.
        hidden: The width of h and c.
        reading: The time steps of an image: rows, H steps of C W features, or pixels, H W steps of C features; in
            `permuted` these, or the positions of a signal, come in an order that is drawn once, the same for every arm.
        norms: Where the slot is, beside that of the memory cell: on each of the two terms, or on their sum.

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
        reading: Reading,
        norms: Norms,
    ):
        super().__init__()
        self.width, self.reading = hidden, reading
        steps, features = steps_and_features(input_shape, reading, "lstm")
        input_layer, hidden_layer = InputLayer(features, hidden, gates=4), nn.Linear(hidden, 4 * hidden, bias=False)
        self.input, self.hidden, self.norm = terms(input_layer, hidden_layer, norm, norms, steps, "lstm")
        has_norms = self.input.norm is not None or self.norm is not None
        self.cell = MemoryCell(PerStep(norm.make(hidden, dim=1), steps) if has_norms else None)
        self.output = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, C, L) or (B, C, H, W) to logits (B, classes)."""
        h = c = x.new_zeros(len(x), self.width)
        with parametrize.cached():  # the weights stay the same over the time steps
            for t, x_t in enumerate(time_steps(x, self.reading)):
                z = self.hidden(h, t) + self.input(x_t, t)
                i, f, g, o = (z if self.norm is None else self.norm(z, t)).chunk(4, dim=1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = self.cell(c, o, t)
        return self.output(h)
