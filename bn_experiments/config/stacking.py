"""Stacking: whether the replicas of a cell are trained as one stack, which has to give what each gives alone."""

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from bn_experiments.config import objects
from bn_experiments.config.objects import Config
from bn_experiments.data.splits import Splits
from bn_experiments.refusal import one_line
from bn_experiments.training.agreement import Agreement, Trial, agreement
from bn_experiments.training.attributes import changed, memories
from bn_experiments.training.replicas import StackedReplicas

# Above this many floating-point operations a forward step of one replica, stacking gains nothing on a CPU,
# and grouped convolutions lose; measured on two cores with fully connected and convolutional networks.
STACKING_PAYS_BELOW_FLOPS = 30e6
MOST_AT_ONCE = 128  # replicas in a stack
MEMORY_BYTES = 8e9  # that a machine without a GPU is taken to have, so that its memory decides on no number
MOST_FLOPS_AT_ONCE = 1e12  # half a minute of a core, after which a signal is looked for


def stacks(config: Config, splits: Splits, device: str, count: int | None = None) -> bool:
    """Whether the replicas would be trained as one stacked network if that gives what each gives alone.

    With `auto` they are where it pays: on an accelerator always, and on a CPU where a step of one replica is small.
    This is a rule on the work, never a timing, so that the same configuration gives the same numbers.

    Args:
        config: The configuration.
        splits: The data set.
        device: The kind of device.
        count: How many replicas are trained at once, where this is not the number of seeds.
    """
    choice = config["trainer"]["stack_replicas"]
    if choice != "auto":
        return bool(choice)
    if (count or config["replicas"]) == 1:
        return False
    return device != "cpu" or forward_flops(config, splits) < STACKING_PAYS_BELOW_FLOPS


def steps_at_once(config: Config, splits: Splits, device: str, count: int | None = None) -> int:
    """The mini-batches of a block: `trainer.steps_per_execution`, or fewer on a CPU where these would take long.

    Args:
        config: The configuration.
        splits: The data set.
        device: The kind of device.
        count: How many replicas are trained at once, where this is not the number of seeds.
    """
    most = int(config["trainer"]["steps_per_execution"])
    if device != "cpu":
        return most
    in_a_step = (
        3 * (count or config["replicas"]) * forward_flops(config, splits)
    )  # a backward pass is two forward passes
    return min(most, max(1, int(MOST_FLOPS_AT_ONCE // max(in_a_step, 1))))


def most_at_once(config: Config, splits: Splits, device: str) -> int:
    """How many replicas one stack may have, where there are many: as many as a quarter of the memory holds.

    A replica takes its weights, their gradients, two averages of the optimizer, and what its modules put out, forwards
    and backwards.
    """
    memory = torch.cuda.get_device_properties(0).total_memory if device == "cuda" else MEMORY_BYTES
    network, numbers = objects.outline(config, splits), 0

    def count(module: torch.nn.Module, given: Any, output: Any) -> None:
        nonlocal numbers
        numbers += 2 * output.numel() if isinstance(output, torch.Tensor) else 0

    hooks = [module.register_forward_hook(count) for module in network.modules() if not [*module.children()]]
    with suppress(Exception), torch.device("meta"):  # of a network that reads a number off a tensor
        network(torch.empty(objects.batch_size(config, splits), *splits.input_shape))
    for hook in hooks:
        hook.remove()
    numbers += 4 * sum(parameter.numel() for parameter in network.parameters())
    return min(MOST_AT_ONCE, int(memory / 4 / (4 * numbers)))


def agreement_of(config: Config, splits: Splits, device: str, count: int | None = None) -> Agreement:
    """Whether the replicas can be stacked, and their run continued (see `training.agreement`).

    Networks of this package with norms and optimizers of torch and of this package are compared in its tests; all
    others are tried here.

    Args:
        config: The configuration.
        splits: The data set.
        device: The kind of device.
        count: How many replicas are trained at once, where this is not the number of seeds.
    """
    stacked = stacks(config, splits, device, count)
    mixed = stacked and config["trainer"]["precision"] == "bf16-mixed"
    reason = unstackable_in_mixed_precision(config, splits, device) if mixed else None
    if objects.is_known(config):
        return Agreement(reason or (unstackable(config, splits) if stacked else None), None, False)
    found = tried(config, splits, device, stacked and not reason)
    return replace(found, alone=reason or found.alone)


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
            loss=objects.losses(config).train,
            clip=objects.clip(config),
            examples=splits.train,
            sizes=sorted(objects.batching(config).sizes(len(splits.train)), reverse=True),
            stacks=stacked,
            device=at,
        )
    )


def unlike(config: Config, splits: Splits) -> str | None:
    """What the constructors of the replicas made different beside parameters and buffers; None if nothing.

    A stack has the modules of one network, with its plain attributes: what a constructor draws there, as a coin that
    decides on the kind of a layer, would be the same in all replicas.
    """
    if objects.is_known(config):
        return None
    first, *others = objects.seeds(config)

    def made(seed: int) -> dict[str, Any]:
        network = objects.initial_network(config, splits, seed)
        return memories(network) | {path: type(module).__qualname__ for path, module in network.named_modules()}

    own = made(first)
    for seed in others:
        if names := changed(own, made(seed)):
            return f"{names[0]} differs between the networks of the seeds {first} and {seed}"
    return None


def unstackable(config: Config, splits: Splits) -> str | None:
    """Why `torch.vmap` does not take the network, as where it reads a number off a tensor; None if it does."""
    try:
        pair = StackedReplicas([objects.outline(config, splits) for _ in range(2)])
        with torch.device("meta"):
            pair(torch.empty(2, objects.batch_size(config, splits), *splits.input_shape))
    except Exception as error:
        return one_line(error)
    return None


def unstackable_in_mixed_precision(config: Config, splits: Splits, device: str) -> str | None:
    """Why a stack cannot take a step in bfloat16, for which rules of `torch.vmap` may lack a kernel; None if it can."""
    at = "cuda" if device == "cuda" and torch.cuda.is_available() else "cpu"
    try:
        pair = StackedReplicas([objects.initial_network(config, splits, seed) for seed in range(2)]).to(at)
        with torch.autocast(at, torch.bfloat16):
            x = torch.zeros(2, objects.batch_size(config, splits), *splits.input_shape, device=at)
            pair(x).sum().backward()
    except Exception as error:
        return one_line(error)
    return None


def forward_flops(config: Config, splits: Splits) -> int:
    """Floating-point operations of one replica's forward pass on a mini-batch, counted undone where it can be."""
    from torch.utils.flop_counter import FlopCounterMode

    counter, network = FlopCounterMode(display=False), objects.outline(config, splits)
    some = torch.Generator().manual_seed(0)
    x = torch.randn(objects.batch_size(config, splits), *splits.input_shape, generator=some)
    try:
        with torch.device("meta"), counter:
            network(torch.empty(x.shape))
    except Exception:  # of a network that reads a number off a tensor
        network = objects.network(config, splits)
        with counter:
            network(x)
    return counter.get_total_flops()
