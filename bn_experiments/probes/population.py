"""Population statistics: the networks scored with statistics of the training set, estimated at their final weights."""

from typing import TYPE_CHECKING, cast

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from bn_experiments.data.splits import Splits
from bn_experiments.probes.modes import SPLITS, logits_of, loss_and_accuracy
from bn_experiments.probes.probe import Probe, Reading, fixed_batch, networks
from bn_experiments.training.replicas import Replicas, SeparateReplicas

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def estimate_population_statistics(network: nn.Module, batches: Tensor) -> None:
    """Replaces all running statistics by their means over batches, in place; the network is left in evaluation mode.

    While a network trains, its running statistics average over the weights of many steps, and trail behind. Recurrent
    networks suffer from that most, since what is wrong at one step goes into the next.

    Args:
        network: Its norms with running statistics follow torch's: momentum, reset_running_stats.
        batches: (K, B, ...).

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
    """Loss and accuracy of every split in evaluation mode, with population statistics (see above).

    Readings: loss, acc (R, 3), over train, val and test.

    Args:
        batch_size: B, of the training examples that the statistics are estimated on, drawn by each replica's seed.
        examples: How many; a rest that fills no batch is left out.
        eval_batch_size: Changes nothing.
    """

    def __init__(self, *, batch_size: PositiveInt, examples: PositiveInt, eval_batch_size: PositiveInt):
        self.batch_size, self.examples, self.eval_batch_size = batch_size, examples, eval_batch_size

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """See the class."""
        size = min(self.batch_size, len(splits.train))
        count = min(self.examples, len(splits.train)) // size
        x, _ = fixed_batch(splits.train, self.seeds, max(count, 1) * size)
        estimated = networks(replicas, "eval")
        for i, network in enumerate(estimated):
            estimate_population_statistics(network, x[i].unflatten(0, (-1, size)))
        again = SeparateReplicas(estimated)
        parts = [getattr(splits, split) for split in SPLITS]
        scores = [loss_and_accuracy(logits_of(again, part, self.eval_batch_size), part.y) for part in parts]
        loss, acc = (torch.stack(values, dim=1).cpu() for values in zip(*scores, strict=True))
        return Reading("split", list(SPLITS), {"loss": loss, "acc": acc})

    def draw(self, writer: "SummaryWriter", tag: str, reading: Reading, splits: Splits, epoch: int) -> None:
        """The mean over replicas of each number."""
        for quantity, values in reading.values.items():
            for split, value in zip(SPLITS, values.mean(0).tolist(), strict=True):
                writer.add_scalar(f"{tag}/{split}/{quantity}", value, epoch)
