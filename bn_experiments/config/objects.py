"""From a configuration to the objects that it describes, one by one; nothing below sees a configuration."""

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from typing import Any

import torch
from hydra.utils import get_object
from torch import nn, optim

from bn_experiments.data.batches import Batching
from bn_experiments.data.sources import Source
from bn_experiments.data.splits import Splits, split
from bn_experiments.data.valid import valid
from bn_experiments.norms.slot import Slot, registered
from bn_experiments.probes.probe import Probe, Schedule
from bn_experiments.refusal import Refusal, one_line
from bn_experiments.seeds import Stream
from bn_experiments.signatures import accepted
from bn_experiments.training.decay import parameter_groups
from bn_experiments.training.initialization import initialize

Config = Mapping[str, Any]
ELEMENTWISE: tuple[Any, ...] = (optim.Adadelta, optim.Adagrad, optim.Adam, optim.Adamax, optim.AdamW, optim.ASGD)
ELEMENTWISE += (optim.NAdam, optim.RAdam, optim.RMSprop, optim.Rprop, optim.SGD)
KNOWN_MODELS = [f"bn_experiments.models.{name}" for name in ("mlp.MLP", "lenet.LeNet", "lstm.LSTM")]
KNOWN_MODELS += ["bn_experiments.models.residual_mlp.ResidualMLP"]
KNOWN_NORMS = ["None", "bn_experiments.norms.rms.RMSNorm", "bn_experiments.norms.weight.weight_norm"]
KNOWN_NORMS += [f"torch.nn.{name}" for name in ("BatchNorm", "InstanceNorm", "GroupNorm", "LayerNorm")]


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
    """One network for the data, as its constructor leaves it."""
    given = {"input_shape": splits.input_shape, "num_classes": splits.num_classes, "norm": slot(config)}
    return target(config, "model")(**given, **options(config, "model"))


def initial_network(config: Config, splits: Splits, seed: int) -> nn.Module:
    """The network of the replica with a seed, as it is before training.

    It is constructed under a random stream of its own, so that the replicas before it, and the norm of its arm, change
    nothing of what it draws; then it is initialized.
    """
    with Stream(seed, "network").drawn():
        made = registered(network(config, splits))
    initialize(made, seed, config["init"], slot(config).scale_init)
    return made


def seeds(config: Config) -> range:
    """The seed of each replica."""
    return range(config["seed"], config["seed"] + config["replicas"])


def optimizer(config: Config, captured: bool = False) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """Makes an optimizer of a network or a stack, one whose step can be captured as a CUDA graph where it is.

    The first argument of the target says what it takes: `named_parameters`, the `model`, or else the parameters; with
    `decay: weights` in groups (see `training.decay`).
    """
    make, own = target(config, "optimizer"), options(config, "optimizer")
    decay = own.pop("decay")
    if own.get("weight_decay") == 0:
        decay = "all"  # the same numbers, by one kernel in place of two
    if captured and make is not torch.optim.SGD:
        own["capturable"] = True
    takes = next(iter(signature(make).parameters), "params")

    def made(network: nn.Module) -> torch.optim.Optimizer:
        if takes == "named_parameters":
            return make(network.named_parameters(), **own)
        if takes in ("model", "network"):
            return make(network, **own)
        return make(network.parameters() if decay == "all" else parameter_groups(network, decay), **own)

    return made


def acts_elementwise(config: Config) -> bool:
    """Whether the optimizer is one of torch's that act element by element, so that a stack is to it as one network."""
    return target(config, "optimizer") in ELEMENTWISE


def is_known(config: Config) -> bool:
    """Whether the tests compare stacks of the network, with this norm and this optimizer, with runs alone."""
    norm = str(config["norm"]["_target_"]).replace("{dim}d", "")
    return config["model"]["_target_"] in KNOWN_MODELS and norm in KNOWN_NORMS and acts_elementwise(config)


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
