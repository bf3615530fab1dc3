"""Norms that read their running statistics in training mode too."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt
from torch import Tensor

from bn_experiments.norms.batch import BatchStatistics, Momentum, others, refuse_one_value, wide


class FrozenBatchNorm(BatchStatistics):
    """Normalization by running statistics in both modes, y = gamma_F (x - mean_F) / sqrt(var_F + eps) + beta_F.

    Mean and variance are those of the batches before this one, so that no output depends on another example. They are
    constants to the gradient: dy/dx = gamma_F / sqrt(var_F + eps), with nothing of what batch normalization takes off
    the gradient. After the pass they move to those of the batch.

    Shapes: x (B, F), (B, F, L) or (B, F, H, W) to the same shape.

    Raises:
        Refusal: There is one value for each feature in training mode.

    Source: Luo et al. 2019, arXiv:1809.00846, section 2 (population normalization).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes x (B, F, ...) to (B, F, ...)."""
        mean, var = self.running.values()
        y = self.scaled((x - wide(mean, x)) / wide(torch.sqrt(var + self.eps), x))
        if self.training:
            refuse_one_value(x)
            self.keep(x, **self.measured(x.detach()))
        return y


class BatchRenorm(BatchStatistics):
    """Batch renormalization, y = gamma_F ((x - mean_B) / sd_B r + d) + beta_F, with sd_B = sqrt(var_B + eps).

    r = sd_B / sd limited to [1 / r_max, r_max] and d = (mean_B - mean) / sd limited to [-d_max, d_max], where mean and
    sd are the running ones from before this batch. r and d are constants to the gradient. So where nothing is limited,
    the output is that of evaluation mode, y = gamma_F (x - mean) / sd + beta_F.

    For the first `warmup_steps` batches it is batch normalization, r = 1 and d = 0. From there the limits grow in equal
    steps, that of r to r_max at the batch `r_steps` and that of d to d_max at the batch `d_steps`.

    As in the source, what moves is the standard deviation itself, the buffer `running_sd`, not a variance.

    Shapes: x (B, F), (B, F, L) or (B, F, H, W) to the same shape.

    Args:
        num_features: The number F of features.
        r_max: The largest r, at least 1.
        d_max: The largest d.
        warmup_steps: The number of batches with r = 1 and d = 0.
        r_steps: The number of batches after which the limit of r is r_max.
        d_steps: The number of batches after which the limit of d is d_max.
        eps: The number that is added to the variance.
        momentum: The weight of the newest batch in the running statistics; None: their cumulative mean.
        affine: Whether there are a scale and a shift (F,).

    Raises:
        Refusal: There is one value for each feature in training mode.

    Source: Ioffe 2017, arXiv:1702.03275, algorithm 1; the growing limits are of its experiments.
    """

    kept: ClassVar[dict[str, float]] = {"mean": 0.0, "sd": 1.0}

    def __init__(
        self,
        num_features: int,
        *,
        r_max: Annotated[float, Field(ge=1)],
        d_max: NonNegativeFloat,
        warmup_steps: NonNegativeInt,
        r_steps: NonNegativeInt,
        d_steps: NonNegativeInt,
        eps: float,
        momentum: Momentum,
        affine: bool,
    ):
        super().__init__(num_features, eps=eps, momentum=momentum, affine=affine)
        self.r_max, self.d_max = r_max, d_max
        self.warmup_steps, self.r_steps, self.d_steps = warmup_steps, r_steps, d_steps

    def measured(self, x: Tensor) -> dict[str, Tensor]:
        """The mean and the standard deviation (F,), with eps in it."""
        return {"mean": x.mean(others(x)), "sd": torch.sqrt(x.var(others(x), unbiased=False) + self.eps)}

    def limits(self) -> tuple[Tensor, Tensor]:
        """The limits () of r and of d for the next batch."""
        past = self.num_batches_tracked - self.warmup_steps
        spans = self.r_steps - self.warmup_steps, self.d_steps - self.warmup_steps
        r, d = ((past / span if span > 0 else past + 1).clamp(0, 1) for span in spans)
        return 1 + r * (self.r_max - 1), d * self.d_max

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes x (B, F, ...) to (B, F, ...)."""
        mean, sd = self.running.values()
        if not self.training:
            return self.scaled((x - wide(mean, x)) / wide(sd, x))
        refuse_one_value(x)
        batch = self.measured(x)
        r_limit, d_limit = self.limits()
        r = (batch["sd"].detach() / sd).clamp(1 / r_limit, r_limit)
        d = ((batch["mean"].detach() - mean) / sd).clamp(-d_limit, d_limit)
        self.keep(x, **batch)
        y = (x - wide(batch["mean"], x)) / wide(batch["sd"], x)
        return self.scaled(y * wide(r, x) + wide(d, x))

    def extra_repr(self) -> str:
        """The options."""
        return f"r_max={self.r_max}, d_max={self.d_max}, {super().extra_repr()}"
