"""The dry run: what a configuration describes, made without its weights, so that what cannot train is known at once.

A function returns refusals where there can be several, and raises one that is alone.
"""

import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

from bn_experiments.config import objects, stacking
from bn_experiments.config.errors import blamed_on, reason_of
from bn_experiments.config.objects import Config
from bn_experiments.data.splits import Splits
from bn_experiments.norms.slot import norms_of
from bn_experiments.refusal import Refusal, shown
from bn_experiments.system.memory import refuse_what_does_not_fit
from bn_experiments.training.initialization import initialize


def device(config: Config) -> None:
    """Raises a refusal where this machine lacks the accelerator."""
    there = {"auto": True, "cpu": True, "gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    chosen = config["trainer"]["accelerator"]
    if not there[chosen]:
        allowed = ", ".join(name for name, is_there in there.items() if is_there)
        raise Refusal("trainer.accelerator", "there is none here", allowed, "leave it at auto", value=chosen)


@blamed_on("data")
def data(config: Config) -> None:
    """Loads and splits the data, and raises a refusal of what is wrong with it."""
    objects.splits(config)


def data_and_network(config: Config, model: str, norm: str, elsewhere: bool) -> list[Refusal]:
    """What is wrong with the data, which is raised, and with the network where the data is right.

    Args:
        config: The configuration.
        model: The option of the model, for the refusals.
        norm: The option of the norm, for the refusals.
        elsewhere: Whether it trains on another machine, whose memory is not known.
    """
    with blamed_on("data"):
        splits = objects.splits(config)
    with blamed_on("model, norm"):
        return _network(config, splits, model, norm, None if elsewhere else objects.device(config))


def _network(config: Config, splits: Splits, model: str, norm: str, device: str | None) -> list[Refusal]:
    bytes_per_number = 8 if config["trainer"]["precision"] == "64-true" else 4
    fits = refuse_what_does_not_fit(config["replicas"], bytes_per_number, device)
    with torch.device("meta"), fits:
        network = objects.network(config, splits)
    initialize(network, 0, config["init"], objects.slot(config).scale_init)
    parametrized = any(nn.utils.parametrize.is_parametrized(module) for module in network.modules())
    if config["norm"]["_target_"] and not norms_of(network) and not parametrized:
        got = f"adds nothing to model={model} with norm.layers={config['norm']['layers']}, so it would be norm=none"
        remedy = "choose another model or norm, or set norm.layers"
        raise Refusal("norm", got, "a norm that has a place in the model", remedy, value=norm)
    return _batches(config, network.to_empty(device="cpu"), splits)


def _batches(config: Config, network: nn.Module, splits: Splits) -> list[Refusal]:
    """Pushes batches through the network, whose weights are whatever the memory held; its counters are zero."""
    for buffer in network.buffers():
        buffer.zero_()
    batching, count = objects.batching(config), len(splits.train)
    sizes = batching.sizes(count)
    if not sizes:
        got = f"more than the {count} training examples, and data.drop_last leaves no batch"
        remedy = "lower it, or set data.drop_last=false"
        raise Refusal("data.batch_size", got, f"1 to {count}", remedy, value=batching.batch_size)
    for size in sorted(sizes - {1}, reverse=True) or [2]:
        if error := _push(network, splits, size):
            if size in (batching.batch_size, 2):
                raise error
            got = f"leaves a batch of {size} of the {count} training examples, which fails ({reason_of(error)})"
            remedy = "set data.drop_last=true, or change it"
            raise Refusal("data.batch_size", got, "a size whose rest works", remedy, value=batching.batch_size)
    takes_one = not _push(network, splits, 1)
    if 1 in sizes and not takes_one:
        remedy = "set data.drop_last=true" if batching.batch_size > 1 else "change the norm"
        got = f"leaves a batch of one of the {count} training examples, and the norm needs two"
        allowed = "a size that leaves none or more than one"
        raise Refusal("data.batch_size", got, allowed, f"change it, or {remedy}", value=batching.batch_size)
    batch, probes = torch.zeros(2, *splits.input_shape), [objects.probe(config, name) for name in config["probes"]]
    refusals = [refusal for probe in probes for refusal in probe.refusals(network, batch)]
    return refusals if takes_one else refusals + _probes_of_one(config, splits)


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
    try:
        logits = network(torch.zeros(size, *splits.input_shape))
    except (Exception, SystemExit) as error:
        return error
    due = (size, splits.num_classes)
    return None if tuple(logits.shape) == due else ValueError(f"it gives {tuple(logits.shape)}, not {due}")


@blamed_on("model, norm, optimizer")
def training(config: Config) -> None:
    """Takes the steps that show whether replicas can be stacked, and raises a refusal where they have to be and cannot.

    Networks, norms and optimizers that are known are not tried (see `stacking.agreement_of`).
    """
    found = stacking.agreement_of(config, objects.splits(config), objects.device(config))
    if found.alone and config["trainer"]["stack_replicas"] is True:
        got = f"the network cannot be stacked ({textwrap.shorten(found.alone, 200, placeholder='...')})"
        raise Refusal("trainer.stack_replicas=true", got, "auto or false", "set it to auto")


class _Accepted(BaseException):
    """Raised where an optimizer turns from its options to the parameters."""


class _Unread(nn.Module):
    """A network whose parameters are not to be read."""

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Raises `_Accepted`."""
        raise _Accepted


def takes_options(config: Config) -> None:
    """Raises what the optimizer says to its options; torch's do so first, and making a whole one takes two seconds."""
    with suppress(_Accepted), _refused(config, "optimizer"):
        objects.optimizer(config)(_Unread())


def step(config: Config) -> None:
    """Raises what is wrong with the optimizer and the scheduler as they take a step with a weight and a bias."""
    network = nn.ParameterList([torch.zeros(1, 1), torch.zeros(1)])
    for parameter in network:
        parameter.grad = torch.zeros_like(parameter)
    with _refused(config, "optimizer"):
        optimizer = objects.optimizer(config)(network)
        optimizer.step()
    with _refused(config, "scheduler"):
        scheduler = objects.scheduler(config)(optimizer)
        optimizer.step()  # a scheduler warns where it steps first
        scheduler.step()


@contextmanager
def _refused(config: Config, group: str) -> Iterator[None]:
    """Within it, an error becomes the refusal of options of a group; torch tends to name the argument."""
    try:
        yield
    except (Exception, SystemExit) as error:
        reason, target = reason_of(error), config[group]["_target_"]
        named = [
            f"{group}.{key}={shown(value)}"
            for key, value in objects.options(config, group).items()
            if re.search(rf"\b({key}|{key.removesuffix('s')}\b)", reason, re.IGNORECASE)
        ]
        got, allowed = f"{target} refuses this ({reason})", f"what the documentation of {target} says"
        raise Refusal(", ".join(named) or group, got, allowed, "change it") from error
