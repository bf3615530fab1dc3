"""Checkpoints: the files from which an interrupted cell continues."""

import logging
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from bn_experiments.refusal import one_line
from bn_experiments.system import interruption
from bn_experiments.system.files import write_whole

log = logging.getLogger(__name__)

IDENTITY = "config_hash"  # the key in a checkpoint that says which cell it belongs to


class Checkpoints(ModelCheckpoint):
    """Saves at the end of every n-th epoch, and before an interruption.

    If the process is asked to end, it completes its current block, saves there, also in the middle of an epoch, and
    raises `Interrupted`.

    Args:
        folder: The folder of the cell.
        identity: The hash that the cell's checkpoints carry and other cells' do not (see `identity.config_hash`).
        every_n_epochs: The number of epochs from one checkpoint to the next.
    """

    def __init__(self, folder: Path, identity: str, every_n_epochs: int):
        self.file = folder / "checkpoints" / f"{identity}.ckpt"
        self.identity = identity
        super().__init__(
            self.file.parent,
            self.file.stem,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
            every_n_epochs=every_n_epochs,
        )

    def found(self) -> Path | None:
        """The checkpoint to continue from; None if there is none, or if it is damaged or belongs to another cell."""
        if not self.file.exists():
            return None
        try:
            with zipfile.ZipFile(self.file) as records:
                damaged = records.testzip()  # compares the checksums, which torch does not
            if damaged:
                raise ValueError(f"{damaged} in it is damaged")
            owner = torch.load(self.file, map_location="cpu", weights_only=True).get(IDENTITY)
            reason = f"it is of the configuration {owner}, not {self.identity}"
        except Exception as error:  # zip, pickle and torch each raise their own errors
            owner, reason = None, one_line(error)[:200]
        if owner == self.identity:
            return self.file
        log.warning("%s cannot be used: %s", self.file, reason)
        print(f"{self.file}: a damaged or foreign checkpoint; the cell starts anew", file=sys.stderr, flush=True)
        return None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the cell's identity to the checkpoint."""
        checkpoint[IDENTITY] = self.identity

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sets the signal handlers again, since Lightning's own would end the training without a checkpoint."""
        super().on_train_start(trainer, pl_module)
        interruption.listen()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and ends after a block if that was asked; after the last block, the epoch's metrics come first."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if not trainer.is_last_batch:
            self._end_where_asked(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves if enough steps are complete, or if the process was asked to end."""
        super().on_train_epoch_end(trainer, pl_module)
        self._end_where_asked(trainer)

    def _end_where_asked(self, trainer: Trainer) -> None:
        if interruption.asked():
            trainer.save_checkpoint(self.file)
            interruption.check()


class WholeFiles(TorchCheckpointIO):
    """Checkpoint files that are replaced as a whole; Lightning's own move between file systems is a copy."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint, whole or not at all."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(path), lambda file: torch.save(checkpoint, file))
