"""Checkpoints: from which a cell that was cut short goes on, whatever cut it."""

import logging
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from bn_experiments.system import interruption
from bn_experiments.system.files import write_whole

log = logging.getLogger(__name__)

IDENTITY = "config_hash"  # the key in a checkpoint that says whose it is


class Checkpoints(ModelCheckpoint):
    """Saves at the end of every n-th epoch, and before an interruption.

    A process that is asked to end does so after the block that it is at: it saves there, also in mid-epoch, and
    raises `Interrupted`.

    Args:
        folder: The folder of the cell.
        identity: What tells the cell's checkpoints from those of another (see `identity.config_hash`).
        options: Of the trainer.
        steps: An epoch's.
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
        """The checkpoint to go on from; None where there is none, or one that is damaged or another cell's."""
        if not self.file.exists():
            return None
        try:
            with zipfile.ZipFile(self.file) as records:
                damaged = records.testzip()  # by their checksums, which torch does not look at
            if damaged:
                raise ValueError(f"{damaged} in it is damaged")
            owner = torch.load(self.file, map_location="cpu", weights_only=True).get(IDENTITY)
            reason = f"it is of the configuration {owner}, not {self.identity}"
        except Exception as error:  # zip, pickle and torch each have their own
            owner, reason = None, " ".join(str(error).split())[:200]
        if owner == self.identity:
            return self.file
        log.warning("%s cannot be used: %s", self.file, reason)
        print(f"{self.file}: a damaged or foreign checkpoint; the cell starts anew", file=sys.stderr, flush=True)
        return None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Without Lightning's warning that there are checkpoints: they are meant to be."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Checkpoint directory")
            super().setup(trainer, pl_module, stage)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Writes down whose checkpoint it is."""
        checkpoint[IDENTITY] = self.identity

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals back from Lightning, which would end training without saving."""
        super().on_train_start(trainer, pl_module)
        interruption.listen()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and ends after a block where that was asked; after an epoch's last, its metrics come first."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if not trainer.is_last_batch:
            self._end_where_asked(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves where it is time, or the end was asked for."""
        super().on_train_epoch_end(trainer, pl_module)
        self._end_where_asked(trainer)

    def _end_where_asked(self, trainer: Trainer) -> None:
        if interruption.asked():
            trainer.save_checkpoint(self.file)
            interruption.check()


class WholeFiles(TorchCheckpointIO):
    """Lightning's checkpoint files, each replaced in one go: Lightning's own move is a copy between file systems."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(path), lambda file: torch.save(checkpoint, file))
