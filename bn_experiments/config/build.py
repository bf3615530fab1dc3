"""All that a run of a cell needs, made of its configuration."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger

from bn_experiments.config import engine, objects
from bn_experiments.config.cells import Cell
from bn_experiments.data.batches import Batching
from bn_experiments.data.datamodule import DataModule
from bn_experiments.probes.probing import Probing
from bn_experiments.records.identity import config_hash
from bn_experiments.signatures import accepted
from bn_experiments.training.curves import Curves
from bn_experiments.training.module import Classification
from bn_experiments.training.trainer import Checkpoints, lightning_trainer, tensorboard_logger


@dataclass(frozen=True)
class Built:
    """All that a run needs, made of one cell.

    Args:
        trainer: Lightning's trainer, with the callbacks below.
        module: The replicas, with their training step.
        data: The splits, and their batches.
        logger: TensorBoard's, into the cell's folder.
        curves: The callback that keeps losses and metrics.
        probing: The callback that takes the probes' readings.
        checkpoints: The callback that saves; its identity is the configuration's hash.
    """

    trainer: Trainer
    module: Classification
    data: DataModule
    logger: TensorBoardLogger
    curves: Curves
    probing: Probing
    checkpoints: Checkpoints


def build(cell: Cell) -> Built:
    """Makes all that a run of the cell needs: data first, then networks, then what watches them."""
    config, options = cell.config, objects.trainer(cell.config)
    torch.set_num_threads(options.threads)
    torch.manual_seed(config["seed"])  # for what draws from the global generator, such as other people's layers
    parts = objects.splits(config)
    batching = Batching(**accepted(Batching, config["data"]))
    captured = engine.captures(config)
    module = Classification(
        engine.replicas(config, parts, objects.device(config)),
        objects.optimizer(config, captured),
        objects.scheduler(config),
        options.gradient_clip_norm,
        captured,
    )
    logger = tensorboard_logger(cell.folder, hyperparameters(cell))
    curves = Curves(logger.experiment, config["replicas"], options.log_every_n_steps)
    probing = Probing(objects.probes(config), logger.experiment)
    every_n_epochs = math.ceil(options.checkpoint_every_n_steps / (len(parts.train) / batching.batch_size))
    checkpoints = Checkpoints(cell.folder, config_hash(config), every_n_epochs)
    callbacks = [curves, probing, checkpoints]
    keywords = accepted(lightning_trainer, asdict(options))
    return Built(
        trainer=lightning_trainer(logger, callbacks, **keywords),
        module=module,
        data=DataModule(parts, objects.seeds(config), batching, options.steps_per_execution),
        logger=logger,
        curves=curves,
        probing=probing,
        checkpoints=checkpoints,
    )


def hyperparameters(cell: Cell) -> dict[str, Any]:
    """The columns of TensorBoard's table of cells, beside the metrics."""
    groups = {group: cell.choices[group] for group in ("data", "model", "norm", "optimizer")}
    return {**groups, "lr": cell.config["optimizer"]["lr"]}
