"""Ghost batch normalization: the statistics of small groups of a large batch."""

import torch
from pydantic import PositiveInt
from torch import Tensor

from bn_experiments.norms.batch import BatchNorm, Momentum, refuse_one_value


class GhostBatchNorm(BatchNorm):
    """Batch normalization of each group of g consecutive examples by its own mean and variance.

    All groups share the scale and the shift. Where g does not divide the batch, the last group is smaller. The running
    statistics move once for each batch, to the mean and the unbiased variance of the whole of it. (The source moves
    them once for each group.) In evaluation mode it is batch normalization.

    Shapes: x (B, F), (B, F, L) or (B, F, H, W) to the same shape.

    Args:
        num_features: The number F of features.
        group_size: The number g of examples in a group; a batch that is not larger is one group.
        eps: The number that is added to the variance.
        momentum: The weight of the newest batch in the running statistics; None: their cumulative mean.
        affine: Whether there are a scale and a shift (F,).

    Raises:
        Refusal: A group has one value for each feature in training mode.

    Source: Hoffer et al. 2017, arXiv:1705.08741, algorithm 1.
    """

    def __init__(self, num_features: int, *, group_size: PositiveInt, eps: float, momentum: Momentum, affine: bool):
        super().__init__(num_features, eps=eps, momentum=momentum, affine=affine)
        self.group_size = group_size

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes x (B, F, ...) to (B, F, ...)."""
        if not self.training:
            return super().forward(x)
        even = len(x) // self.group_size * self.group_size
        parts = []
        if even:
            parts.append(self._each(x[:even].unflatten(0, (-1, self.group_size))).flatten(0, 1))
        if even < len(x):
            parts.append(self._each(x[even:][None])[0])
        self.keep(x, **self.measured(x.detach()))
        return self.scaled(torch.cat(parts) if len(parts) > 1 else parts[0])

    def _each(self, groups: Tensor) -> Tensor:
        """Each of the groups (G, g, F, ...) normalized by itself."""
        refuse_one_value(groups[0])
        axes = (1, *range(3, groups.dim()))
        mean, var = groups.mean(axes, keepdim=True), groups.var(axes, unbiased=False, keepdim=True)  # (G, 1, F, 1, ...)
        return (groups - mean) / torch.sqrt(var + self.eps)

    def extra_repr(self) -> str:
        """The options."""
        return f"group_size={self.group_size}, {super().extra_repr()}"
