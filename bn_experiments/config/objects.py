"""From a configuration to the objects that it describes, one by one; nothing below sees a configuration."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from hydra.utils import get_object
from torch import nn

from bn_experiments.data.batches import Batching
from bn_experiments.data.sources import Source
from bn_experiments.data.splits import Splits, split
from bn_experiments.data.valid import valid
from bn_experiments.norms.slot import Slot
from bn_experiments.probes.probe import Probe, Schedule
from bn_experiments.refusal import Refusal, one_line
from bn_experiments.signatures import accepted
from bn_experiments.training.decay import parameter_groups

Config = Mapping[str, Any]


def target(config: Config, group: str, parent: str = "") -> Callable[..., Any]:
    """What the group's `_target_` names.

    Args:
        config: The configuration, or a part of it.
        group: The group.
        parent: The key of that part, with a dot at its end.

    Raises:
        Refusal: It cannot be imported.
    """
    path = config[group]["_target_"]
    try:
        return get_object(path)
    except (Exception, SystemExit) as error:  # a script without a main guard ends the process
        got = f"cannot be imported ({one_line(error)})"
        allowed = "the dotted path of an installed class or function"
        remedy = "check its spelling, or install its package"
        raise Refusal(f"{parent}{group}._target_", got, allowed, remedy, value=path) from error


def options(config: Config, group: str) -> dict[str, Any]:
    """The group's keys, less Hydra's own."""
    return {key: value for key, value in config[group].items() if key not in ("_target_", "_partial_")}


def source(config: Config) -> Source:
    """The whole data set, which a process loads and checks once."""
    load = target(config, "data")
    return valid(load(**accepted(load, options(config, "data"))), config["data"]["_target_"])


def splits(config: Config) -> Splits:
    """The data set, split and normalized as the config says."""
    return split(source(config), **accepted(split, options(config, "data")))


def batching(config: Config) -> Batching:
    """How the data is cut into mini-batches."""
    return Batching(**accepted(Batching, options(config, "data")))


def slot(config: Config) -> Slot:
    """The norm of this arm."""
    return Slot(config["norm"]["_target_"], **options(config, "norm"))


def network(config: Config, splits: Splits) -> nn.Module:
    """One network for the data, not initialized."""
    given = {"input_shape": splits.input_shape, "num_classes": splits.num_classes, "norm": slot(config)}
    return target(config, "model")(**given, **options(config, "model"))


def seeds(config: Config) -> range:
    """The seed of each replica."""
    return range(config["seed"], config["seed"] + config["replicas"])


def optimizer(config: Config, captured: bool = False) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """Makes an optimizer of a network or a stack, one whose step can be captured as a CUDA graph where it is."""
    make, own = target(config, "optimizer"), options(config, "optimizer")
    decay = own.pop("decay")
    if own.get("weight_decay") == 0:
        decay = "all"  # the same numbers, by one kernel in place of two
    if captured and make is not torch.optim.SGD:
        own["capturable"] = True
    return lambda network: make(parameter_groups(network, decay), **own)


def scheduler(config: Config) -> Callable[..., torch.optim.lr_scheduler.LRScheduler]:
    """Makes a scheduler of an optimizer."""
    return partial(target(config, "scheduler"), **options(config, "scheduler"))


def probe(config: Config, name: str) -> Probe:
    """The probe of that name.

    Raises:
        Refusal: Its `_target_` makes something else.
    """
    keys = config["probes"][name]
    make = target(config["probes"], name, "probes.")
    found = make(**accepted(make, keys))
    if not isinstance(found, Probe):
        key, allowed = f"probes.{name}._target_", "a class derived from bn_experiments.probes.probe.Probe"
        raise Refusal(key, "makes no probe", allowed, "change it", value=keys["_target_"])
    return found


def probes(config: Config) -> dict[str, tuple[Probe, Schedule]]:
    """What is measured of the cell beside its curves, and when, by the name that the config gives."""
    found = {}
    for name, keys in config["probes"].items():
        made = probe(config, name)
        made.seeds = seeds(config)
        found[name] = (made, Schedule(**accepted(Schedule, keys)))
    return found


def device(config: Config) -> str:
    """The kind of device that the accelerator names: cpu, cuda or mps."""
    accelerator = config["trainer"]["accelerator"]
    if accelerator == "auto":
        accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    return {"gpu": "cuda"}.get(accelerator, accelerator)
