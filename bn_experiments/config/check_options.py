"""The options of a cell against the signatures of what they are for: keys, types and ranges."""

import inspect
from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveInt

from bn_experiments.config import objects
from bn_experiments.config.cells import GROUPS
from bn_experiments.config.errors import from_others
from bn_experiments.config.objects import Config
from bn_experiments.config.once import Once
from bn_experiments.config.options import CellOptions, PathOptions, TrainerOptions
from bn_experiments.data.batches import Batching
from bn_experiments.data.splits import split
from bn_experiments.norms.slot import Slot
from bn_experiments.probes.probe import Schedule
from bn_experiments.refusal import Refusal
from bn_experiments.signatures import problems
from bn_experiments.training.initialization import initialize

BESIDE = (*GROUPS, "paths", "probes")  # the keys that hold keys
# (Type, default) where torch's signatures leave open what its classes get wrong late, or without naming the key
NARROWED: dict[str, dict[str, tuple[Any, Any]]] = {
    "data": {"root": (Annotated[str, Field(min_length=1)], ...)},
    "norm": {"num_groups": (PositiveInt, ...), "eps": (NonNegativeFloat, None)},
    "optimizer": {"lr": (Annotated[float, Field(gt=0)], ...)},
    "scheduler": {"step_size": (PositiveInt, ...), "T_max": (PositiveInt, ...)},
}


def missing(config: Config) -> list[Refusal]:
    """Groups, and the names of what they configure, that were deleted from the configuration."""
    groups = [group for group in BESIDE if not isinstance(config.get(group), dict)]
    targets = [group for group in GROUPS if group not in (*groups, "trainer") and "_target_" not in config[group]]
    remedy, path = "leave out what deletes or replaces it", "the dotted path of a class or function"
    return [
        *(Refusal(group, "is missing", "a group of keys", remedy) for group in groups),
        *(Refusal(f"{group}._target_", "is missing", path, remedy) for group in targets),
    ]


def wrong_options(config: Config, once: Once) -> dict[str, list[Refusal]]:
    """Unknown keys, wrong types and values out of range, by group; "" for the keys of none.

    Args:
        config: The configuration of a cell, from which nothing is missing.
        once: The answers that were found for other cells.
    """
    refusals = {
        "": once(_top, config, *(key for key in config if key not in BESIDE)),
        "paths": once(_paths, config, "paths"),
        **{group: once(_group, config, group, "paths", group=group) for group in GROUPS},
        "probes": once(_group, config, "probes", "data", group="probes"),
    }
    return {group: found for group, found in refusals.items() if found}


def _top(config: Config) -> list[Refusal]:
    given = ["network", "scale_init"]
    return problems(config, "", initialize, CellOptions, given=given, elsewhere=(*BESIDE, "experiment"))


def _paths(config: Config) -> list[Refusal]:
    return problems(config["paths"], "paths", PathOptions)


def _group(config: Config, group: str) -> list[Refusal]:
    try:
        return _probes(config) if group == "probes" else _options(config, group)
    except (Exception, SystemExit) as error:
        return [from_others(group, error)]


def _options(config: Config, group: str) -> list[Refusal]:
    """What is wrong with a group's options, against the signatures of what it names."""
    options = objects.options(config, group)
    narrowed = NARROWED.get(group)
    if group == "trainer":
        return problems(options, group, TrainerOptions)
    if group == "norm":
        return _norm(config)
    target = objects.target(config, group)
    if group == "data":
        given = ["source"]
        if options.get("root") == config["paths"].get("data_dir"):  # which has a line of its own
            del options["root"]
            given.append("root")
        return problems(options, group, target, split, Batching, given=given, narrowed=narrowed)
    passed = {"model": ["input_shape", "num_classes", "norm"], "optimizer": ["params"], "scheduler": ["optimizer"]}
    return problems(options, group, target, given=passed[group], narrowed=narrowed)


def _probes(config: Config) -> list[Refusal]:
    refusals = []
    for name, keys in config["probes"].items():
        if not isinstance(keys, dict) or "_target_" not in keys:
            refusals.append(
                Refusal(f"probes.{name}", "is no probe", "keys with a _target_", "choose one with probes=[...]")
            )
            continue
        options = objects.options(config["probes"], name)
        # what is taken over from the data has a line of its own there
        given = [key for key in ("batch_size", "eval_batch_size") if options.get(key) == config["data"].get(key)]
        own = {key: value for key, value in options.items() if key not in given}
        refusals += problems(
            own, f"probes.{name}", objects.target(config["probes"], name, "probes."), Schedule, given=given
        )
    for name in config["probes"] if not refusals else ():
        objects.probe(config, name)  # raises where what a target names makes no probe
    return refusals


def _norm(config: Config) -> list[Refusal]:
    options = objects.options(config, "norm")
    if config["norm"]["_target_"] is None:
        return problems(options, "norm", Slot, given=["target", "options"])
    keys = {name: None for name, p in inspect.signature(Slot).parameters.items() if p.kind is p.KEYWORD_ONLY}
    slot = Slot(config["norm"]["_target_"], **{**keys, **options})
    given = ["target", "options", slot.width_argument]
    # a key of both is the slot's
    return problems(options, "norm", slot.import_target(dim=1), Slot, given=given, narrowed=NARROWED["norm"])
