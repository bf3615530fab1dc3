"""From a configuration to the objects that it describes, one by one; nothing below sees a configuration."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any, cast

import torch
from torch import nn, optim

from bn_experiments.data.augmented import Augmentation
from bn_experiments.data.batches import Batching, size_of
from bn_experiments.data.sources import Source
from bn_experiments.data.splits import OWN, Splits, Splitting
from bn_experiments.data.valid import valid
from bn_experiments.imports import imported
from bn_experiments.norms.slot import KEPT, Slot, registered
from bn_experiments.probes.probe import Probe, Schedule
from bn_experiments.refusal import Refusal
from bn_experiments.seeds import Stream
from bn_experiments.signatures import accepted
from bn_experiments.training.clipping import clip_adaptively, clip_gradients
from bn_experiments.training.decay import parameter_groups, set_ones
from bn_experiments.training.initialization import initialize
from bn_experiments.training.losses import Losses
from bn_experiments.training.roles import find_roles
from bn_experiments.training.schedules import Length, RateSchedule
from bn_experiments.training.steps import Clip

Config = Mapping[str, Any]
ELEMENTWISE: tuple[Any, ...] = (optim.Adadelta, optim.Adagrad, optim.Adam, optim.Adamax, optim.AdamW, optim.ASGD)
ELEMENTWISE += (optim.NAdam, optim.RAdam, optim.RMSprop, optim.Rprop, optim.SGD)
KNOWN_MODELS = [f"bn_experiments.models.{name}" for name in ("mlp.MLP", "lenet.LeNet", "lstm.LSTM", "rnn.RNN")]
KNOWN_MODELS += [f"bn_experiments.models.{name}" for name in ("vgg.VGG", "resnet.ResNet", "transformer.Transformer")]
KNOWN_MODELS += ["bn_experiments.models.residual_mlp.ResidualMLP"]
KNOWN_MODELS += ["bn_experiments.models.existing.sources.of_torchvision"]  # with none of torchvision's own options
OUR_NORMS = ["batch.BatchCenter", "batch.BatchScale", "batch.L1BatchNorm", "ghost.GhostBatchNorm"]
OUR_NORMS += ["running.BatchRenorm", "running.FrozenBatchNorm", "noisy.NoisyBatchNorm", "layer.LayerNorm"]
OUR_NORMS += ["rms.RMSNorm"]
OUR_NORMS += ["fused.FilterResponseNorm", "fused.EvoNormS0", "fused.EvoNormB0"]
OUR_NORMS += ["pointwise.DynamicTanh", "pointwise.DynamicErf", "matrix.spectral_norm", "matrix.orthogonal"]
OUR_NORMS += [f"weight.{name}" for name in ("weight_norm", "weight_standardization", "scaled_weight_standardization")]
KNOWN_NORMS = ["None", KEPT, *(f"bn_experiments.norms.{name}" for name in OUR_NORMS)]
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
    allowed = "the dotted path of an installed class or function"
    return imported(config[group]["_target_"], f"{parent}{group}._target_", allowed)


def options(config: Config, group: str) -> dict[str, Any]:
    """The group's keys, less Hydra's own."""
    return {key: value for key, value in config[group].items() if key not in ("_target_", "_partial_")}


def source(config: Config, **more: int) -> Source:
    """The whole data set, which a process loads and checks once.

    Args:
        config: The configuration.
        more: Further arguments of the function that loads it.
    """
    load = target(config, "data")
    return valid(load(**{**accepted(load, options(config, "data")), **more}), config["data"]["_target_"])


def draws_data(config: Config) -> bool:
    """Whether each replica has data of its own, drawn by a function that takes the seed of its draws as `data_seed`."""
    is_drawn = "data_seed" in signature(target(config, "data")).parameters
    return is_drawn and config["data"].get("split_seed") == OWN


def splits(config: Config, seeds: Sequence[int] = ()) -> Splits:
    """The data set, split and normalized as the config says.

    Args:
        config: The configuration.
        seeds: The seeds of the replicas, each of which may have splits of its own, and data of its own where these are
            generated; without any, these are those of the seed 0.

    Raises:
        Refusal: Each is to have its own, and there is nothing to draw.
    """
    splitting = Splitting(**accepted(Splitting, options(config, "data")))
    if splitting.split_seed != OWN:
        return splitting.split(source(config))
    seeds = seeds or (0,)
    if draws_data(config):
        return splitting.split_by_replica([source(config, data_seed=seed) for seed in seeds], seeds)
    if splitting.val_split == "test":
        got = "draws nothing where data.val_split=test leaves the training set whole"
        raise Refusal("data.split_seed", got, "a whole number of at least 0", "change one of the two", value=OWN)
    return splitting.split_by_replica([source(config)], seeds)


def batching(config: Config) -> Batching:
    """How the data is cut into mini-batches."""
    return Batching(**accepted(Batching, options(config, "data")))


def batch_size(config: Config, splits: Splits) -> int:
    """The number of examples in a training batch."""
    return size_of(config["data"]["batch_size"], len(splits.train))


def augmentation(config: Config, name: str, input_shape: Sequence[int]) -> Augmentation:
    """The augmentation of that name.

    Args:
        config: The configuration.
        name: The name that the config gives it.
        input_shape: The shape of an example, for one that asks for it.
    """
    make = target(config["augmentation"], name, "augmentation.")
    given = {**options(config["augmentation"], name), "input_shape": input_shape}
    return cast(Augmentation, make(**accepted(make, given)))


def augmentations(config: Config, input_shape: Sequence[int]) -> dict[str, Augmentation]:
    """What changes the training examples, by name, in the order of the names: as typed, the order changes no number."""
    return {name: augmentation(config, name, input_shape) for name in sorted(config["augmentation"])}


def slot(config: Config) -> Slot:
    """The norm of this arm."""
    return Slot(config["norm"]["_target_"], **options(config, "norm"))


def network(config: Config, splits: Splits) -> nn.Module:
    """One network for the data, as its constructor leaves it."""
    given = {"input_shape": splits.input_shape, "num_classes": splits.num_classes, "norm": slot(config)}
    return target(config, "model")(**given, **options(config, "model"))


def outline(config: Config, splits: Splits) -> nn.Module:
    """One network without its numbers, on torch's meta device, as it is before it is initialized.

    A constructor that reads a number off a tensor, or mixes devices, makes it with numbers first.
    """
    try:
        with torch.device("meta"):
            return registered(network(config, splits)).to("meta")
    except Refusal:
        raise
    except Exception:
        with Stream(0, "network").drawn():
            return registered(network(config, splits)).to("meta")


def initial_network(config: Config, splits: Splits, seed: int) -> nn.Module:
    """The network of the replica with a seed, as it is before training.

    It is constructed under a random stream of its own, so that the replicas before it, and the norm of its arm, change
    nothing of what it draws; then it is initialized.
    """
    with Stream(seed, "network").drawn():
        made = registered(network(config, splits))
    initialize(made, seed, config["init"], slot(config).scale_init)
    if groups_of_parameters(config) or config["trainer"].get("adaptive_clip_factor"):
        with Stream(seed, "roles").drawn():
            find_roles(made, splits.input_shape)
    return made


def seeds(config: Config) -> range:
    """The seed of each replica."""
    return range(config["seed"], config["seed"] + config["replicas"])


def groups_of_parameters(config: Config) -> dict[str, dict[str, float]]:
    """The settings by kind of parameters; a schedule of one kind alone makes it a group, with the optimizer's rate."""
    own = config["optimizer"]
    found = set_ones(own.get("groups", {}))
    kind = getattr(target(config, "scheduler"), "KIND", None) if "scheduler" in config else None  # not in every check
    if kind is not None:
        found[kind] = {"lr": own["lr"], **found.get(kind, {})}
    return found


def optimizer(config: Config, captured: bool = False) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """Makes an optimizer of a network or a stack, one whose step can be captured as a CUDA graph where it is.

    The first argument of the target says what it takes: `named_parameters`, the `model`, or else the parameters; with
    `decay: weights`, or settings of `groups`, in groups (see `training.decay`).

    Raises:
        Refusal: There are settings of groups, and the target takes no groups of parameters.
    """
    make, own = target(config, "optimizer"), options(config, "optimizer")
    decay, groups = own.pop("decay"), groups_of_parameters(config)
    own.pop("groups", None)
    if own.get("weight_decay") == 0 and not groups:
        decay = "all"  # the same numbers, by one kernel in place of two
    if captured and make is not torch.optim.SGD:
        own["capturable"] = True
    takes = next(iter(signature(make).parameters), "params")
    if groups and takes in ("named_parameters", "model", "network"):
        got, allowed = f"{config['optimizer']['_target_']} takes {takes}", "an optimizer that takes groups"
        raise Refusal(f"optimizer.groups.{next(iter(groups))}", got, allowed, "set its values to null")

    def made(network: nn.Module) -> torch.optim.Optimizer:
        if takes == "named_parameters":
            return make(network.named_parameters(), **own)
        if takes in ("model", "network"):
            return make(network, **own)
        whole = decay == "all" and not groups
        return make(network.parameters() if whole else parameter_groups(network, decay, groups), **own)

    return made


def acts_elementwise(config: Config) -> bool:
    """Whether the optimizer is one of torch's that act element by element, so that a stack is to it as one network."""
    return target(config, "optimizer") in ELEMENTWISE


def is_known(config: Config) -> bool:
    """Whether the tests compare stacks of the network, with this norm and this optimizer, with runs alone."""
    norm = str(config["norm"]["_target_"]).replace("{dim}d", "")
    further = options(config, "model").keys() - signature(target(config, "model")).parameters
    is_known_model = config["model"]["_target_"] in KNOWN_MODELS and not further
    return is_known_model and norm in KNOWN_NORMS and acts_elementwise(config)


def length(config: Config, splits: Splits) -> Length:
    """How long the run is."""
    size, count = batch_size(config, splits), len(splits.train)
    steps = count // size if batching(config).drop_last else math.ceil(count / size)
    return Length(config["trainer"]["max_epochs"], steps)


def schedule(config: Config, splits: Splits) -> RateSchedule:
    """How the learning rate changes over the run.

    Raises:
        Refusal: It is a schedule of one kind of parameters, and cannot be that of this optimizer.
    """
    make = target(config, "scheduler")
    found = RateSchedule.of(make, options(config, "scheduler"), length(config, splits))
    if kind := getattr(make, "KIND", None):  # tried before there is a network, whose parameters are of this kind
        tried = optimizer(config)(nn.ParameterList([torch.zeros(1)]))
        tried.add_param_group(
            {"params": [torch.zeros(1, requires_grad=True)], **groups_of_parameters(config)[kind], "kind": kind}
        )
        found.make(tried)
    return found


def loss_options(config: Config) -> dict[str, Any]:
    """The options of the loss; no label smoothing asks for nothing, so a loss of one's own need not take it."""
    own = options(config, "loss")
    if own.get("label_smoothing") == 0 and not accepted(target(config, "loss"), {"label_smoothing": 0}):
        del own["label_smoothing"]
    return own


def losses(config: Config) -> Losses:
    """What training minimizes, and what the splits are scored with."""
    return Losses.of(partial(target(config, "loss"), **loss_options(config)))


def clip(config: Config) -> Clip | None:
    """The function that limits the gradients of each replica, if any does."""
    trainer = config["trainer"]
    if (factor := trainer["adaptive_clip_factor"]) is not None:
        return partial(clip_adaptively, factor=factor, eps=trainer["adaptive_clip_eps"])
    max_norm = trainer["gradient_clip_norm"]
    return None if max_norm is None else partial(clip_gradients, max_norm=max_norm)


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
