"""Lightning's trainer, set up for one cell: one device, the cell's logger, and checkpoints to continue from."""

import logging
import math
import multiprocessing
import sys
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import TensorBoardLogger

from bn_experiments.records.results import checkpoint
from bn_experiments.refusal import one_line
from bn_experiments.system import interruption
from bn_experiments.system.files import write_whole

log = logging.getLogger(__name__)

HPARAMS_METRICS = ("test/acc", "test/loss")
MADE_BY = "made_by"  # the key in a checkpoint that says what made it (see `records.origin`)
IDENTITY = "config_hash"  # the key in a checkpoint that says which cell it belongs to


def lightning_trainer(
    loggers: Sequence[TensorBoardLogger],
    callbacks: Sequence[Callback],
    *,
    max_epochs: int,
    accelerator: str,
    precision: Any,
    deterministic: Literal["warn"] | bool,
    progress_bar: Literal["auto"] | bool,
) -> Trainer:
    """A trainer on one device, with Lightning's log in the cell's, and float32 as it is.

    Args:
        loggers: The logger into the cell's folder, or several into folders in it.
        callbacks: The callbacks, beside a progress bar.
        max_epochs: The epoch that training ends with.
        accelerator: auto, cpu, gpu or mps.
        precision: Lightning's name of a precision.
        deterministic: Whether torch uses deterministic algorithms alone; warn: where it has them.
        progress_bar: Whether to show one; auto: in a terminal, where no other cell trains side by side.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", "Checkpoint directory")  # that it holds checkpoints is normal here
    cast(Any, torch.utils.deterministic).fill_uninitialized_memory = False  # a debugging aid that costs time
    full_float32()
    alone = multiprocessing.current_process().name == "MainProcess"
    bar = (alone and sys.stdout.isatty()) if progress_bar == "auto" else progress_bar
    return Trainer(
        max_epochs=max_epochs,
        accelerator=accelerator,
        devices=1,
        precision=precision,
        deterministic=deterministic,
        default_root_dir=loggers[0].save_dir,
        logger=[*loggers],
        callbacks=[*callbacks, RichProgressBar(leave=False)] if bar else [*callbacks],
        plugins=[WholeFiles()],
        enable_progress_bar=bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=0,  # what is logged, the callbacks log
    )


def full_float32() -> None:
    """Lets cuDNN compute with all 24 bits of a float32; by default it rounds what a GPU convolves to TF32, with 11.

    Torch refuses `torch.backends.cudnn.allow_tf32`, the older name of both settings, once these are set.
    """
    cudnn = cast(Any, torch.backends.cudnn)
    for operation in (cudnn.conv, cudnn.rnn):  # matrix products are full by default
        operation.fp32_precision = "ieee"


def tensorboard_logger(folder: Path, hyperparameters: Mapping[str, Any] | None = None) -> TensorBoardLogger:
    """A logger into a cell's folder, in place of what an earlier try left there.

    Args:
        folder: The folder of the cell.
        hyperparameters: What TensorBoard's table of cells shows beside the metrics; None: it shows no such cell.
    """
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    logger = TensorBoardLogger(folder, name="", version="", default_hp_metric=False, flush_secs=5)
    if hyperparameters:
        logger.log_hyperparams(dict(hyperparameters), dict.fromkeys(HPARAMS_METRICS, math.nan))
    return logger


class Checkpoints(ModelCheckpoint):
    """Saves at the end of every n-th epoch, and before an interruption.

    If the process is asked to end, it completes its current block, saves there, also in the middle of an epoch, and
    raises `Interrupted`.

    Args:
        folder: The folder of the cell.
        identity: The hash that the cell's checkpoints carry and other cells' do not (see `identity.config_hash`).
        every_n_epochs: The number of epochs from one checkpoint to the next.
        goes_on: Whether the cell can go on from a checkpoint, which need not hold all of what its modules keep.

    Attributes:
        made_by: What made the weights, which a checkpoint carries on (see `records.origin.Origin`).
    """

    def __init__(self, folder: Path, identity: str, every_n_epochs: int, goes_on: bool = True):
        self.file = checkpoint(folder, identity)
        self.identity = identity
        self.goes_on = goes_on
        self.made_by: list[dict[str, Any]] = []
        super().__init__(
            self.file.parent,
            self.file.stem,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
            every_n_epochs=every_n_epochs,
        )

    def found(self) -> Path | None:
        """The checkpoint to continue from; None if there is none, or if it is damaged or belongs to another cell."""
        if not self.file.exists() or not self.goes_on:
            return None
        try:
            with zipfile.ZipFile(self.file) as records:
                damaged = records.testzip()  # compares the checksums, which torch does not
            if damaged:
                raise ValueError(f"{damaged} in it is damaged")
            content = torch.load(self.file, map_location="cpu", weights_only=True)
            owner = content.get(IDENTITY)
            reason = f"it is of the configuration {owner}, not {self.identity}"
            self.made_by = content.get(MADE_BY, [])
        except Exception as error:  # zip, pickle and torch each raise their own errors
            owner, reason = None, one_line(error)[:200]
        if owner == self.identity:
            return self.file
        log.warning("%s cannot be used: %s", self.file, reason)
        print(f"{self.file}: a damaged or foreign checkpoint; the cell starts anew", file=sys.stderr, flush=True)
        return None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the cell's identity, and what made the weights, to the checkpoint."""
        checkpoint[IDENTITY] = self.identity
        checkpoint[MADE_BY] = self.made_by

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
