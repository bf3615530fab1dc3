"""The recurrent network with tanh, with norms on its input term and its hidden term, or on their sum."""

from collections.abc import Sequence
from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bn_experiments.models.recurrent import InputLayer, Norms, Reading, steps_and_features, terms, time_steps
from bn_experiments.norms.slot import Slot

RecurrentInit = Literal["orthogonal", "identity", "torch"]


class HiddenLayer(nn.Linear):
    """The linear map W_h h, without a bias.

    Shapes: h (B, H) to (B, H).

    Args:
        width: The width H of the state.
        start: What W_h starts as: a random orthogonal matrix, the identity, or torch's draw from
            U(-1/sqrt(H), 1/sqrt(H)).
    """

    def __init__(self, width: int, start: RecurrentInit):
        self.start = start  # which `reset_parameters`, called by nn.Linear, needs
        super().__init__(width, width, bias=False)

    def reset_parameters(self) -> None:
        """Sets or draws the weight (H, H)."""
        if self.start == "torch":
            super().reset_parameters()
        elif self.start == "identity":
            nn.init.eye_(self.weight)
        else:
            nn.init.orthogonal_(self.weight)


class RNN(nn.Module):
    """An RNN that reads an example in time steps, from h = 0, then a linear map of the last h to the classes.

    h = tanh(N(W_h h) + N(W_x x_t) + b). Each of the two norms has separate statistics for each time step. Without norms
    the network is `torch.nn.RNN` with one bias in place of two. The source keeps b and has no shifts in the norms; here
    `norm.bias=auto` keeps the shifts and removes b.

    Shapes: x (B, C, L), which is L time steps of C features, or x (B, C, H, W), to logits (B, classes).

    Args:
        input_shape: The shape of one example, (C, L) or (C, H, W).
        num_classes: The number of classes.
        norm: The slot on both linear maps, or on their sum.
        hidden: The width of h.
        reading: The time steps of an image: rows, H steps of C W features, or pixels, H W steps of C features; in
            `permuted` these, or the positions of a signal, come in an order that is drawn once, the same for every arm.
        norms: Where the slot is: on each of the two terms, or on their sum, h = tanh(N(W_h h + W_x x_t + b)).
        recurrent_init: What W_h starts as with `init=torch`: orthogonal, identity or torch (see `HiddenLayer`).

    Raises:
        Refusal: The input has no positions, or the norm is placed after the activation.

    Source: Cooijmans et al. 2016, arXiv:1603.09025, section 4; identity and permuted pixels: Le et al. 2015,
    arXiv:1504.00941; a norm of the sum: Laurent et al. 2015, arXiv:1510.01378.
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
        recurrent_init: RecurrentInit,
    ):
        super().__init__()
        self.width, self.reading = hidden, reading
        steps, features = steps_and_features(input_shape, reading, "rnn")
        input_layer, hidden_layer = InputLayer(features, hidden, gates=1), HiddenLayer(hidden, recurrent_init)
        self.input, self.hidden, self.norm = terms(input_layer, hidden_layer, norm, norms, steps, "rnn")
        self.activation = nn.Tanh()  # a module, so that probes find it
        self.output = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, C, L) or (B, C, H, W) to logits (B, classes)."""
        h = x.new_zeros(len(x), self.width)
        with parametrize.cached():  # the weights stay the same over the time steps
            for t, x_t in enumerate(time_steps(x, self.reading)):
                z = self.hidden(h, t) + self.input(x_t, t)
                h = self.activation(z if self.norm is None else self.norm(z, t))
        return self.output(h)
