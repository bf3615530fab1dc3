"""All that a run of a cell needs, with its replicas stacked and its steps captured as a CUDA graph where that pays."""

import inspect
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from rich.file_proxy import FileProxy

from bn_experiments.config import objects, stacking
from bn_experiments.config.cells import NAMED, Cell
from bn_experiments.config.objects import Config
from bn_experiments.config.space import Point, at, named
from bn_experiments.data.datamodule import DataModule
from bn_experiments.data.splits import Splits
from bn_experiments.models.existing.network import Existing
from bn_experiments.probes.probing import Probing
from bn_experiments.records.identity import config_hash, digest
from bn_experiments.records.progress import TRAINING
from bn_experiments.seeds import Stream
from bn_experiments.signatures import accepted
from bn_experiments.training.curves import Curves
from bn_experiments.training.module import Classification, Recipe
from bn_experiments.training.replicas import Replicas, SeparateReplicas, StackedReplicas
from bn_experiments.training.telling import Stage, Telling
from bn_experiments.training.trainer import Checkpoints, lightning_trainer, tensorboard_logger

ONE_BY_ONE = "replicas are trained one by one, for "  # with which a note begins; its reason follows


class Built(NamedTuple):
    """All that a run needs, made of one cell.

    Args:
        trainer: Lightning's trainer, with the callbacks below.
        module: The replicas, with their training step.
        data: The splits, and their batches.
        curves: The callback that keeps losses and metrics.
        probing: The callback that takes the probes' readings.
        checkpoints: The callback that saves; its identity is the configuration's hash.
        notes: What is done in another way than asked for or expected, and why.
    """

    trainer: Trainer
    module: Classification
    data: DataModule
    curves: Curves
    probing: Probing
    checkpoints: Checkpoints
    notes: list[str]


def build(cell: Cell, point: Point = MappingProxyType({}), alone: str | None = None) -> Built:
    """Makes all that a run of the cell needs: data first, then networks, then what watches them.

    Args:
        cell: The cell.
        point: The values of its tuned keys.
        alone: Why its replicas have to be trained one by one, if that is known before they are tried.
    """
    config = at(cell.config, point)
    columns = {**{group: cell.choices[group] for group in NAMED}, "lr": config["optimizer"]["lr"]}
    logger = tensorboard_logger(cell.folder, columns)
    probing = Probing(objects.probes(config), logger.experiment)
    stage = Stage(cell.folder, TRAINING, then=0)
    return _built(cell.folder, config_hash(cell.config), [config], [logger], probing, stage, alone)


def build_trials(cell: Cell, points: Sequence[Point], stage: Stage, alone: str | None = None) -> Built:
    """Makes what it takes to train all seeds of a cell at each of several points, all of them at once.

    Args:
        cell: The cell, whose seeds and folder are those of tuning.
        points: The points, which differ in keys that a stack may have many values of (see `space.packs`).
        stage: What these points are of all that the run of the cell trains.
        alone: See `build`.
    """
    settings = [{**at(cell.config, point), "probes": {}} for point in points]
    loggers = [tensorboard_logger(cell.folder / named(point)) for point in points]
    mark = digest({"cell": config_hash(cell.config), "points": [*points]})
    return _built(cell.folder, mark, settings, loggers, Probing({}, loggers[0].experiment), stage, alone)


def _built(
    folder: Path,
    identity: str,
    settings: Sequence[Config],
    loggers: Sequence[TensorBoardLogger],
    probing: Probing,
    stage: Stage,
    alone: str | None,
) -> Built:
    """What trains the seeds of all these configurations, which share all but how they are trained."""
    config = settings[0]
    seeds = [seed for one in settings for seed in objects.seeds(one)]
    options, count = config["trainer"], len(seeds)
    torch.set_num_threads(options["threads"])
    torch.manual_seed(config["seed"])  # for what draws from the global generator, such as other people's layers
    parts, batching, device = objects.splits(config, seeds), objects.batching(config), objects.device(config)
    found, captured = stacking.agreement_of(config, parts, device, count), captures(config)
    stacked, alone = stacking.stacks(config, parts, device, count), alone or found.alone
    if stacked and not alone:
        alone = stacking.unlike(config, parts)
    own = replicas(config, parts, stacked and not alone, *settings[1:])
    if options["precision"] == "64-true":
        own.double()  # Lightning would do so after it has loaded a checkpoint, whose digits would be gone
    notes = [f"{ONE_BY_ONE}{alone}"] if alone else []
    if captured and found.draws:
        captured = False
        notes.append("steps are not captured as a CUDA graph, for a pass draws random numbers")
    if found.anew:
        notes.append(f"a run that is cut short starts anew, for {found.anew}")
    notes += dict.fromkeys(note for each in own.modules() if isinstance(each, Existing) for note in each.notes)
    shares = [range(i, i + config["replicas"]) for i in range(0, count, config["replicas"])]
    recipes = [recipe(one, parts, share, captured) for one, share in zip(settings, shares, strict=True)]
    streams = [Stream(seed, "training") for seed in seeds] if found.draws else []
    losses, clip = objects.losses(config), objects.clip(config)
    module = Classification(own, recipes, losses, clip, captured, streams)
    augmentations = objects.augmentations(config, parts.input_shape)
    steps = stacking.steps_at_once(config, parts, device, count)
    data = DataModule(parts, seeds, batching, steps, augmentations)
    writers = [each.experiment for each in loggers]
    curves = Curves([*zip(writers, shares, strict=True)], options["log_every_n_steps"])
    size = objects.batch_size(config, parts)
    every_n_epochs = math.ceil(options["checkpoint_every_n_steps"] / (len(parts.train) / size))
    checkpoints = Checkpoints(folder, identity, every_n_epochs, goes_on=not found.anew)
    callbacks = [curves, probing, Telling(stage, curves), checkpoints]
    if isinstance(sys.stdout, FileProxy):  # of a sweep's display, which has the terminal to itself
        options = {**options, "progress_bar": False}
    trainer = lightning_trainer(loggers, callbacks, **accepted(lightning_trainer, options))
    return Built(trainer, module, data, curves, probing, checkpoints, notes)


def recipe(config: Config, splits: Splits, replicas: range, captured: bool) -> Recipe:
    """How some of the replicas are trained."""
    optimizer, elementwise = objects.optimizer(config, captured), objects.acts_elementwise(config)
    return Recipe(replicas, optimizer, elementwise, objects.schedule(config, splits))


def replicas(config: Config, splits: Splits, stacked: bool, *others: Config) -> Replicas:
    """All replicas of one or several configurations, initialized from their seeds, stacked or not."""
    each = ((one, seed) for one in (config, *others) for seed in objects.seeds(one))
    networks = [objects.initial_network(one, splits, seed) for one, seed in each]
    return StackedReplicas(networks) if stacked else SeparateReplicas(networks)


def captures(config: Config) -> bool:
    """Whether the training step is captured as a CUDA graph.

    It is not where a step reads a number off the device or counts in Python: with a cumulative batch norm, and with
    optimizers that torch does not make capturable.
    """
    options = config["trainer"]
    if not options["cuda_graph"] or objects.device(config) != "cuda":
        return False
    make = objects.target(config, "optimizer")
    counts_on_device = make is torch.optim.SGD or "capturable" in inspect.signature(make).parameters
    cumulative = config["norm"].get("momentum", 0.1) is None
    return counts_on_device and not cumulative
