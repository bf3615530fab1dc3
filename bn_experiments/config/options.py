"""The options of a cell against the signatures of what they are for: keys, types and ranges."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from bn_experiments.config import objects
from bn_experiments.config.cells import GROUPS
from bn_experiments.config.errors import blamed_on
from bn_experiments.config.objects import Config
from bn_experiments.config.search import proposed
from bn_experiments.config.space import (
    FORMS,
    OF_TUNING,
    REPLICAS,
    SAMPLER,
    SEED,
    TUNABLE,
    Range,
    Sampler,
    Values,
    at,
    replicas_of,
    space_of,
    trials_of,
)
from bn_experiments.data.batches import Batching
from bn_experiments.data.splits import Splitting
from bn_experiments.norms.slot import Slot
from bn_experiments.probes.probe import Schedule
from bn_experiments.records.identity import flat
from bn_experiments.refusal import Refusal, nearest, unknown_key
from bn_experiments.signatures import problems
from bn_experiments.training.decay import Groups, GroupSettings, parameter_groups
from bn_experiments.training.initialization import initialize
from bn_experiments.training.schedules import takes_interval, unset_of

NAME = "a folder's name: letters, digits and . + = , - _, the first a letter, a digit or _"
COUNT = "a whole number above 0; for a grid also numbers that rise, 10..80 or [10,20,40], until all is decided"
BESIDE = (*GROUPS, "augmentation", "paths", "probes", "tune")  # the keys that hold keys
PASSED = {  # the arguments that code passes, so that no config sets them
    "data": ["source"],
    "model": ["input_shape", "num_classes", "norm"],
    "norm": ["target", "options"],
    "optimizer": ["params", "network", "model", "named_parameters"],
    "scheduler": ["optimizer"],
    "loss": ["logits", "y"],
}
# (Type, default) where torch's signatures leave open what its classes get wrong late, or without naming the key
NARROWED: dict[str, dict[str, tuple[Any, Any]]] = {
    "data": {"root": (Annotated[str, Field(min_length=1)], ...)},
    "norm": {"num_groups": (PositiveInt, ...), "eps": (NonNegativeFloat, None)},
    "optimizer": {"lr": (Annotated[float, Field(gt=0)], ...)},
    "scheduler": {
        "step_size": (PositiveInt, ...),
        "T_max": (PositiveInt | None, ...),
        "gamma": (PositiveFloat, None),
    },
}


@dataclass(frozen=True)
class CellOptions:
    """The keys of a config that belong to no group, less `init`."""

    name: Annotated[str, Field(pattern=r"^\w[\w.+=,-]*$", description=NAME)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    replicas: Annotated[int, Field(gt=0, description=COUNT)]
    baseline: Annotated[str, Field(min_length=1)] | None
    stale: Literal["retrain", "keep"] | None


@dataclass(frozen=True)
class TuneOptions:
    """How tuned keys are tried, beside what is tried of each."""

    replicas: PositiveInt = REPLICAS
    trials: Annotated[int, Field(ge=2)] | None = None
    sampler: Sampler = SAMPLER


@dataclass(frozen=True)
class PathOptions:
    """Where things lie."""

    data_dir: Annotated[str, Field(min_length=1)]
    output_dir: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class TrainerOptions:
    """How a cell is trained; `conf/trainer/default.yaml` says what each key means."""

    max_epochs: NonNegativeInt
    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    threads: PositiveInt
    cuda_graph: bool
    precision: Literal["32-true", "64-true", "bf16-mixed"]
    steps_per_execution: PositiveInt
    stack_replicas: Literal["auto"] | bool
    gradient_clip_norm: Annotated[float, Field(gt=0)] | None
    adaptive_clip_factor: Annotated[float, Field(gt=0)] | None
    adaptive_clip_eps: Annotated[float, Field(gt=0)]
    deterministic: Literal["warn"] | bool
    log_every_n_steps: PositiveInt
    checkpoint_every_n_steps: PositiveInt
    progress_bar: Literal["auto"] | bool


# in place of what a group's file names
CLASSES: dict[str, Callable[..., Any]] = {"norm": Slot, "paths": PathOptions, "trainer": TrainerOptions}


def missing(config: Config) -> list[Refusal]:
    """Groups, and the names of what they configure, that were deleted from the configuration."""
    if not isinstance(config.get("tune") or {}, dict):
        return [Refusal("tune", "is no group of keys", f"tune.<key> as {FORMS}", "name a key", value=config["tune"])]
    groups = [group for group in BESIDE if group != "tune" and not isinstance(config.get(group), dict)]
    targets = [group for group in GROUPS if group not in (*groups, "trainer") and "_target_" not in config[group]]
    remedy, path = "leave out what deletes or replaces it", "the dotted path of a class or function"
    refusals = [Refusal(group, "is missing", "a group of keys", remedy) for group in groups]
    return refusals + [Refusal(f"{group}._target_", "is missing", path, remedy) for group in targets]


def of_no_group(config: Config) -> list[Refusal]:
    """What is wrong with the keys of no group."""
    given = ["network", "scale_init"]
    return problems(config, "", initialize, CellOptions, given=given, elsewhere=(*BESIDE, "experiment"))


@blamed_on("probes")
def of_probe(config: Config, name: str) -> list[Refusal]:
    """What is wrong with a probe's options, or with what they make."""
    keys = config["probes"][name]
    if not isinstance(keys, dict) or "_target_" not in keys:
        raise Refusal(f"probes.{name}", "is no probe", "keys with a _target_", "choose one with probes=[...]")
    # what is taken over from the data has a line of its own there
    given = [key for key in ("batch_size", "eval_batch_size") if keys.get(key) == config["data"].get(key)]
    own = {key: value for key, value in objects.options(config["probes"], name).items() if key not in given}
    target = objects.target(config["probes"], name, "probes.")
    wrong = problems(own, f"probes.{name}", target, Schedule, given=given)
    if not wrong:
        objects.probe(config, name)  # raises where what the target names makes no probe
    return wrong


@blamed_on("augmentation")
def of_augmentation(config: Config, name: str) -> list[Refusal]:
    """What is wrong with the options of an augmentation."""
    keys = config["augmentation"][name]
    if not isinstance(keys, dict) or "_target_" not in keys:
        allowed = "keys with a _target_"
        raise Refusal(f"augmentation.{name}", "is no augmentation", allowed, "choose one with augmentation=[...]")
    target = objects.target(config["augmentation"], name, "augmentation.")
    own = objects.options(config["augmentation"], name)
    return problems(own, f"augmentation.{name}", target, given=["input_shape"])


@blamed_on("tune")
def of_tuning(config: Config) -> list[Refusal]:
    """What is wrong with the values that are tried of tuned keys; each is asked for as if it had been typed."""
    wrong = problems({key: config["tune"][key] for key in OF_TUNING if key in config["tune"]}, "tune", TuneOptions)
    plain = {*OF_TUNING, *(key for key in TUNABLE if not isinstance(config.get(key), dict) and "." not in key)}
    named = [key for key, value in config["tune"].items() if not isinstance(value, dict) and key not in plain]
    wrong += [unknown_key(f"tune.{key}", [f"tune.{each}" for each in sorted(plain)]) for key in named]
    if wrong:
        return wrong
    space, known = space_of(config), flat({key: config[key] for key in config if key != "tune"})
    if space and not config["trainer"]["max_epochs"]:
        remedy = "train longer, or tune nothing"
        return [Refusal("trainer.max_epochs", "leaves nothing to tune", "1 or more", remedy, value=0)]
    if space and config["data"].get("val_split") == "test":
        got, remedy = "would choose on the test set, which judges", "choose another, or tune nothing"
        wrong.append(Refusal("data.val_split", got, "a split of the training set", remedy, value="test"))
    seeds = range(SEED, SEED + replicas_of(config)) if space and not wrong else range(0)
    if seeds and config["seed"] < seeds.stop and config["seed"] + config["replicas"] > SEED:
        got = f"is one of those that tune ({SEED} to {seeds[-1]})"
        wrong.append(Refusal("seed", got, "seeds that are judged alone", "lower it", value=max(SEED, config["seed"])))
    for key, values in space.items():
        allowed = [each for each in known if any(each == one or each.startswith(f"{one}.") for one in TUNABLE)]
        if key not in allowed:
            names = [f"tune.{each}" for each in allowed if not each.endswith(("_target_", "_partial_"))]
            group = f"tune.{key.split('.')[0]}"
            if any(each.startswith(f"{group}.") for each in names):
                wrong.append(unknown_key(f"tune.{key}", [each for each in names if each.startswith(f"{group}.")]))
            else:
                groups, remedy = ", ".join(f"tune.{each}" for each in sorted(TUNABLE)), "tune another"
                remedy = nearest(f"tune.{key}", names) or remedy
                wrong.append(Refusal(f"tune.{key}", "cannot be tuned", f"keys of {groups}", remedy))
            continue
        group = key.split(".")[0]
        for value in (values.low, values.high) if isinstance(values, Range) else values:
            settled = at(config, {key: value})
            alone = {key: settled[key] for key in settled if key not in BESIDE}
            found = of_group(settled, group) if group in GROUPS else of_no_group(alone)
            wrong += [Refusal(f"tune.{one.key}", one.got, one.allowed, one.remedy) for one in found]
    return wrong or _of_search(config, space)


def _of_search(config: Config, space: dict[str, Values]) -> list[Refusal]:
    """What is wrong with the number of points that are searched for."""
    trials = trials_of(config)
    if not space and (idle := [key for key in OF_TUNING if key in config["tune"]]):
        got, remedy = "nothing is tuned", "name a key, as tune.optimizer.lr=1e-3..10:9, or leave it out"
        return [Refusal(f"tune.{idle[0]}", got, "a tuned key beside it", remedy, value=config["tune"][idle[0]])]
    if trials is None:
        return []
    count = math.prod(len(values) for values in space.values())
    if count <= trials and not any(isinstance(values, Range) for values in space.values()):
        got, remedy = f"all there is are {count} points", "leave it out, and all of them are tried"
        return [Refusal("tune.trials", got, f"fewer than {count}", remedy, value=trials)]
    proposed(config, [], [])  # raises where Optuna is not installed
    return []


def of_group(config: Config, group: str) -> list[Refusal]:
    """What is wrong with the options of any other group, against the signatures of what gets them."""
    options, given = objects.options(config, group), [*PASSED.get(group, ())]
    with blamed_on(group):
        targets = [CLASSES.get(group) or objects.target(config, group)]
        if group == "norm" and config["norm"]["_target_"]:
            unset = dict.fromkeys(inspect.getfullargspec(Slot).kwonlyargs)
            slot = Slot(config["norm"]["_target_"], **{**unset, **options})
            targets.insert(0, slot.import_target(dim=1))  # a key of both is the slot's
            given.append(slot.width_argument)
        if group == "optimizer":
            targets.append(parameter_groups)  # for `decay`, which is no key of torch's
            if wrong := _of_groups(options.pop("groups", {})):
                return wrong
            given.append("groups")
        if group == "scheduler":
            targets.append(takes_interval)
            for name in unset_of(targets[0], options):  # the run gives them
                options.pop(name, None)
                given.append(name)
        if group == "loss":
            options = objects.loss_options(config)
        if group == "trainer" and options.get("adaptive_clip_factor") and options.get("gradient_clip_norm"):
            got = "the gradient would be clipped twice, by trainer.adaptive_clip_factor too"
            raise Refusal("trainer.gradient_clip_norm", got, "one of both", "set one to null")
        if group == "data":
            targets += [Splitting, Batching]
            if options.get("root") == config["paths"].get("data_dir"):  # which has a line of its own
                del options["root"]
                given.append("root")
        return problems(options, group, *targets, given=given, narrowed=NARROWED.get(group))


def _of_groups(groups: Config) -> list[Refusal]:
    """What is wrong with the settings of kinds of parameters."""
    key = "optimizer.groups"
    if not isinstance(groups, dict) or (wrong := problems(groups, key, Groups)):
        return wrong if isinstance(groups, dict) else [Refusal(key, "is no group of keys", "keys", "leave it out")]
    return [one for kind in groups for one in problems(groups[kind], f"{key}.{kind}", GroupSettings)]
