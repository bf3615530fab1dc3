"""Batch normalization in parts, so that a variant can change one: what is measured, kept, and normalized."""

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from bn_experiments.refusal import Refusal

Momentum = Annotated[float, Field(ge=0, le=1)] | None


class BatchStatistics(nn.Module):
    """What norms over a batch share: a scale and a shift, and running statistics as torch.nn.BatchNorm keeps them.

    After each training pass every statistic becomes (1 - momentum) old + momentum new, where the new variance is the
    unbiased one, n / (n - 1) times that of the batch with n values for each feature.

    Args:
        num_features: The number F of features.
        eps: The number that is added to the variance.
        momentum: The weight of the newest batch in the running statistics; None: their cumulative mean.
        affine: Whether there are a scale and a shift, (F,), which start at one and at zero.

    Attributes:
        kept: The start value of each running statistic; `var` is the buffer `running_var` (F,).
    """

    kept: ClassVar[dict[str, float]] = {"mean": 0.0, "var": 1.0}
    num_batches_tracked: Tensor

    def __init__(self, num_features: int, *, eps: float, momentum: Momentum, affine: bool):
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        for name, start in self.kept.items():
            self.register_buffer(f"running_{name}", torch.full((num_features,), start))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))

    def reset_parameters(self) -> None:
        """Sets the scale to one, the shift to zero, and the running statistics to their start values."""
        if self.weight is not None and self.bias is not None:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)
        self._restart()

    def _restart(self) -> None:
        for name, start in self.kept.items():
            getattr(self, f"running_{name}").fill_(start)
        self.num_batches_tracked.zero_()

    @property
    def running(self) -> dict[str, Tensor]:
        """The running statistics (F,) by name."""
        return {name: getattr(self, f"running_{name}") for name in self.kept}

    def measured(self, x: Tensor) -> dict[str, Tensor]:
        """The mean and the biased variance (F,) of each feature of x (B, F, ...)."""
        return {"mean": x.mean(others(x)), "var": x.var(others(x), unbiased=False)}

    def keep(self, x: Tensor, **statistics: Tensor) -> None:
        """Moves the running statistics, in place and without gradients, towards those (F,) of x (B, F, ...)."""
        count = x.numel() // x.shape[1]
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        with torch.no_grad():
            for name, value in statistics.items():
                unbiased = value * (count / (count - 1)) if name == "var" else value
                self.running[name].mul_(1 - share).add_(share * unbiased)

    def scaled(self, y: Tensor) -> Tensor:
        """The scale times y (B, F, ...), plus the shift; y itself where there are none."""
        if self.weight is None or self.bias is None:
            return y
        return y * wide(self.weight, y) + wide(self.bias, y)

    def extra_repr(self) -> str:
        """The options, as torch's batch norm shows them."""
        return f"eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}"


class BatchNorm(BatchStatistics):
    """Batch normalization, y = gamma_F (x - mean_F) / sqrt(var_F + eps) + beta_F, which equals torch.nn.BatchNorm.

    The statistics are those of the batch in training mode, the running ones in evaluation mode.

    Shapes: x (B, F), (B, F, L) or (B, F, H, W) to the same shape.

    Raises:
        Refusal: There is one value for each feature in training mode.

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1.
    """

    def reset_running_stats(self) -> None:
        """Sets the running statistics to their start values, under the name that torch has for it."""
        self._restart()

    def normalized(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """The input x (B, F, ...) normalized by statistics (F,), before scale and shift."""
        return (x - wide(mean, x)) / wide(torch.sqrt(var + self.eps), x)

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes x (B, F, ...) to (B, F, ...)."""
        if not self.training:
            return self.scaled(self.normalized(x, **self.running))
        refuse_one_value(x)
        statistics = self.measured(x)
        self.keep(x, **statistics)
        return self.scaled(self.normalized(x, **statistics))


class BatchCenter(BatchNorm):
    """The mean's part of batch normalization, y = gamma_F (x - mean_F) + beta_F.

    The source has the shift alone; the scale is here, so that nothing but the division is missing.

    Source: Salimans & Kingma 2016, arXiv:1602.07868, section 4 (mean-only batch normalization).
    """

    kept: ClassVar[dict[str, float]] = {"mean": 0.0}

    def measured(self, x: Tensor) -> dict[str, Tensor]:
        """The mean (F,)."""
        return {"mean": x.mean(others(x))}

    def normalized(self, x: Tensor, mean: Tensor) -> Tensor:  # type: ignore[override]
        """The input x (B, F, ...) less the mean (F,)."""
        return x - wide(mean, x)


class BatchScale(BatchNorm):
    """The variance's part of batch normalization, y = gamma_F x / sqrt(var_F + eps) + beta_F, var about the mean.

    Source: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1, without its mean in the numerator.
    """

    kept: ClassVar[dict[str, float]] = {"var": 1.0}

    def measured(self, x: Tensor) -> dict[str, Tensor]:
        """The biased variance (F,)."""
        return {"var": x.var(others(x), unbiased=False)}

    def normalized(self, x: Tensor, var: Tensor) -> Tensor:  # type: ignore[override]
        """The input x (B, F, ...) divided by the root of the variance (F,)."""
        return x / wide(torch.sqrt(var + self.eps), x)


class L1BatchNorm(BatchNorm):
    """Batch normalization by the mean absolute deviation, y = gamma_F (x - mean_F) / (dev_F + eps) + beta_F.

    dev_F = sqrt(pi / 2) mean |x - mean_F| is the standard deviation of normally distributed x. Its running mean is the
    buffer `running_dev`.

    Args:
        eps: The number that is added to dev_F, no square.

    Source: Hoffer et al. 2018, arXiv:1803.01814 (L1 batch norm).
    """

    kept: ClassVar[dict[str, float]] = {"mean": 0.0, "dev": 1.0}

    def measured(self, x: Tensor) -> dict[str, Tensor]:
        """The mean and the scaled mean absolute deviation (F,)."""
        mean = x.mean(others(x))
        return {"mean": mean, "dev": math.sqrt(math.pi / 2) * (x - wide(mean, x)).abs().mean(others(x))}

    def normalized(self, x: Tensor, mean: Tensor, dev: Tensor) -> Tensor:
        """The input x (B, F, ...) less the mean (F,), divided by the deviation (F,)."""
        return (x - wide(mean, x)) / wide(dev + self.eps, x)


def others(x: Tensor) -> tuple[int, ...]:
    """All axes of x (B, F, ...) but that of the features."""
    return (0, *range(2, x.dim()))


def wide(v: Tensor, x: Tensor) -> Tensor:
    """A number for each feature, v (F,), as (F, 1, ...), which broadcasts over x (B, F, ...)."""
    return v.view(-1, *(1,) * (x.dim() - 2))


def refuse_one_value(x: Tensor) -> None:
    """Raises a refusal where x (B, F, ...) has one value for each feature, which has no variance."""
    if x.numel() == x.shape[1]:
        got = "gives the norm one value for each feature in training mode"
        raise Refusal("data.batch_size", got, "two or more", "raise it, or set data.drop_last=true", value=len(x))
