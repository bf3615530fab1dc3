"""Tuning records: what was tried of the tuned keys of a cell, with what came out, and what was chosen."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from bn_experiments.refusal import shown
from bn_experiments.system.files import write_whole

FILE = "tuning.json"
FOLDER = "tuning"  # in the cell's, with the event files and checkpoints of what is tried


@dataclass(frozen=True)
class Tuning:
    """What was tried at P points with R seeds each.

    Args:
        identity: The digest of what decides the numbers.
        points: The P points: the value of each tuned key.
        seeds: The R seeds, which no replica that is judged has.
        metrics: Each metric's name with its values (P, R), as in `Result`.
        diverged: Whether each replica diverged, (P, R).
        chosen: The index of the point that is best on the validation split (see `tuning.best`).
        edges: The tuned keys whose chosen value lies at an end of what was tried (see `search.edges`): low or high.
        made_by: What made the numbers (see `origin.Origin`).
        train_s: The seconds that it took.
    """

    identity: str
    points: list[dict[str, Any]]
    seeds: list[int]
    metrics: dict[str, list[list[float | None]]]
    diverged: list[list[bool]]
    chosen: int
    edges: dict[str, str]
    made_by: list[dict[str, Any]]
    train_s: float

    @property
    def point(self) -> dict[str, Any]:
        """The point that was chosen."""
        return self.points[self.chosen]

    @property
    def summary(self) -> dict[str, dict[str, Any]]:
        """By tuned key: its chosen value, its edge if it lies at one, and how many values were tried."""
        tried = {key: len({json.dumps(point[key]) for point in self.points}) for key in self.point}
        return {
            key: {"value": value, "edge": self.edges.get(key), "of": tried[key]} for key, value in self.point.items()
        }

    def write(self, folder: Path) -> None:
        """Writes `tuning.json` into the folder of a cell, whole or not at all."""
        write_whole(folder / FILE, json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")


def where(tuned: Mapping[str, Mapping[str, Any]]) -> str:
    """The values at which a cell is judged, as text, by the last part of each key; empty where nothing was tuned.

    >>> where({"optimizer.lr": {"value": 0.1}, "norm.scale_init": {"value": "ones"}})
    'lr=0.1 scale_init=ones'
    """
    return " ".join(f"{key.rpartition('.')[2]}={shown(one['value'])}" for key, one in tuned.items())


def read(folder: Path) -> Tuning | None:
    """The record in the folder of a cell; None if there is none that can be read."""
    try:
        record = json.loads((folder / FILE).read_text())
        found = Tuning(**{field.name: record[field.name] for field in fields(Tuning)})
        return found if _is_whole(found) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_whole(record: Tuning) -> bool:
    """Whether there is a number for each point and seed, and a point was chosen."""
    tables: list[list[Any]] = [record.metrics[name] for name in ("val/acc", "val/loss", *record.metrics)]
    tables.append(record.diverged)
    due = [len(record.seeds)] * len(record.points)
    whole = all([len(row) for row in table] == due for table in tables)
    keys = {tuple(point.keys()) for point in record.points}
    return (
        whole and len(keys) == 1 and 0 <= record.chosen < len(record.points) and record.edges.keys() <= {*record.point}
    )
