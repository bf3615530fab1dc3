"""The check before anything trains: every error of a grid at once."""

import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from bn_experiments.config import dry_run, dry_step
from bn_experiments.config.cells import GROUPS, Cell
from bn_experiments.config.check_options import missing, wrong_options
from bn_experiments.config.objects import Config
from bn_experiments.config.once import Once
from bn_experiments.records.identity import config_hash
from bn_experiments.refusal import Refusal


def check_cells(cells: Sequence[Cell], lost: Collection[str] = ()) -> list[Refusal]:
    """What is wrong with the cells of a grid: with each of them, then with any two.

    Args:
        cells: The composed cells.
        lost: Groups, or other keys, that lack a setting because it was wrong; what they make is not judged.
    """
    once = Once()
    found = [check(cell, lost, once) for cell in cells]
    alike = [] if lost else list(dict.fromkeys(_alike(cells)))
    if not (lost or alike or any(found)):  # the first step takes torch two seconds
        found = [once(dry_step.step, cell.config, "optimizer", "scheduler") for cell in cells]
    count = Counter(refusal for refusals in found for refusal in dict.fromkeys(refusals))
    return [one if n == len(cells) else one.noting(f"{n} of {len(cells)} cells") for one, n in count.items()] + alike


def check(cell: Cell, lost: Collection[str] = (), once: Once | None = None) -> list[Refusal]:
    """What is wrong with one cell: its options, its folder, and what its groups make where their options are right.

    Args:
        cell: The composed cell.
        lost: Groups, or other keys, that lack a setting because it was wrong (see `check_cells`).
        once: The answers that were found for other cells.
    """
    once = once or Once()
    if absent := missing(cell.config):
        return absent
    wrong = wrong_options(cell.config, once)
    refusals = [refusal for group in wrong.values() for refusal in group]
    if "paths" not in wrong:
        refusals += _folder(cell.folder)
    return refusals + dry_run.dry_run(cell, {*wrong, *lost}, once)


def _folder(folder: Path) -> list[Refusal]:
    """Whether a cell's folder can be made; what is made to find out is gone at once."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryDirectory(dir=there):
            return []
    except OSError as error:
        got = f"cannot be written ({error.strerror})"
        allowed = "a folder that can be written"
        remedy = "set paths.output_dir to one"
        return [Refusal("paths.output_dir", got, allowed, remedy, value=folder.parents[1])]


def _alike(cells: Sequence[Cell]) -> list[Refusal]:
    """Cells that would be the same, or share a folder."""
    refusals = []
    seen: dict[str, Cell] = {}
    for cell in cells:
        if missing(cell.config):
            continue
        twins = [seen.setdefault(mark, cell) for mark in (str(cell.folder), config_hash(cell.config))]
        twin = next((twin for twin in twins if twin is not cell), None)
        if twin is not None:
            refusals.append(_twins(cell, twin))
    return refusals


def _twins(cell: Cell, twin: Cell) -> Refusal:
    differing = [key for key, value in _flat(cell.config).items() if value != _flat(twin.config).get(key)]
    if differing:
        got = f"its values change no number, so cells of the grid are the same ({_typed(cell)})"
        return Refusal(differing[0], got, "one value", "choose one")
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
