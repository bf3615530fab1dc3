"""Stacking: whether the replicas of a cell are trained as one stack, which has to give what each gives alone."""

from dataclasses import replace
from functools import partial

import torch

from bn_experiments.config import objects
from bn_experiments.config.objects import Config
from bn_experiments.data.splits import Splits
from bn_experiments.refusal import one_line
from bn_experiments.training.agreement import Agreement, Trial, agreement
from bn_experiments.training.replicas import StackedReplicas

# Above this many floating-point operations a forward step of one replica, stacking gains nothing on a CPU,
# and grouped convolutions lose; measured on two cores with fully connected and convolutional networks.
STACKING_PAYS_BELOW_FLOPS = 30e6


def stacks(config: Config, splits: Splits, device: str) -> bool:
    """Whether the replicas would be trained as one stacked network if that gives what each gives alone.

    With `auto` they are where it pays: on an accelerator always, and on a CPU where a step of one replica is small.
    This is a rule on the work, never a timing, so that the same configuration gives the same numbers.
    """
    choice = config["trainer"]["stack_replicas"]
    if choice != "auto":
        return bool(choice)
    return config["replicas"] > 1 and (device != "cpu" or forward_flops(config, splits) < STACKING_PAYS_BELOW_FLOPS)


def agreement_of(config: Config, splits: Splits, device: str) -> Agreement:
    """Whether the replicas can be stacked, and their run continued (see `training.agreement`).

    Networks of this package with norms and optimizers of torch and of this package are compared in its tests; all
    others are tried here.
    """
    stacked, options, mixed = stacks(config, splits, device), config["trainer"], None
    if stacked and options["precision"] == "bf16-mixed":
        stacked, mixed = False, "torch has no rules for stacks of norms in mixed precision"
    if objects.is_known(config):
        return Agreement(mixed or (unstackable(config, splits) if stacked else None), None, False)
    found = tried(config, splits, device, stacked)
    return replace(found, alone=mixed or found.alone)


def tried(config: Config, splits: Splits, device: str, stacked: bool) -> Agreement:
    """What a few steps of two replicas show, whatever the networks are (see `training.agreement`).

    Args:
        config: The configuration of the cell.
        splits: The data set.
        device: The kind of device that the cell is trained on.
        stacked: Whether a stack is tried too.
    """
    at = "cuda" if device == "cuda" and torch.cuda.is_available() else "cpu"  # mps has no float64
    return agreement(
        Trial(
            make=partial(objects.initial_network, config, splits),
            optimizer=objects.optimizer(config),
            elementwise=objects.acts_elementwise(config),
            clip=config["trainer"]["gradient_clip_norm"],
            examples=splits.train,
            batch_size=config["data"]["batch_size"],
            stacks=stacked,
            device=at,
        )
    )


def unstackable(config: Config, splits: Splits) -> str | None:
    """Why `torch.vmap` does not take the network, as where it reads a number off a tensor; None if it does."""
    try:
        with torch.device("meta"):
            pair = StackedReplicas([objects.network(config, splits) for _ in range(2)])
            pair(torch.empty(2, config["data"]["batch_size"], *splits.input_shape))
    except Exception as error:
        return one_line(error)
    return None


def forward_flops(config: Config, splits: Splits) -> int:
    """Floating-point operations of one replica's forward pass on a mini-batch, counted undone where it can be."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    try:
        with torch.device("meta"), counter:
            objects.network(config, splits)(torch.empty(config["data"]["batch_size"], *splits.input_shape))
    except Exception:  # of a network that reads a number off a tensor
        with counter:
            objects.network(config, splits)(torch.zeros(config["data"]["batch_size"], *splits.input_shape))
    return counter.get_total_flops()
