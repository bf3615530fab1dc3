"""The dry run: what a cell describes, made without its weights, so that what cannot train is known at once."""

from collections.abc import Collection

import torch
from torch import nn

from bn_experiments.config import dry_step, objects
from bn_experiments.config.cells import Cell
from bn_experiments.config.errors import from_others, reason_of
from bn_experiments.config.objects import Config
from bn_experiments.config.once import Once
from bn_experiments.data.batches import Batching
from bn_experiments.data.splits import Splits
from bn_experiments.norms.slot import norms_of
from bn_experiments.refusal import Refusal
from bn_experiments.signatures import accepted
from bn_experiments.system.memory import refuse_what_does_not_fit
from bn_experiments.training.initialization import initialize
from bn_experiments.training.replicas import StackedReplicas

NETWORK = ("data", "model", "norm", "init", "replicas", "probes", "trainer")  # what decides whether networks can train


def dry_run(cell: Cell, wrong: Collection[str], once: Once) -> list[Refusal]:
    """What is wrong with what a cell's options make.

    Args:
        cell: The cell. What is made of it is made here too, but for the weights.
        wrong: Groups whose options are wrong, and "" for the keys of no group: nothing is made of them.
        once: The answers that were found for other cells.
    """
    config = cell.config
    refusals = [] if "trainer" in wrong else [*once(_device, config, "trainer")]
    makes_network = not refusals and not {"", "trainer", "model", "norm"} & set(wrong)
    if "probes" in wrong:
        config = {**config, "probes": {}}
    if makes_network and not {"data", "paths"} & set(wrong):
        refusals += once(_data_and_network, config, *NETWORK, model=cell.choices["model"], norm=cell.choices["norm"])
    elif not {"data", "paths"} & set(wrong):
        refusals += once(_data, config, "data")
    if "optimizer" not in wrong:
        refusals += once(dry_step.takes_options, config, "optimizer")
    return refusals


def _data(config: Config) -> list[Refusal]:
    try:
        objects.splits(config)
    except (Exception, SystemExit) as error:
        return [from_others("data", error)]
    return []


def _data_and_network(config: Config, model: str, norm: str) -> list[Refusal]:
    try:
        splits = objects.splits(config)
    except (Exception, SystemExit) as error:
        return [from_others("data", error)]
    try:
        return _network(config, splits, model, norm)
    except (Exception, SystemExit) as error:
        return [from_others("model, norm", error)]


def _device(config: Config) -> list[Refusal]:
    device = objects.device(config)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if there[device]:
        return []
    names = {"cuda": "gpu"}
    allowed = ", ".join(["auto", *(names.get(name, name) for name, is_there in there.items() if is_there)])
    got = "there is none here"
    remedy = "leave it at auto"
    return [Refusal("trainer.accelerator", got, allowed, remedy, value=config["trainer"]["accelerator"])]


def _network(config: Config, splits: Splits, model: str, norm: str) -> list[Refusal]:
    bytes_per_number = 8 if config["trainer"]["precision"] == "64-true" else 4
    fits = refuse_what_does_not_fit(config["replicas"], bytes_per_number, objects.device(config))
    with torch.device("meta"), fits:
        network = objects.network(config, splits)
    initialize(network, 0, config["init"], config["norm"]["scale_init"])
    return _no_place(config, network, model, norm) or _batches(config, network.to_empty(device="cpu"), splits)


def _no_place(config: Config, network: nn.Module, model: str, norm: str) -> list[Refusal]:
    """A norm that found no layer would make two arms the same."""
    parametrized = any(nn.utils.parametrize.is_parametrized(module) for module in network.modules())
    if config["norm"]["_target_"] is None or norms_of(network) or parametrized:
        return []
    got = f"adds nothing to model={model} with norm.layers={config['norm']['layers']}, so it would be norm=none"
    remedy = "choose another model or norm, or set norm.layers"
    return [Refusal("norm", got, "a norm that has a place in the model", remedy, value=norm)]


def _batches(config: Config, network: nn.Module, splits: Splits) -> list[Refusal]:
    """Pushes batches through the network, whose weights are whatever the memory held; its counters are zero."""
    for buffer in network.buffers():
        buffer.zero_()
    batching, count = Batching(**accepted(Batching, config["data"])), len(splits.train)
    sizes = batching.sizes(count)
    if not sizes:
        got = f"more than the {count} training examples, and data.drop_last leaves no batch"
        remedy = "lower it, or set data.drop_last=false"
        return [Refusal("data.batch_size", got, f"1 to {count}", remedy, value=batching.batch_size)]
    if error := _push(network, splits, 2):
        return [from_others("model, norm", error)]
    if 1 in sizes and _push(network, splits, 1):
        remedy = "set data.drop_last=true" if batching.batch_size > 1 else "change the norm"
        got = f"leaves a batch of one of the {count} training examples, and the norm needs two"
        allowed = "a size that leaves none or more than one"
        return [Refusal("data.batch_size", got, allowed, f"change it, or {remedy}", value=batching.batch_size)]
    if (lonely := _probes_of_one(config, splits)) and _push(network, splits, 1):
        return lonely
    if config["trainer"]["stack_replicas"] is True and (error := _push(StackedReplicas([network] * 2), splits, 2)):
        got = f"the network cannot be stacked ({reason_of(error)})"
        return [Refusal("trainer.stack_replicas=true", got, "auto or false", "set it to auto")]
    return []


def _probes_of_one(config: Config, splits: Splits) -> list[Refusal]:
    """A refusal of each probe that would put a batch of one example through a network in training mode."""
    refusals = []
    for name, keys in config["probes"].items():
        lonely = [batch for batch in objects.probe(config, name).training_batches(splits) if batch.size == 1]
        counts = {batch.split: len(getattr(splits, batch.split)) for batch in lonely}
        if lonely:
            option, split, _ = min(lonely, key=lambda batch: counts[batch.split])
            got = f"makes a batch of one of the {counts[split]} examples of {split}, and the norm needs two"
            remedy = f"change it or the split, or leave {name} out of probes=[...]"
            refusals.append(Refusal(f"probes.{name}.{option}", got, "two or more", remedy, value=keys[option]))
    return refusals


def _push(network: nn.Module, splits: Splits, size: int) -> BaseException | None:
    """What goes wrong with a training batch of `size` examples, if anything does."""
    stack = (2,) if isinstance(network, StackedReplicas) else ()
    try:
        logits = network(torch.zeros(*stack, size, *splits.input_shape))
    except (Exception, SystemExit) as error:
        return error
    due = (*stack, size, splits.num_classes)
    return None if tuple(logits.shape) == due else ValueError(f"it gives {tuple(logits.shape)}, not {due}")
