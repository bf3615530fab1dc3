"""The LightningDataModule: puts the splits on the device and hands out their batches."""

from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning import LightningDataModule

from bn_experiments.data.batches import Batching, Blocks, EvaluationBatches
from bn_experiments.data.splits import Splits


class DataModule(LightningDataModule):
    """Seeded training blocks for R replicas, and shared batches for evaluation.

    Args:
        splits: The data.
        seeds: Of the R replicas.
        batching: Size and order of the batches.
        steps_per_execution: Mini-batches a block.
    """

    def __init__(self, splits: Splits, seeds: Sequence[int], batching: Batching, steps_per_execution: int):
        super().__init__()
        self.splits = splits
        self.seeds = seeds
        self.batching = batching
        self.steps_per_execution = steps_per_execution

    def setup(self, stage: str) -> None:
        """Moves the data to the trainer's device; they are normalized in its precision."""
        assert self.trainer is not None
        dtype = torch.float64 if self.trainer.precision == "64-true" else torch.float32
        self.splits = self.splits.to(self.trainer.strategy.root_device, dtype)

    def train_dataloader(self) -> Blocks:
        """The current epoch, in blocks."""
        return Blocks(
            self.splits.train,
            self.seeds,
            epoch=self._epoch,
            batching=self.batching,
            steps_per_execution=self.steps_per_execution,
        )

    def _epoch(self) -> int:
        assert self.trainer is not None
        return self.trainer.current_epoch

    def val_dataloader(self) -> EvaluationBatches:
        """The validation split."""
        return EvaluationBatches(self.splits.val, self.batching.eval_batch_size)

    def test_dataloader(self) -> EvaluationBatches:
        """The test set."""
        return EvaluationBatches(self.splits.test, self.batching.eval_batch_size)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """The batch as it is: the data are on the device already."""
        return batch
