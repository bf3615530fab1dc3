"""The check before anything trains: every error of a grid at once, a line each."""

import inspect
import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveInt

from bn_experiments.config import dry_run as trial
from bn_experiments.config import objects
from bn_experiments.config.cells import GROUPS, Cell
from bn_experiments.config.objects import Config
from bn_experiments.config.options import CellOptions, PathOptions, TrainerOptions
from bn_experiments.data.batches import Batching
from bn_experiments.data.splits import split
from bn_experiments.norms.slot import Slot
from bn_experiments.probes.probe import Schedule
from bn_experiments.records.identity import config_hash
from bn_experiments.refusal import Refusal
from bn_experiments.signatures import problems
from bn_experiments.training.initialization import initialize

# (Type, default) where torch's signatures leave open what its classes get wrong late, or without naming the key
NARROWED: dict[str, dict[str, tuple[Any, Any]]] = {
    "data": {"root": (Annotated[str, Field(min_length=1)], ...)},
    "norm": {"num_groups": (PositiveInt, ...), "eps": (NonNegativeFloat, None)},
    "optimizer": {"lr": (Annotated[float, Field(gt=0)], ...)},
    "scheduler": {"step_size": (PositiveInt, ...), "T_max": (PositiveInt, ...)},
}


def check_cells(cells: Sequence[Cell], lost: Collection[str] = ()) -> list[Refusal]:
    """What is wrong with the cells of a grid: with each of them, then with any two.

    Args:
        cells: Composed.
        lost: Groups, or other keys, that lack a setting because it was wrong; what they make is not judged.
    """
    found = [check(cell, lost) for cell in cells]
    trial.splits.cache_clear()
    alike = [] if lost else list(dict.fromkeys(_alike(cells)))
    if not (lost or alike or any(found)):  # the first step takes torch two seconds
        found = [trial.step(cell.config) for cell in cells]
    count = Counter(line for lines in found for line in dict.fromkeys(lines))
    return [one if n == len(cells) else one.noting(f"{n} of {len(cells)} cells") for one, n in count.items()] + alike


def check(cell: Cell, lost: Collection[str] = ()) -> list[Refusal]:
    """What is wrong with one cell: its options, its folder, and what its groups make where their options are right."""
    if missing := _missing(cell.config):
        return missing
    wrong = _options(cell.config)
    lines = [line for group in wrong.values() for line in group]
    if "paths" not in wrong:
        lines += _folder(cell.folder)
    return lines + trial.rehearse(cell, {*wrong, *lost})


def _missing(config: Config) -> list[Refusal]:
    """Groups, and the names of what they configure, that were deleted from the config."""
    groups = [group for group in (*GROUPS, "paths", "probes") if not isinstance(config.get(group), dict)]
    targets = [group for group in GROUPS if group not in (*groups, "trainer") and "_target_" not in config[group]]
    return [
        Refusal(key, "is missing", str(allowed), "leave out what deletes or replaces it")
        for keys, allowed in (
            (groups, "a group of keys"),
            ([f"{group}._target_" for group in targets], "the dotted path of a class or function"),
        )
        for key in keys
    ]


def _options(config: Config) -> dict[str, list[Refusal]]:
    """Unknown keys, wrong types and values out of range, by group; "" for the keys of none."""
    beside = (*GROUPS, "paths", "probes")
    own = {key: value for key, value in config.items() if key not in beside}
    lines = {
        "": problems(
            own, "", initialize, CellOptions, given=["network", "scale_init"], elsewhere=(*beside, "experiment")
        )
    }
    lines["paths"] = problems(config["paths"], "paths", PathOptions)
    for group in (*GROUPS, "probes"):
        try:
            lines[group] = _probes(config) if group == "probes" else _group(config, group)
        except Exception as error:
            lines[group] = [trial.as_refusal(group, error)]
    return {group: found for group, found in lines.items() if found}


def _group(config: Config, group: str) -> list[Refusal]:
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
    lines = []
    for name, keys in config["probes"].items():
        if not isinstance(keys, dict) or "_target_" not in keys:
            lines.append(
                Refusal(f"probes.{name}", "is no probe", "keys with a _target_", "choose one with probes=[...]")
            )
            continue
        options = objects.options(config["probes"], name)
        # what is taken over from the data has a line of its own there
        given = [key for key in ("batch_size", "eval_batch_size") if options.get(key) == config["data"].get(key)]
        own = {key: value for key, value in options.items() if key not in given}
        lines += problems(own, f"probes.{name}", objects.target(config["probes"], name), Schedule, given=given)
    for name in config["probes"] if not lines else ():
        objects.probe(config, name)  # raises where what a target names makes no probe
    return lines


def _norm(config: Config) -> list[Refusal]:
    options = objects.options(config, "norm")
    if config["norm"]["_target_"] is None:
        return problems(options, "norm", Slot, given=["target", "options"])
    keys = {name: None for name, p in inspect.signature(Slot).parameters.items() if p.kind is p.KEYWORD_ONLY}
    slot = Slot(config["norm"]["_target_"], **{**keys, **options})
    given = ["target", "options", slot.width_argument]
    # a key of both is the slot's
    return problems(options, "norm", slot.import_target(dim=1), Slot, given=given, narrowed=NARROWED["norm"])


def _folder(folder: Path) -> list[Refusal]:
    """Whether a cell's folder can be made; what is made to find out is gone at once."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryDirectory(dir=there):
            return []
    except OSError as error:
        return [
            Refusal(
                "paths.output_dir",
                f"cannot be written ({error.strerror})",
                "a folder that can be written",
                "set paths.output_dir to one",
                value=folder.parents[1],
            )
        ]


def _alike(cells: Sequence[Cell]) -> list[Refusal]:
    """Cells that would be the same, or share a folder."""
    lines = []
    seen: dict[str, Cell] = {}
    for cell in cells:
        if _missing(cell.config):
            continue
        twins = [seen.setdefault(mark, cell) for mark in (str(cell.folder), config_hash(cell.config))]
        twin = next((twin for twin in twins if twin is not cell), None)
        if twin is not None:
            lines.append(_twins(cell, twin))
    return lines


def _twins(cell: Cell, twin: Cell) -> Refusal:
    differing = [key for key, value in _flat(cell.config).items() if value != _flat(twin.config).get(key)]
    if differing:
        return Refusal(
            str(differing[0]),
            f"its values change no number, so cells of the grid are the same ({_typed(cell)})",
            "one value",
            "choose one",
        )
    return Refusal(_typed(cell), f"the same cell as {_typed(twin)}", "cells that differ", "drop one of them")


def _flat(config: Config) -> dict[str, Any]:
    return {
        f"{key}.{name}".rstrip("."): inner
        for key, value in config.items()
        for name, inner in (value.items() if isinstance(value, dict) else [("", value)])
    }


def _typed(cell: Cell) -> str:
    groups = [f"{group}={cell.choices[group]}" for group in GROUPS[:4]]
    return " ".join([*groups, *cell.choices["overrides"]])
