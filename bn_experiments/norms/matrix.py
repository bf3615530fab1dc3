"""Weight normalizations of a layer's matrix as a whole: parametrizations of its weight that work under torch.vmap.

torch has both, but `torch.vmap` does not take its spectral norm, and its orthogonal parametrization takes the kernel of
a convolution for many small matrices. Here a weight (out, in, ...) is one matrix (out, in ...).
"""

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt
from torch import Tensor, nn
from torch.nn.utils import parametrize

WARM_UP = 15  # power iterations on the initial weight, as many as torch.nn.utils.parametrizations.spectral_norm takes


class SpectralNorm(nn.Module):
    """The weight w = v / sigma, where sigma estimates the largest singular value of v as a matrix.

    sigma = a^T v b, where a (out,) and b (in,) approach the singular vectors: each training pass takes steps of the
    power iteration, a = v b / ||v b|| and b = v^T a / ||v^T a||. To the gradient both are constants.

    Shapes: v and w (out, in, ...), which is the matrix (out, in ...).

    Args:
        weight: The first weight, whose shape the vectors have.
        n_power_iterations: The number of steps in a training pass.
        eps: The least length that a vector is divided by.

    Source: Miyato et al. 2018, arXiv:1802.05957, equation 8 and algorithm 1.
    """

    left: Tensor
    right: Tensor

    def __init__(self, weight: Tensor, n_power_iterations: int, eps: float):
        super().__init__()
        self.n_power_iterations = n_power_iterations
        self.eps = eps
        rows = weight.detach().flatten(1)
        for name, like in (("left", rows[:, 0]), ("right", rows[0])):
            self.register_buffer(name, F.normalize(torch.randn_like(like), dim=0, eps=eps))

    def forward(self, v: Tensor) -> Tensor:
        """The weight w (out, in, ...) from v (out, in, ...)."""
        rows = v.flatten(1)
        if self.training:
            self._iterate(rows, self.n_power_iterations)
        left, right = self.left.clone(), self.right.clone()  # which the next pass does not change
        return v / (left * _times(rows, right)).sum()

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The weight itself becomes v, whose singular vectors are found anew from where they are."""
        self._iterate(weight.flatten(1), WARM_UP)
        return weight

    @torch.no_grad()
    def _iterate(self, rows: Tensor, steps: int) -> None:
        for _ in range(steps):
            self.left.copy_(F.normalize(_times(rows, self.right), dim=0, eps=self.eps))
            self.right.copy_(F.normalize(_times(rows.T, self.left), dim=0, eps=self.eps))


class Orthogonal(nn.Module):
    """The weight w whose rows are orthonormal, by Gram and Schmidt from the rows of v; or its columns, if out > in.

    It is Q of the decomposition v^T = Q R with a positive diagonal of R, transposed.

    Shapes: v and w (out, in, ...), which is the matrix (out, in ...).

    Source: Huang et al. 2018, arXiv:1709.06079, which takes the nearest such matrix in place of Q.
    """

    def forward(self, v: Tensor) -> Tensor:
        """The weight w (out, in, ...) from v (out, in, ...)."""
        rows = v.flatten(1)
        wide = rows.shape[0] <= rows.shape[1]
        q, r = torch.linalg.qr(rows.T if wide else rows)
        q = q * r.diagonal().sign()
        return (q.T if wide else q).contiguous().view(v.shape)  # so that a draw into it fills it row by row

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The weight itself becomes v."""
        return weight


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """The product (out,) of a matrix (out, in) and a vector (in,), which mixed precision leaves in their own type."""
    return (matrix * vector).sum(1)


def spectral_norm(module: nn.Module, *, n_power_iterations: NonNegativeInt, eps: float) -> None:
    """Divides the weight (out, in, ...) of a layer by its largest singular value, in place (see `SpectralNorm`)."""
    norm = SpectralNorm(module.get_parameter("weight"), n_power_iterations, eps)
    parametrize.register_parametrization(module, "weight", norm)


def orthogonal(module: nn.Module) -> None:
    """Makes the weight (out, in, ...) of a layer orthogonal, in place (see `Orthogonal`)."""
    parametrize.register_parametrization(module, "weight", Orthogonal())
