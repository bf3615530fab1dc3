"""Noisy batch normalization: the distribution of its outputs changes from step to step."""

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from bn_experiments.counters import normal, random_bits, uniform
from bn_experiments.norms.batch import BatchNorm, Momentum, wide


class NoisyBatchNorm(BatchNorm):
    """Batch normalization whose outputs z become s z + m in training mode, with noise s and m of moments that change.

    For each feature and step, mu is drawn from U(-mean_range, mean_range), and sigma from U(1, scale_range). Then for
    each element m is drawn from U(mu - mean_noise, mu + mean_noise), and s from the normal distribution with the mean
    sigma and the standard deviation scale_noise. A feature of a convolution is a channel. In evaluation mode there is
    no noise.

    The noise depends on (seed, layer, step) alone (see `counters`). So a stack of replicas draws what each draws alone.

    Shapes: x (B, F), (B, F, L) or (B, F, H, W) to the same shape.

    Args:
        num_features: The number F of features.
        mean_range: The largest mean of the additive noise, n_mu in the source.
        scale_range: The largest mean of the multiplicative noise, n_sigma.
        mean_noise: Half the width of the additive noise, r_mu.
        scale_noise: The standard deviation of the multiplicative noise, r_sigma.
        eps: The number that is added to the variance.
        momentum: The weight of the newest batch in the running statistics; None: their cumulative mean.
        affine: Whether there are a scale and a shift (F,).

    Raises:
        Refusal: There is one value for each feature in training mode.

    Source: Santurkar et al. 2018, arXiv:1805.11604, section 2.1 and appendix A.
    """

    seed: Tensor
    step: Tensor

    def __init__(
        self,
        num_features: int,
        *,
        mean_range: NonNegativeFloat,
        scale_range: NonNegativeFloat,
        mean_noise: NonNegativeFloat,
        scale_noise: NonNegativeFloat,
        eps: float,
        momentum: Momentum,
        affine: bool,
    ):
        super().__init__(num_features, eps=eps, momentum=momentum, affine=affine)
        self.mean_range, self.scale_range = mean_range, scale_range
        self.mean_noise, self.scale_noise = mean_noise, scale_noise
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.seed.random_()

    def reset_parameters(self) -> None:
        """Draws the layer's seed from the global generator, and resets all else."""
        super().reset_parameters()
        self.seed.random_()
        self.step.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, F, ...) to (B, F, ...)."""
        z = super().forward(x)
        if not self.training:
            return z
        self.step.add_(1)
        s, m = self.noise(z)
        return s * z + m

    def noise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The factors s and the terms m of this step, each of the shape and type of z (B, F, ...)."""
        features, count = z.shape[1], z.numel()
        bits = random_bits(self.seed, self.step, 2 * features + 3 * count)
        moments, elements = bits[: 2 * features].view(2, features), bits[2 * features :].view(3, *z.shape)
        mu, sigma = (wide(one, z) for one in uniform(moments))
        mu, sigma = self.mean_range * (2 * mu - 1), 1 + (self.scale_range - 1) * sigma
        m = mu + self.mean_noise * (2 * uniform(elements[0]) - 1)
        s = sigma + self.scale_noise * normal(elements[1:])
        return s.to(z.dtype), m.to(z.dtype)

    def extra_repr(self) -> str:
        """The options."""
        noise = ("mean_range", "scale_range", "mean_noise", "scale_noise")
        return ", ".join(f"{name}={getattr(self, name)}" for name in noise) + f", {super().extra_repr()}"
