"""The LightningDataModule, which puts the splits on the device and gives out their batches."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from pytorch_lightning import LightningDataModule

from bn_experiments.data.augmented import Augmentation, Augmented, Trained
from bn_experiments.data.batches import Batching, Blocks, EvaluationBatches
from bn_experiments.data.splits import Splits


class DataModule(LightningDataModule):
    """Seeded training blocks for R replicas, and shared batches for evaluation.

    Args:
        splits: The training, validation and test examples.
        seeds: The seeds of the R replicas.
        batching: The size and order of the batches.
        steps_per_execution: The number of mini-batches in each block.
        augmentations: What changes the examples of training batches, and of no others, by name; none by default.
    """

    def __init__(
        self,
        splits: Splits,
        seeds: Sequence[int],
        batching: Batching,
        steps_per_execution: int,
        augmentations: Mapping[str, Augmentation] = MappingProxyType({}),
    ):
        super().__init__()
        self.splits = splits
        self.seeds = seeds
        self.batching = batching
        self.steps_per_execution = steps_per_execution
        self.augmentations = augmentations

    def setup(self, stage: str) -> None:
        """Moves the data to the trainer's device, and sets the trainer's precision for their normalization."""
        assert self.trainer is not None
        dtype = torch.float64 if self.trainer.precision == "64-true" else torch.float32
        self.splits = self.splits.to(self.trainer.strategy.root_device, dtype)

    def train_dataloader(self) -> Blocks:
        """The current epoch of the training split, in blocks."""
        train: Trained = self.splits.train
        if self.augmentations:
            train = Augmented.of(self.splits.train, self.augmentations, self.seeds)
        return Blocks(train, self.seeds, self._epoch, self.batching, self.steps_per_execution)

    def _epoch(self) -> int:
        assert self.trainer is not None
        return self.trainer.current_epoch

    def val_dataloader(self) -> EvaluationBatches:
        """The batches of the validation split."""
        return EvaluationBatches(self.splits.val, self.batching.eval_batch_size)

    def test_dataloader(self) -> EvaluationBatches:
        """The batches of the test set."""
        return EvaluationBatches(self.splits.test, self.batching.eval_batch_size)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """The batch without a change, since the data are on the device already."""
        return batch
