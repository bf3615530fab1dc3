"""Modes: the same network scored with the batch's own statistics and with the running ones."""

from pydantic import PositiveInt
from torch import Tensor

from bn_experiments.data.batches import BatchSize
from bn_experiments.data.splits import Splits
from bn_experiments.probes.probe import Probe, Reading, TrainingBatch
from bn_experiments.probes.scoring import MODES, SPLITS, scores_by_split
from bn_experiments.training.replicas import Replicas


class Modes(Probe):
    """Loss and accuracy of every split, in training mode and in evaluation mode.

    In training mode batch norm uses the statistics of the batch at hand, and dropout acts: the number depends on the
    size of the batch. It is measured on a copy, so the running statistics stay as training left them.

    Readings: train_mode_loss, train_mode_acc, eval_mode_loss, eval_mode_acc (R, 3), over train, val and test.

    Args:
        batch_size: B, the size of the batches in training mode, full for whole splits.
        eval_batch_size: The size of the batches in evaluation mode, which changes no number.
    """

    quantities = ("train_mode_loss", "train_mode_acc", "eval_mode_loss", "eval_mode_acc")

    def __init__(self, *, batch_size: BatchSize, eval_batch_size: PositiveInt):
        self.sizes = {"train": batch_size, "eval": eval_batch_size}

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Scores every split, in one mode after the other."""
        values: dict[str, Tensor] = {}
        for mode in MODES:
            replicas.train(mode == "train")
            scores = scores_by_split(splits, replicas, self.sizes[mode])
            values |= {f"{mode}_mode_{quantity}": score for quantity, score in scores.items()}
        return Reading("split", list(SPLITS), values)

    def training_batches(self, splits: Splits) -> list[TrainingBatch]:
        """Every split is scored in training mode."""
        sizes = [TrainingBatch.of_whole("batch_size", self.sizes["train"], split, splits) for split in SPLITS]
        return [batch for batches in sizes for batch in batches]
