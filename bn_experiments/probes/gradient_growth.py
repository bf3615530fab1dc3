"""Gradient growth: how much larger, or smaller, the gradient becomes from layer to layer on its way back."""

import torch
from pydantic import NonNegativeInt
from torch import Tensor, nn

from bn_experiments.data.batches import BatchSize, size_of
from bn_experiments.data.splits import Splits
from bn_experiments.probes.layers import numbered, outputs_of_layers, slope
from bn_experiments.probes.probe import Probe, Reading, TrainingBatch, fixed_batch
from bn_experiments.seeds import generator
from bn_experiments.training.replicas import Replicas


def squared_gradients(network: nn.Module, x: Tensor, source: torch.Generator) -> Tensor:
    """The squared gradient of a random linear function of the last layer's output, with respect to each layer's.

    The function is sum(z_L G), G ~ N(0, 1), so that no loss, and no label, has a part in it.

    Args:
        network: The network, in training mode.
        x: A batch (B, ...).
        source: The generator that draws G.

    Returns:
        ||d sum(z_L G) / d z_l||^2 over the batch and all units, (L,), l = 1..L.

    Source: Yang et al. 2019, arXiv:1902.08129, theorem 8.
    """
    with torch.enable_grad():
        layers = outputs_of_layers(network, x)
        direction = torch.randn(layers[-1].shape, generator=source).to(layers[-1])
        gradients = torch.autograd.grad((layers[-1] * direction).sum(), layers)
    return torch.stack([gradient.double().square().sum() for gradient in gradients]).cpu()


class GradientGrowth(Probe):
    """The squared gradient at each of L layers, and the rate of its growth backwards (see `squared_gradients`).

    The rate is that of a layer, minus the least-squares slope of the logarithm against the layer's number, over all
    layers but the first and the last few, where it has not settled.

    Readings: squared_norm (R, L), rate (R,), in training mode.

    Args:
        batch_size: The size B of the batch, which each replica's seed draws from the training split; full: all of it.
        skip: The number of layers at either end that have no part in the rate.
    """

    quantities = ("squared_norm", "rate")

    def __init__(self, *, batch_size: BatchSize, skip: NonNegativeInt):
        self.batch_size, self.skip = batch_size, skip

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Takes the gradient of each replica on its batch."""
        x, _ = fixed_batch(splits.train, self.seeds, size_of(self.batch_size, len(splits.train)))
        squares = torch.stack(
            [
                squared_gradients(replicas.replica(i).train(), x[i], generator(seed, "gradient growth"))
                for i, seed in enumerate(self.seeds)
            ]
        )
        inner = squares.log()[:, self.skip : squares.shape[1] - self.skip]
        rate = -slope(inner) if inner.shape[1] > 1 else torch.full((len(squares),), torch.nan)
        return Reading("layer", numbered(squares.shape[1]), {"squared_norm": squares, "rate": rate})

    def training_batches(self, splits: Splits) -> list[TrainingBatch]:
        """The gradient is that of training mode."""
        return [TrainingBatch.of("batch_size", self.batch_size, "train", splits)]
