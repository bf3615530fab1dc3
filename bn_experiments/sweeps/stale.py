"""Stale records: results and checkpoints that other code, versions, data or settings made than a command would use."""

import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bn_experiments.claims.contexts import differing
from bn_experiments.config.cells import Cell
from bn_experiments.config.origin import origin
from bn_experiments.records import identity, lock, results, tuning
from bn_experiments.records.origin import UNKNOWN, Origin, changes
from bn_experiments.refusal import Refusal
from bn_experiments.sweeps.train_cell import is_in_use
from bn_experiments.training.trainer import MADE_BY

RECORDS = (results.FILE, tuning.FILE, "metrics.csv", "probes.npz")  # what is kept of a run that is trained anew
MOST_NAMED = 3  # cells, and changes, in a line


class Stale(NamedTuple):
    """The record of a run that the command would not make so.

    Args:
        folder: The folder of the run.
        changes: What differs, each as a clause.
        is_other: Whether the settings of the cell differ, and not just what made the record.
    """

    folder: Path
    changes: tuple[str, ...]
    is_other: bool


def stale_runs(cells: Sequence[Cell], elsewhere: bool = False) -> list[Stale]:
    """The runs in the folders of some cells, finished or to go on, that the command would not make so.

    Args:
        cells: The cells.
        elsewhere: Whether they train on other machines than this one, on whose kind of device `auto` then says nothing.
    """
    found = []
    for cell in cells:
        for folder in (cell.folder, *results.further(cell.folder)):
            if not is_in_use(folder) or lock.is_locked(folder):
                continue
            record = results.read_run(folder)
            other = differing(identity.settings(cell.config), identity.settings(record.config)) if record else []
            made_by = record.made_by if record else _of_checkpoints(folder)
            now, before = origin(cell.config), [Origin.read(each) for each in made_by] or [UNKNOWN]
            if elsewhere and cell.config["trainer"]["accelerator"] == "auto":
                now = now._replace(device=before[-1].device)
            changed = other or changes(before[-1], now)
            if changed:
                found.append(Stale(folder, tuple(changed), bool(other)))
    return found


def _of_checkpoints(folder: Path) -> list[dict[str, Any]]:
    """What made the checkpoints in a folder whose record is damaged; nothing where they are damaged too."""
    with suppress(Exception):  # zip, pickle and torch each raise their own errors
        (file,) = folder.glob("checkpoints/*.ckpt")
        return list(torch.load(file, map_location="cpu", weights_only=True)[MADE_BY])
    return []


def refusals(found: Sequence[Stale], choice: str | None) -> list[Refusal]:
    """A refusal for all runs that changed alike, unless the command says what to do with them.

    Args:
        found: The stale runs.
        choice: retrain, keep, or None.
    """
    alike: dict[tuple[tuple[str, ...], bool], list[str]] = {}
    for run in found:
        if choice is None or (choice == "keep" and run.is_other):
            alike.setdefault((run.changes, run.is_other), []).append(run.folder.name)
    lines = []
    for (changed, is_other), names in alike.items():
        what = "settings" if is_other else "origin"
        got = f"the {what} of what lies in {_briefly(names)} differs ({_briefly(changed)})"
        remedy = "stale=retrain trains it anew and keeps the old record beside the new"
        allowed = "retrain, or another name=" if is_other else "retrain, keep"
        remedy += "" if is_other else ", stale=keep takes it as it is"
        lines.append(Refusal("stale", got, allowed, remedy))
    return lines


def set_aside(folder: Path) -> None:
    """Keeps the records of a run under other names, such as `result-1.json`, and removes its checkpoints."""
    kept = [re.search(r"-(\d+)$", path.stem) for name in RECORDS for path in folder.glob(name.replace(".", "-*."))]
    number = 1 + max((int(found[1]) for found in kept if found), default=0)
    for name in RECORDS:
        file = folder / name
        if file.exists():
            file.rename(file.with_stem(f"{file.stem}-{number}"))
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _briefly(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - MOST_NAMED} more" if len(texts) > MOST_NAMED else ""
    return ", ".join(texts[:MOST_NAMED]) + more
