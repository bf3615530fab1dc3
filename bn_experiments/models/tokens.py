"""Tokens, with their features on the second axis as norms have them: patches, positions, attention."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bn_experiments.models.hidden import ActivationName, named_activation

POSITION_STD = 0.02  # Dosovitskiy et al. 2020, the published code of arXiv:2010.11929


def patches(x: Tensor, size: int) -> Tensor:
    """Cuts examples into patches, each with its channels and positions as features.

    Args:
        x: Signals (B, C, L) or images (B, C, H, W).
        size: The number P of positions of a patch on each axis, a divisor of their number.

    Returns:
        The patches (B, C P, L / P), or (B, C P P, H W / P^2), row by row.

    >>> patches(torch.arange(6.0).view(1, 1, 6), 2)
    tensor([[[0., 2., 4.],
             [1., 3., 5.]]])
    """
    dim = x.dim() - 2
    for axis in range(2, x.dim()):
        x = x.unflatten(2 * axis - 2, (-1, size))
    # (B, C, H / P, P, W / P, P)
    within, between = (tuple(range(start, 2 + 2 * dim, 2)) for start in (3, 2))
    x = x.permute(0, 1, *within, *between)  # (B, C, P, P, H / P, W / P)
    return x.flatten(2 + dim).flatten(1, 1 + dim)


class TokenLinear(nn.Linear):
    """A linear map of each token, whose features are on the second axis, where norms have them.

    Shapes: x (B, F, T) to (B, out, T).
    """

    maps = 1  # the number of maps of the same input in the weight

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, F, T) to (B, out, T)."""
        return F.linear(x.mT, self.weight, self.bias).mT


class Tokens(nn.Module):
    """Adds a learned vector to each token for its position, after a learned class token if there is one.

    Shapes: h (B, D, T) to (B, D, T), or to (B, D, T + 1) with the class token at the position 0.

    Args:
        width: The number D of features.
        count: The number T of tokens.
        class_token: Whether there is a class token, which starts at zero.

    Source: Dosovitskiy et al. 2020, arXiv:2010.11929, equation 1.
    """

    def __init__(self, width: int, count: int, class_token: bool):
        super().__init__()
        self.class_token = nn.Parameter(torch.empty(width)) if class_token else None
        self.positions = nn.Parameter(torch.empty(width, count + class_token))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the positions from N(0, 0.02^2), and sets the class token to zero."""
        nn.init.normal_(self.positions, std=POSITION_STD)
        if self.class_token is not None:
            nn.init.zeros_(self.class_token)

    def forward(self, h: Tensor) -> Tensor:
        """Maps h (B, D, T) to (B, D, T) or (B, D, T + 1)."""
        if self.class_token is not None:
            h = torch.cat([self.class_token.expand(len(h), -1).unsqueeze(2), h], dim=2)  # (B, D, T + 1)
        return h + self.positions


class Attention(nn.Module):
    r"""Multi-head self-attention, softmax(Q^T K / sqrt(E)) V in each of H heads with E = D / H features.

    Shapes: x (B, D, T) to (B, D, T).

    Args:
        width: The number D of features.
        heads: The number H of heads.

    Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1 and section 3.2.2.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.inputs = TokenLinear(width, 3 * width)
        self.inputs.maps = 3  # queries, keys and values, each drawn by its own number of outputs
        self.outputs = TokenLinear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, D, T) to (B, D, T)."""
        q, k, v = self.inputs(x).unflatten(1, (3, self.heads, -1)).unbind(1)  # (B, H, E, T) each
        weights = (q.mT @ k / math.sqrt(q.shape[2])).softmax(dim=3)  # (B, H, T, T)
        return self.outputs((v @ weights.mT).flatten(1, 2))


class Network(nn.Module):
    """The two-layer network of each token, W_2 f(W_1 x) with biases.

    Shapes: x (B, D, T) to (B, D, T).

    Args:
        width: The number D of features.
        hidden: The number of hidden units.
        activation: The name of the activation f.
    """

    def __init__(self, width: int, hidden: int, activation: ActivationName):
        super().__init__()
        self.inputs = TokenLinear(width, hidden)
        self.activation = named_activation(activation)
        self.outputs = TokenLinear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, D, T) to (B, D, T)."""
        return self.outputs(self.activation(self.inputs(x)))
