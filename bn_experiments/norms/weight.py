"""Weight normalization as a parametrization that works under torch.vmap, for which torch's own has no rule."""

from torch import Tensor, nn
from torch.nn.utils import parametrize


class WeightNorm(nn.Module):
    """The weight w = g v / ||v||, with a length g and a direction v for each output unit.

    Shapes: g (out, 1, ...), v and w (out, in, ...); ||v|| is the 2-norm over all axes except the first.

    Source: Salimans & Kingma 2016, arXiv:1602.07868, equation 2.
    """

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """The weight w (out, in, ...) from g (out, 1, ...) and v (out, in, ...)."""
        return g * v / _lengths(v)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The length g = ||w|| (out, 1, ...) and the direction v = w (out, in, ...), which give `weight`."""
        return _lengths(weight), weight


def weight_norm(module: nn.Module) -> None:
    """Splits the weight (out, in, ...) of a layer into length and direction, in place (see `WeightNorm`)."""
    parametrize.register_parametrization(module, "weight", WeightNorm())


def _lengths(weight: Tensor) -> Tensor:
    return weight.flatten(1).norm(dim=1).view(-1, *(1,) * (weight.dim() - 1))
