"""Population statistics: the networks scored with statistics of the training set, estimated at their final weights."""

from pydantic import PositiveInt
from torch import Tensor, nn

from bn_experiments.data.batches import BatchSize, size_of
from bn_experiments.data.splits import Splits
from bn_experiments.probes.precise import dropouts, estimate_population_statistics, refusals_of_precise
from bn_experiments.probes.probe import Probe, Reading, TrainingBatch, fixed_batch, networks
from bn_experiments.probes.scoring import SPLITS, scores_by_split
from bn_experiments.refusal import Refusal
from bn_experiments.training.replicas import Replicas, SeparateReplicas


class Population(Probe):
    """Loss and accuracy of every split in evaluation mode, with population statistics.

    They replace the running statistics of a copy (see `estimate_population_statistics`). With dropout off as they are
    estimated they are those of the network that is evaluated, with dropout on those of the network that was trained.

    Readings: loss, acc, with dropout on, and without_dropout_loss, without_dropout_acc (R, 3), over train, val, test.

    Args:
        batch_size: B, the size of the batches that the statistics are estimated on; full: one of the training split.
        examples: The number of these examples, which each replica's seed draws; a rest that fills no batch is left out.
        eval_batch_size: The size of the batches in evaluation mode, which changes no number.
    """

    quantities = ("loss", "acc", "without_dropout_loss", "without_dropout_acc")

    def __init__(self, *, batch_size: BatchSize, examples: PositiveInt, eval_batch_size: PositiveInt):
        self.batch_size, self.examples, self.eval_batch_size = batch_size, examples, eval_batch_size

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Estimates the statistics of each replica, and scores every split with them."""
        size = min(size_of(self.batch_size, len(splits.train)), len(splits.train))
        count = min(self.examples, len(splits.train)) // size
        x, _ = fixed_batch(splits.train, self.seeds, max(count, 1) * size)
        batches = x.unflatten(1, (-1, size))  # (R, K, B, ...)
        values = scores = self._scores(replicas, splits, batches, dropout=True)
        if dropouts(replicas.content):
            scores = self._scores(replicas, splits, batches, dropout=False)
        values = values | {f"without_dropout_{name}": score for name, score in scores.items()}
        return Reading("split", list(SPLITS), values)

    def _scores(self, replicas: Replicas, splits: Splits, batches: Tensor, dropout: bool) -> dict[str, Tensor]:
        """The loss and the accuracy of every split (R, 3), with statistics of batches (R, K, B, ...)."""
        estimated = networks(replicas, "eval")
        for network, own in zip(estimated, batches, strict=True):
            estimate_population_statistics(network, own, dropout)
        return scores_by_split(splits, SeparateReplicas(estimated).eval(), self.eval_batch_size)

    def refusals(self, network: nn.Module, batch: Tensor) -> list[Refusal]:
        """Running statistics that cannot be estimated anew keep it from measuring."""
        return refusals_of_precise(network, batch)

    def training_batches(self, splits: Splits) -> list[TrainingBatch]:
        """The statistics are estimated in training mode."""
        return [TrainingBatch.of("batch_size", self.batch_size, "train", splits)]
