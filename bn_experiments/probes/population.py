"""Population statistics: the networks scored with statistics of the training set, estimated at their final weights."""

from typing import cast

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from bn_experiments.data.splits import Splits
from bn_experiments.probes.probe import Probe, Reading, TrainingBatch, fixed_batch, networks
from bn_experiments.probes.scoring import SPLITS, scores_by_split
from bn_experiments.training.replicas import Replicas, SeparateReplicas


def estimate_population_statistics(network: nn.Module, batches: Tensor) -> None:
    """Replaces all running statistics by their means over batches, in place; the network is left in evaluation mode.

    While a network trains, its running statistics average over the weights of many steps, and trail behind. Recurrent
    networks suffer from that most, since what is wrong at one step goes into the next.

    Args:
        network: A network whose norms with running statistics have torch's momentum and reset_running_stats.
        batches: K batches (K, B, ...).

    Source: Wu & Johnson 2021, Rethinking "Batch" in BatchNorm, arXiv:2105.07576, section 3.2 (precise statistics).
    """
    for module in network.modules():
        if hasattr(module, "reset_running_stats"):
            norm = cast(nn.BatchNorm1d, module)
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative mean
    network.train()
    with torch.no_grad():
        for x in batches:
            network(x)
    network.eval()


class Population(Probe):
    """Loss and accuracy of every split in evaluation mode, with population statistics.

    They replace the running statistics of a copy (see `estimate_population_statistics`).

    Readings: loss, acc (R, 3), over train, val and test.

    Args:
        batch_size: B, the size of the batches of training examples that the statistics are estimated on.
        examples: The number of these examples, which each replica's seed draws; a rest that fills no batch is left out.
        eval_batch_size: The size of the batches in evaluation mode, which changes no number.
    """

    def __init__(self, *, batch_size: PositiveInt, examples: PositiveInt, eval_batch_size: PositiveInt):
        self.batch_size, self.examples, self.eval_batch_size = batch_size, examples, eval_batch_size

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Estimates the statistics of each replica, and scores every split with them."""
        size = min(self.batch_size, len(splits.train))
        count = min(self.examples, len(splits.train)) // size
        x, _ = fixed_batch(splits.train, self.seeds, max(count, 1) * size)
        estimated = networks(replicas, "eval")
        for i, network in enumerate(estimated):
            estimate_population_statistics(network, x[i].unflatten(0, (-1, size)))
        scores = scores_by_split(splits, SeparateReplicas(estimated), self.eval_batch_size)
        return Reading("split", list(SPLITS), scores)

    def training_batches(self, splits: Splits) -> list[TrainingBatch]:
        """The statistics are estimated in training mode."""
        return [TrainingBatch.of("batch_size", self.batch_size, "train", splits)]
