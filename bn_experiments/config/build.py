"""All that a run of a cell needs, with its replicas stacked and its steps captured as a CUDA graph where that pays."""

import inspect
import math
from contextlib import suppress
from typing import NamedTuple

import torch
from pytorch_lightning import Trainer

from bn_experiments.config import objects
from bn_experiments.config.cells import NAMED, Cell
from bn_experiments.config.objects import Config
from bn_experiments.data.datamodule import DataModule
from bn_experiments.data.splits import Splits
from bn_experiments.probes.probing import Probing
from bn_experiments.records.identity import config_hash
from bn_experiments.signatures import accepted
from bn_experiments.training.curves import Curves
from bn_experiments.training.initialization import initialize
from bn_experiments.training.module import Classification
from bn_experiments.training.replicas import Replicas, SeparateReplicas, StackedReplicas
from bn_experiments.training.trainer import Checkpoints, lightning_trainer, tensorboard_logger

# Above this many floating-point operations a forward step of one replica, stacking gains nothing on a CPU,
# and grouped convolutions lose; measured on two cores with fully connected and convolutional networks.
STACKING_PAYS_BELOW_FLOPS = 30e6


class Built(NamedTuple):
    """All that a run needs, made of one cell.

    Args:
        trainer: Lightning's trainer, with the callbacks below.
        module: The replicas, with their training step.
        data: The splits, and their batches.
        curves: The callback that keeps losses and metrics.
        probing: The callback that takes the probes' readings.
        checkpoints: The callback that saves; its identity is the configuration's hash.
    """

    trainer: Trainer
    module: Classification
    data: DataModule
    curves: Curves
    probing: Probing
    checkpoints: Checkpoints


def build(cell: Cell) -> Built:
    """Makes all that a run of the cell needs: data first, then networks, then what watches them."""
    config, options = cell.config, cell.config["trainer"]
    torch.set_num_threads(options["threads"])
    torch.manual_seed(config["seed"])  # for what draws from the global generator, such as other people's layers
    parts, batching = objects.splits(config), objects.batching(config)
    captured = captures(config)
    stack = replicas(config, parts, objects.device(config))
    optimizer, scheduler = objects.optimizer(config, captured), objects.scheduler(config)
    module = Classification(stack, optimizer, scheduler, options["gradient_clip_norm"], captured)
    data = DataModule(parts, objects.seeds(config), batching, options["steps_per_execution"])
    columns = {**{group: cell.choices[group] for group in NAMED}, "lr": config["optimizer"]["lr"]}
    logger = tensorboard_logger(cell.folder, columns)
    curves = Curves(logger.experiment, config["replicas"], options["log_every_n_steps"])
    probing = Probing(objects.probes(config), logger.experiment)
    every_n_epochs = math.ceil(options["checkpoint_every_n_steps"] / (len(parts.train) / batching.batch_size))
    checkpoints = Checkpoints(cell.folder, config_hash(config), every_n_epochs)
    trainer = lightning_trainer(logger, [curves, probing, checkpoints], **accepted(lightning_trainer, options))
    return Built(trainer, module, data, curves, probing, checkpoints)


def replicas(config: Config, splits: Splits, device: str) -> Replicas:
    """All replicas, initialized from their seeds, stacked or not."""
    networks = [objects.network(config, splits) for _ in objects.seeds(config)]
    for network, seed in zip(networks, objects.seeds(config), strict=True):
        initialize(network, seed, config["init"], objects.slot(config).scale_init)
    return StackedReplicas(networks) if stacks(config, splits, device) else SeparateReplicas(networks)


def stacks(config: Config, splits: Splits, device: str) -> bool:
    """Whether the replicas are trained as one stacked network.

    With `auto` they are where it pays and the network can be stacked. It pays on an accelerator always, and on a
    CPU where a step of one replica is small. This is a rule on the work, never a timing, so that the same
    configuration gives the same numbers.
    """
    choice = config["trainer"]["stack_replicas"]
    if choice != "auto":
        return bool(choice)
    pays = device != "cpu" or forward_flops(config, splits) < STACKING_PAYS_BELOW_FLOPS
    return config["replicas"] > 1 and pays and can_be_stacked(config, splits)


def can_be_stacked(config: Config, splits: Splits) -> bool:
    """Whether `torch.vmap` takes the network.

    It does not where the network reads a number off a tensor, as a cumulative batch norm does, nor in mixed
    precision, for which torch's rules for norms are not made.
    """
    if config["trainer"]["precision"] == "bf16-mixed":
        return False
    with torch.device("meta"), suppress(Exception):
        pair = StackedReplicas([objects.network(config, splits) for _ in range(2)])
        pair(torch.empty(2, config["data"]["batch_size"], *splits.input_shape))
        return True
    return False


def forward_flops(config: Config, splits: Splits) -> int:
    """Floating-point operations of one replica's forward pass on a mini-batch, counted without doing them."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        objects.network(config, splits).eval()(torch.empty(config["data"]["batch_size"], *splits.input_shape))
    return counter.get_total_flops()


def captures(config: Config) -> bool:
    """Whether the training step is captured as a CUDA graph.

    It is not in mixed precision, nor where a step reads a number off the device or counts in Python: with a
    cumulative batch norm, and with optimizers that torch does not make capturable.
    """
    options = config["trainer"]
    if not options["cuda_graph"] or options["precision"] == "bf16-mixed" or objects.device(config) != "cuda":
        return False
    make = objects.target(config, "optimizer")
    counts_on_device = make is torch.optim.SGD or "capturable" in inspect.signature(make).parameters
    cumulative = config["norm"].get("momentum", 0.1) is None
    return counts_on_device and not cumulative
