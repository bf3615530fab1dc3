"""Lightning's trainer and logger, set up for one cell: one device, files in its folder, and a log of its own."""

import logging
import math
import multiprocessing
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.loggers import TensorBoardLogger

from bn_experiments.training.checkpoints import WholeFiles

HPARAMS_METRICS = ("test/acc", "test/loss")


def lightning_trainer(
    logger: TensorBoardLogger,
    callbacks: Sequence[Callback],
    *,
    max_epochs: int,
    accelerator: str,
    precision: Any,
    deterministic: Literal["warn"] | bool,
    progress_bar: Literal["auto"] | bool,
) -> Trainer:
    """A trainer on one device, with Lightning's log in the cell's.

    Args:
        logger: The logger into the cell's folder.
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
    alone = multiprocessing.current_process().name == "MainProcess"
    bar = (alone and sys.stdout.isatty()) if progress_bar == "auto" else progress_bar
    return Trainer(
        max_epochs=max_epochs,
        accelerator=accelerator,
        devices=1,
        precision=precision,
        deterministic=deterministic,
        default_root_dir=logger.save_dir,
        logger=logger,
        callbacks=[*callbacks, RichProgressBar(leave=False)] if bar else [*callbacks],
        plugins=[WholeFiles()],
        enable_progress_bar=bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=0,  # what is logged, the callbacks log
    )


def tensorboard_logger(folder: Path, hyperparameters: Mapping[str, Any]) -> TensorBoardLogger:
    """A logger into a cell's folder, in place of what an earlier try left there.

    Args:
        folder: The folder of the cell.
        hyperparameters: What TensorBoard's table of cells shows beside the metrics.
    """
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    logger = TensorBoardLogger(folder, name="", version="", default_hp_metric=False, flush_secs=5)
    logger.log_hyperparams(dict(hyperparameters), dict.fromkeys(HPARAMS_METRICS, math.nan))
    return logger
