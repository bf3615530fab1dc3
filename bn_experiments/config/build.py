"""From a resolved config to the objects it describes; nothing below this and experiment.py sees a config."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from hydra.utils import get_object
from torch import nn

from bn_experiments.config.options import TrainerOptions
from bn_experiments.data.sources import Source
from bn_experiments.data.splits import Splits, split
from bn_experiments.norms.slot import Slot
from bn_experiments.probes.probe import Probe, Schedule
from bn_experiments.refusal import Refusal
from bn_experiments.signatures import accepted
from bn_experiments.training.initialization import initialize
from bn_experiments.training.replicas import Replicas, SeparateReplicas, StackedReplicas

Config = Mapping[str, Any]

# Above this many floating-point operations a forward step of one replica, stacking gains nothing on a CPU,
# and grouped convolutions lose; measured on two cores with fully connected and convolutional networks.
STACKING_PAYS_BELOW_FLOPS = 30e6


def target(config: Config, group: str) -> Callable[..., Any]:
    """What the group's `_target_` names.

    Raises:
        ValueError: It cannot be imported.
    """
    path = config[group]["_target_"]
    try:
        return get_object(path)
    except Exception as error:
        raise Refusal(
            f"{group}._target_",
            f"cannot be imported ({' '.join(str(error).split())})",
            "the dotted path of an installed class or function",
            "check its spelling, or install its package",
            value=path,
        ) from error


def options(config: Config, group: str) -> dict[str, Any]:
    """The group's keys, less Hydra's own."""
    return {key: value for key, value in config[group].items() if key not in ("_target_", "_partial_")}


def source(config: Config) -> Source:
    """The whole data set; each is loaded once a process."""
    load = target(config, "data")
    return load(**accepted(load, options(config, "data")))


def splits(config: Config) -> Splits:
    """The data set, split and normalized as the config says."""
    return split(source(config), **accepted(split, options(config, "data")))


def slot(config: Config) -> Slot:
    """The norm of this arm."""
    return Slot(config["norm"]["_target_"], **options(config, "norm"))


def network(config: Config, splits: Splits) -> nn.Module:
    """One network for the data, not initialized."""
    return target(config, "model")(
        input_shape=splits.input_shape,
        num_classes=splits.num_classes,
        norm=slot(config),
        **options(config, "model"),
    )


def replicas(config: Config, splits: Splits, device: str) -> Replicas:
    """All replicas, initialized from their seeds, stacked or not."""
    networks = [network(config, splits) for _ in seeds(config)]
    for replica, seed in zip(networks, seeds(config), strict=True):
        initialize(replica, seed, config["init"], config["norm"]["scale_init"])
    return StackedReplicas(networks) if stacks(config, splits, device) else SeparateReplicas(networks)


def seeds(config: Config) -> range:
    """Of the replicas."""
    return range(config["seed"], config["seed"] + config["replicas"])


def stacks(config: Config, splits: Splits, device: str) -> bool:
    """Whether the replicas are trained as one stacked network.

    auto: where it pays, which is always on an accelerator, and on a CPU where a step of one replica is
    small; and where the network can be stacked. A rule on the work, never a timing, so that the same config
    gives the same numbers.
    """
    choice = trainer(config).stack_replicas
    if choice != "auto":
        return bool(choice)
    pays = device != "cpu" or forward_flops(config, splits) < STACKING_PAYS_BELOW_FLOPS
    return config["replicas"] > 1 and pays and can_be_stacked(config, splits)


def can_be_stacked(config: Config, splits: Splits) -> bool:
    """Whether `torch.vmap` takes the network.

    Not where it reads a number off a tensor, as a cumulative batch norm does, and not in mixed precision,
    for which torch's rules for norms are not made.
    """
    if config["trainer"]["precision"] == "bf16-mixed":
        return False
    with torch.device("meta"):
        pair = StackedReplicas([network(config, splits) for _ in range(2)])
        try:
            pair(torch.empty(2, config["data"]["batch_size"], *splits.input_shape))
        except Exception:
            return False
    return True


def forward_flops(config: Config, splits: Splits) -> int:
    """Floating-point operations of one replica's forward pass on a mini-batch, counted without doing them."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network(config, splits).eval()(torch.empty(config["data"]["batch_size"], *splits.input_shape))
    return counter.get_total_flops()


def optimizer(config: Config, captured: bool = False) -> Callable[..., torch.optim.Optimizer]:
    """Makes an optimizer of parameters, one whose step can be captured as a CUDA graph where it is."""
    make = target(config, "optimizer")
    capturable = {"capturable": True} if captured and make is not torch.optim.SGD else {}
    return partial(make, **{**options(config, "optimizer"), **capturable})


def captures(config: Config) -> bool:
    """Whether the training step is captured as a CUDA graph.

    Not in mixed precision, and not where a step reads a number off the device or counts in Python: a cumulative
    batch norm, and optimizers that torch does not make capturable.
    """
    make = target(config, "optimizer")
    counts_on_device = make is torch.optim.SGD or "capturable" in inspect.signature(make).parameters
    cumulative = config["norm"].get("momentum", 0.1) is None
    options = trainer(config)
    possible = device(config) == "cuda" and options.precision != "bf16-mixed" and counts_on_device and not cumulative
    return options.cuda_graph and possible


def scheduler(config: Config) -> Callable[..., torch.optim.lr_scheduler.LRScheduler]:
    """Makes a scheduler of an optimizer."""
    return partial(target(config, "scheduler"), **options(config, "scheduler"))


def probe(config: Config, name: str) -> Probe:
    """The probe of that name.

    Raises:
        ValueError: Its `_target_` makes something else.
    """
    keys = config["probes"][name]
    make = target(config["probes"], name)
    found = make(**accepted(make, keys))
    if not isinstance(found, Probe):
        raise Refusal(
            f"probes.{name}._target_",
            "makes no probe",
            "a class derived from bn_experiments.probes.probe.Probe",
            "change it",
            value=keys["_target_"],
        )
    return found


def probes(config: Config) -> dict[str, tuple[Probe, Schedule]]:
    """What is measured of the cell beside its curves, and when, by the name that the config gives."""
    found = {}
    for name, keys in config["probes"].items():
        made = probe(config, name)
        made.seeds = seeds(config)
        found[name] = (made, Schedule(**accepted(Schedule, keys)))
    return found


def trainer(config: Config) -> TrainerOptions:
    """How the cell is trained."""
    return TrainerOptions(**options(config, "trainer"))


def device(config: Config) -> str:
    """The kind of device that the accelerator names: cpu, cuda or mps."""
    accelerator = config["trainer"]["accelerator"]
    if accelerator == "auto":
        accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    return {"gpu": "cuda"}.get(accelerator, accelerator)
