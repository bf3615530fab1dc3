"""The main path: one cell of the grid, from its config to its result."""

import logging
import math
import multiprocessing
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.loggers import TensorBoardLogger

from bn_experiments.config import build
from bn_experiments.config.cells import Cell
from bn_experiments.config.options import TrainerOptions
from bn_experiments.data.batches import Batching
from bn_experiments.data.datamodule import DataModule
from bn_experiments.probes.probing import Probing
from bn_experiments.records.identity import config_hash
from bn_experiments.records.result import Result
from bn_experiments.signatures import accepted
from bn_experiments.system import provenance
from bn_experiments.training.checkpoints import Checkpoints, WholeFiles
from bn_experiments.training.curves import Curves
from bn_experiments.training.module import Classification

HPARAMS_METRICS = ("test/acc", "test/loss")


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Within it, numbers below 1e-38 count as zero; a processor takes a hundred times as long for each of them."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@flushed_denormals()
def run(cell: Cell) -> Result:
    """Trains and tests the replicas of a cell, and writes its record into its folder.

    A cell that was cut short goes on from its last checkpoint, and ends with the same numbers.

    Args:
        cell: One that `check.check` has nothing to say against.

    Returns:
        What was written to `result.json`.
    """
    started = time.perf_counter()
    config, folder, options = cell.config, cell.folder, build.trainer(cell.config)
    torch.set_num_threads(options.threads)
    torch.manual_seed(config["seed"])  # for what draws from the global generator, such as other people's layers
    splits = build.splits(config)
    replicas = build.replicas(config, splits, build.device(config))
    captured = build.captures(config)
    optimizer, scheduler = build.optimizer(config, captured), build.scheduler(config)
    module = Classification(replicas, optimizer, scheduler, options.gradient_clip_norm, captured)
    batching = Batching(**accepted(Batching, config["data"]))
    data = DataModule(splits, build.seeds(config), batching, options.steps_per_execution)

    logger = tensorboard(cell)
    curves = Curves(logger.experiment, config["replicas"], options.log_every_n_steps)
    probing = Probing(build.probes(config), logger.experiment)
    checkpoints = Checkpoints(folder, config_hash(config), options, steps=len(splits.train) / batching.batch_size)
    trainer = lightning_trainer(options, folder, logger, [curves, probing, checkpoints])
    setup_s = time.perf_counter() - started

    trainer.fit(module, data, ckpt_path=checkpoints.found(), weights_only=True)
    train_s = time.perf_counter() - started - setup_s
    trainer.save_checkpoint(checkpoints.file)
    trainer.test(module, data, verbose=False)

    metrics, diverged = score({**curves.last(), **module.metrics}, splits.num_classes)
    samples = sum(curves.sizes[curves.brought :]) * config["replicas"]
    result = Result(
        status="done",
        cell=cell.choices,
        config=config,
        config_hash=config_hash(config),
        seeds=list(build.seeds(config)),
        metrics=metrics,
        diverged=diverged,
        probes=probing.numbers(),
        timing={"setup_s": setup_s, "train_s": train_s, "samples_per_s": samples / train_s},
        device=provenance.device(build.device(config)),
        versions=provenance.versions(),
        git_commit=provenance.git_commit(),
    )
    logger.log_metrics({name: fmean(metrics[name]) for name in HPARAMS_METRICS}, options.max_epochs)
    logger.finalize("success")
    curves.write(folder)
    probing.write(folder)
    result.write(folder)
    return result


def tensorboard(cell: Cell) -> TensorBoardLogger:
    """A logger into the cell's own folder, in place of what an earlier try left there."""
    for old in cell.folder.glob("events.out.tfevents.*"):
        old.unlink()
    logger = TensorBoardLogger(cell.folder, name="", version="", default_hp_metric=False, flush_secs=5)
    parameters = {group: cell.choices[group] for group in ("data", "model", "norm", "optimizer")}
    unknown = dict.fromkeys(HPARAMS_METRICS, math.nan)
    logger.log_hyperparams({**parameters, "lr": cell.config["optimizer"]["lr"]}, unknown)
    return logger


def lightning_trainer(
    options: TrainerOptions, folder: Path, logger: TensorBoardLogger, callbacks: list[Callback]
) -> Trainer:
    """Lightning's trainer on one device, with its log in the cell's."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.captureWarnings(True)
    cast(Any, torch.utils.deterministic).fill_uninitialized_memory = False  # a debugging aid that costs time
    alone = multiprocessing.current_process().name == "MainProcess"
    bar = (alone and sys.stdout.isatty()) if options.progress_bar == "auto" else options.progress_bar
    return Trainer(
        max_epochs=options.max_epochs,
        accelerator=options.accelerator,
        devices=1,
        precision=options.precision,
        deterministic=options.deterministic,
        default_root_dir=folder,
        logger=logger,
        callbacks=[*callbacks, RichProgressBar(leave=False)] if bar else callbacks,
        plugins=[WholeFiles()],
        enable_progress_bar=bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=0,  # what is logged, the callbacks log
    )


def score(metrics: dict[str, torch.Tensor], num_classes: int) -> tuple[dict[str, list[float]], list[bool]]:
    """The final numbers; a replica whose loss is not finite counts at chance, and is never dropped.

    Chance: accuracy 1 / C, loss log C.

    Args:
        metrics: Name to (R,).
        num_classes: C.

    Returns:
        The metrics as lists, and whether each replica diverged.

    >>> score({"test/loss": torch.tensor([0.5, torch.nan]), "test/acc": torch.tensor([0.75, 0.0])}, 4)
    ({'test/loss': [0.5, 1.3862943611198906], 'test/acc': [0.75, 0.25]}, [False, True])
    """
    losses = torch.stack([values.cpu().double() for name, values in metrics.items() if name.endswith("loss")])
    diverged = ~losses.isfinite().all(0)
    chance = {"loss": math.log(num_classes), "acc": 1 / num_classes}
    scored = {
        name: values.cpu().double().masked_fill(diverged, chance[name.rpartition("/")[2]]).tolist()
        for name, values in metrics.items()
    }
    return scored, diverged.tolist()
