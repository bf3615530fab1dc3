"""Running statistics: how far they stray from the statistics of the whole training split at the same weights."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from bn_experiments.data.batches import BatchSize, size_of
from bn_experiments.data.splits import Splits
from bn_experiments.probes.precise import estimate_population_statistics, refusals_of_precise
from bn_experiments.probes.probe import Probe, Reading, TrainingBatch, fixed_batch
from bn_experiments.refusal import Refusal
from bn_experiments.training.replicas import Replicas


def errors(mean: Tensor, var: Tensor, precise_mean: Tensor, precise_var: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over units of ((mean - mu) / sigma)^2, and of (var / sigma^2 - 1)^2, mu and sigma^2 the precise ones.

    Shapes: (F,) each, to () and (). A unit whose precise variance is 0 has no such error, and is left out.

    >>> one = torch.ones(1)
    >>> [error.item() for error in errors(3 * one, 8 * one, one, 4 * one)]
    [1.0, 1.0]
    """
    alive = precise_var > 0
    mean, var, precise_mean, precise_var = (each[alive].double() for each in (mean, var, precise_mean, precise_var))
    return ((mean - precise_mean).square() / precise_var).mean(), (var / precise_var - 1).square().mean()


class RunningStatistics(Probe):
    """The errors of the running mean and the running variance of each of N norms that have them (see `errors`).

    The precise statistics are the means over batches of B of the training split, all of it but for a rest.

    Readings: mean_error, var_error (R, N), in units of the precise variance and of its square.

    Args:
        batch_size: B; full: one batch of the training split.

    Source: Wu & Johnson 2021, arXiv:2105.07576.
    """

    quantities = ("mean_error", "var_error")

    def __init__(self, *, batch_size: BatchSize):
        self.batch_size = batch_size

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Compares the statistics of each replica with precise ones."""
        size = min(size_of(self.batch_size, len(splits.train)), len(splits.train))
        x, _ = fixed_batch(splits.train, self.seeds, len(splits.train) // size * size)
        found: list[list[tuple[Tensor, Tensor]]] = []
        for i in range(replicas.size):
            network = replicas.replica(i)
            before = {name: (norm.running_mean.clone(), norm.running_var.clone()) for name, norm in _with(network)}
            estimate_population_statistics(network, x[i].unflatten(0, (-1, size)))
            after = {name: (norm.running_mean, norm.running_var) for name, norm in _with(network)}
            found.append([errors(*before[name], *after[name]) for name in before])
        values = torch.tensor(found, dtype=torch.float64).view(replicas.size, -1, 2)
        return Reading("norm", [*before], dict(zip(("mean_error", "var_error"), values.unbind(2), strict=True)))

    def refusals(self, network: nn.Module, batch: Tensor) -> list[Refusal]:
        """Running statistics that cannot be estimated anew keep it from measuring."""
        return refusals_of_precise(network, batch)

    def training_batches(self, splits: Splits) -> list[TrainingBatch]:
        """The statistics are estimated in training mode."""
        return [TrainingBatch.of("batch_size", self.batch_size, "train", splits)]


def _with(network: nn.Module) -> list[tuple[str, Any]]:
    """The modules with a running mean and variance, by name."""
    modules = network.named_modules()
    return [(name, cast(Any, each)) for name, each in modules if _has_both(each)]


def _has_both(module: nn.Module) -> bool:
    return all(isinstance(getattr(module, name, None), Tensor) for name in ("running_mean", "running_var"))
