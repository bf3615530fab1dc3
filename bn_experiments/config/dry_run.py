"""The trial: what a cell's config makes, made without its weights, so that what cannot train is known at once."""

import json
import re
import textwrap
from collections.abc import Collection, Iterator
from functools import lru_cache

import torch
from torch import nn

from bn_experiments.config import build
from bn_experiments.config.build import Config
from bn_experiments.config.cells import Cell
from bn_experiments.data.batches import Batching
from bn_experiments.data.splits import Splits
from bn_experiments.norms.slot import norms_of
from bn_experiments.refusal import Refusal, shown
from bn_experiments.signatures import accepted
from bn_experiments.system.memory import bounded
from bn_experiments.training.initialization import initialize
from bn_experiments.training.replicas import StackedReplicas


def rehearse(cell: Cell, wrong: Collection[str]) -> list[Refusal]:
    """What is wrong with what a cell's options make.

    Args:
        cell: What is made of it is made here too, but for the weights.
        wrong: Groups whose options are wrong, and "" for the keys of no group: nothing is made of them.
    """
    config = cell.config
    lines = [] if "trainer" in wrong else _device(config)
    makes_network = not lines and not {"", "trainer", "model", "norm"} & set(wrong)
    if not {"data", "paths"} & set(wrong):
        data = splits(json.dumps(config["data"]))
        if isinstance(data, Refusal):
            lines.append(data)
        elif makes_network:
            try:
                lines += _network(cell, data, "probes" in wrong)
            except Exception as error:
                lines.append(as_refusal("model, norm", error))
    if "optimizer" not in wrong:
        lines += _optimizer(config)
    return lines


def as_refusal(groups: str, error: Exception) -> Refusal:
    """An error as a line: this program's are lines already, other people's are about the keys of the groups."""
    if isinstance(error, Refusal):
        return error
    return Refusal(
        groups, f"does not work as set ({_reason(error)})", "what the class takes", f"change the keys of {groups}"
    )


@lru_cache(maxsize=8)
def splits(data: str) -> Splits | Refusal:
    """The splits that the data group, as JSON, describes, or why there are none; the cells of a grid share them."""
    try:
        return build.splits({"data": json.loads(data)})
    except Exception as error:
        return as_refusal("data", error)


def _device(config: Config) -> list[Refusal]:
    device = build.device(config)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if there[device]:
        return []
    names = {"cuda": "gpu"}
    allowed = ", ".join(["auto", *(names.get(name, name) for name, is_there in there.items() if is_there)])
    return [
        Refusal(
            "trainer.accelerator",
            "there is none here",
            allowed,
            "leave it at auto",
            value=config["trainer"]["accelerator"],
        )
    ]


class _Accepted(Exception):
    """Raised where an optimizer turns from its options to the parameters."""


def _optimizer(config: Config) -> list[Refusal]:
    """What the optimizer says to its options; torch's do so first, and making a whole one takes two seconds."""

    def parameters() -> Iterator[nn.Parameter]:
        raise _Accepted
        yield

    try:
        build.optimizer(config)(parameters())
    except _Accepted:
        return []
    except Exception as error:
        return [_refusal(config, "optimizer", error)]
    return []


def step(config: Config) -> list[Refusal]:
    """What is wrong with the optimizer and the scheduler as they take a step."""
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    try:
        optimizer = build.optimizer(config)([parameter])
        optimizer.step()
    except Exception as error:
        return [_refusal(config, "optimizer", error)]
    try:
        scheduler = build.scheduler(config)(optimizer)
        optimizer.step()  # a scheduler warns where it steps first
        scheduler.step()
    except Exception as error:
        return [_refusal(config, "scheduler", error)]
    return []


def _refusal(config: Config, group: str, error: Exception) -> Refusal:
    """The line for options that a class of torch's refuses; torch tends to name the argument."""
    reason = _reason(error)
    named = [
        f"{group}.{key}={shown(value)}"
        for key, value in build.options(config, group).items()
        if re.search(rf"\b({key}|{key.removesuffix('s')}\b)", reason, re.IGNORECASE)
    ]
    target = config[group]["_target_"]
    return Refusal(
        str(", ".join(named) or group),
        f"{target} refuses this ({reason})",
        f"what the documentation of {target} says",
        "change it",
    )


def _network(cell: Cell, splits: Splits, probes_are_wrong: bool) -> list[Refusal]:
    config = cell.config
    bytes_per_number = 8 if config["trainer"]["precision"] == "64-true" else 4
    with torch.device("meta"), bounded(config["replicas"], bytes_per_number, build.device(config)):
        network = build.network(config, splits)
    initialize(network, config["seed"], config["init"], config["norm"]["scale_init"])
    probes = {} if probes_are_wrong else config["probes"]
    return _no_slot(cell, network) or _batches({**config, "probes": probes}, network.to_empty(device="cpu"), splits)


def _no_slot(cell: Cell, network: nn.Module) -> list[Refusal]:
    """A norm that found no layer would make two arms the same."""
    config = cell.config
    parametrized = any(nn.utils.parametrize.is_parametrized(module) for module in network.modules())
    if config["norm"]["_target_"] is None or norms_of(network) or parametrized:
        return []
    return [
        Refusal(
            "norm",
            f"adds nothing to model={cell.choices['model']} with norm.layers={config['norm']['layers']}, so it would "
            "be norm=none",
            "a norm that has a place in the model",
            "choose another model or norm, or set norm.layers",
            value=cell.choices["norm"],
        )
    ]


def _batches(config: Config, network: nn.Module, splits: Splits) -> list[Refusal]:
    """Pushes batches through the network, whose weights are whatever the memory held; its counters are zero."""
    for buffer in network.buffers():
        buffer.zero_()
    batching, count = Batching(**accepted(Batching, config["data"])), len(splits.train)
    sizes = batching.sizes(count)
    if not sizes:
        return [
            Refusal(
                "data.batch_size",
                f"more than the {count} training examples, and data.drop_last leaves no batch",
                f"1 to {count}",
                "lower it, or set data.drop_last=false",
                value=batching.batch_size,
            )
        ]
    if error := _push(network, splits, 2):
        return [as_refusal("model, norm", error)]
    if 1 in sizes and _push(network, splits, 1):
        mend = "set data.drop_last=true" if batching.batch_size > 1 else "change the norm"
        return [
            Refusal(
                "data.batch_size",
                f"leaves a batch of one of the {count} training examples, and the norm needs two",
                "a size that leaves none or more than one",
                f"change it, or {mend}",
                value=batching.batch_size,
            )
        ]
    if (lonely := _probes_of_one(config, splits)) and _push(network, splits, 1):
        return lonely
    if config["trainer"]["stack_replicas"] is True and (error := _push(StackedReplicas([network] * 2), splits, 2)):
        return [
            Refusal(
                "trainer.stack_replicas=true",
                f"the network cannot be stacked ({_reason(error)})",
                "auto or false",
                "set it to auto",
            )
        ]
    return []


def _probes_of_one(config: Config, splits: Splits) -> list[Refusal]:
    """One line for each probe that would put a batch of one example through a network in training mode."""
    lines = []
    for name, keys in config["probes"].items():
        batches = build.probe(config, name).training_batches(splits)
        counts = {batch.split: len(getattr(splits, batch.split)) for batch in batches}
        lonely = [batch for batch in batches if batch.size == 1]
        if lonely:
            option, split, _ = min(lonely, key=lambda batch: counts[batch.split])
            lines.append(
                Refusal(
                    f"probes.{name}.{option}",
                    f"makes a batch of one of the {counts[split]} examples of {split}, and the norm needs two",
                    "two or more",
                    f"change it or the split, or leave {name} out of probes=[...]",
                    value=keys[option],
                )
            )
    return lines


def _push(network: nn.Module, splits: Splits, size: int) -> Exception | None:
    """What goes wrong with a training batch of `size` examples, if anything does."""
    stack = (2,) if isinstance(network, StackedReplicas) else ()
    try:
        logits = network(torch.zeros(*stack, size, *splits.input_shape))
    except Exception as error:
        return error
    due = (*stack, size, splits.num_classes)
    return None if tuple(logits.shape) == due else ValueError(f"it gives {tuple(logits.shape)}, not {due}")


def _reason(error: Exception) -> str:
    return textwrap.shorten((str(error).strip() or type(error).__name__).splitlines()[0], 200, placeholder="...")
