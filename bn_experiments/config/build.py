"""All that a run of a cell needs, with its replicas stacked and its steps captured as a CUDA graph where that pays."""

import inspect
import math
from typing import NamedTuple

import torch
from pytorch_lightning import Trainer

from bn_experiments.config import objects, stacking
from bn_experiments.config.cells import NAMED, Cell
from bn_experiments.config.objects import Config
from bn_experiments.data.datamodule import DataModule
from bn_experiments.data.splits import Splits
from bn_experiments.models.existing.network import Existing
from bn_experiments.probes.probing import Probing
from bn_experiments.records.identity import config_hash
from bn_experiments.seeds import Stream
from bn_experiments.signatures import accepted
from bn_experiments.training.curves import Curves
from bn_experiments.training.module import Classification
from bn_experiments.training.replicas import Replicas, SeparateReplicas, StackedReplicas
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


def build(cell: Cell, alone: str | None = None) -> Built:
    """Makes all that a run of the cell needs: data first, then networks, then what watches them.

    Args:
        cell: The cell.
        alone: Why its replicas have to be trained one by one, if that is known before they are tried.
    """
    config, options = cell.config, cell.config["trainer"]
    torch.set_num_threads(options["threads"])
    torch.manual_seed(config["seed"])  # for what draws from the global generator, such as other people's layers
    parts, batching, device = objects.splits(config), objects.batching(config), objects.device(config)
    found, captured = stacking.agreement_of(config, parts, device), captures(config)
    stacked, alone = stacking.stacks(config, parts, device), alone or found.alone
    if stacked and not alone:
        alone = stacking.unlike(config, parts)
    own = replicas(config, parts, stacked and not alone)
    notes = [f"{ONE_BY_ONE}{alone}"] if alone else []
    if captured and found.draws:
        captured = False
        notes.append("steps are not captured as a CUDA graph, for a pass draws random numbers")
    if found.anew:
        notes.append(f"a run that is cut short starts anew, for {found.anew}")
    notes += dict.fromkeys(note for each in own.modules() if isinstance(each, Existing) for note in each.notes)
    optimizer, schedule = objects.optimizer(config, captured), objects.schedule(config, parts)
    streams = [Stream(seed, "training") for seed in objects.seeds(config)] if found.draws else []
    elementwise, losses, clip = objects.acts_elementwise(config), objects.losses(config), objects.clip(config)
    module = Classification(own, optimizer, elementwise, schedule, losses, clip, captured, streams)
    augmentations = objects.augmentations(config, parts.input_shape)
    steps = stacking.steps_at_once(config, parts, device)
    data = DataModule(parts, objects.seeds(config), batching, steps, augmentations)
    columns = {**{group: cell.choices[group] for group in NAMED}, "lr": config["optimizer"]["lr"]}
    logger = tensorboard_logger(cell.folder, columns)
    curves = Curves(logger.experiment, config["replicas"], options["log_every_n_steps"])
    probing = Probing(objects.probes(config), logger.experiment)
    size = objects.batch_size(config, parts)
    every_n_epochs = math.ceil(options["checkpoint_every_n_steps"] / (len(parts.train) / size))
    checkpoints = Checkpoints(cell.folder, config_hash(config), every_n_epochs, goes_on=not found.anew)
    trainer = lightning_trainer(logger, [curves, probing, checkpoints], **accepted(lightning_trainer, options))
    return Built(trainer, module, data, curves, probing, checkpoints, notes)


def replicas(config: Config, splits: Splits, stacked: bool) -> Replicas:
    """All replicas, initialized from their seeds, stacked or not."""
    networks = [objects.initial_network(config, splits, seed) for seed in objects.seeds(config)]
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
