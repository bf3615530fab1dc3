"""Results: the record of a cell on disk, with its metrics and where they come from."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from bn_experiments.system.files import write_whole

SCHEMA = 1
FILE = "result.json"
Status = Literal["done", "failed", "interrupted"]


@dataclass(frozen=True)
class Result:
    """The record of a cell.

    Args:
        status: The state of the cell: done, failed or interrupted.
        cell: The chosen option of each group, and under `overrides` all other keys that were set.
        config: The resolved config.
        config_hash: The hash of the part of the config that decides the numbers (see `identity.config_hash`).
        seeds: The seeds of the replicas.
        metrics: One number for each replica, by name; accuracies in [0, 1], losses in nats.
        diverged: Whether the loss of each replica is no longer finite; its metrics are then those at chance.
        probes: The last reading of each probe, by quantity and label: one number for each replica, null if not finite.
        timing: The times setup_s and train_s in seconds; samples_per_s, training examples of all replicas per second.
        device: The kind and name of the device, and its threads.
        versions: The versions of Python and of the packages that a number may depend on.
        git_commit: The commit of the code, with -dirty if files were changed since; null outside a checkout.
        error: The error that ended a failed cell, else null.
        schema: The version of this record's format.
    """

    status: Status
    cell: dict[str, Any]
    config: dict[str, Any]
    config_hash: str
    seeds: list[int]
    metrics: dict[str, list[float]] = field(default_factory=dict)
    diverged: list[bool] = field(default_factory=list)
    probes: dict[str, dict[str, dict[str, list[float | None]]]] = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=dict)
    device: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    error: str | None = None
    schema: int = SCHEMA

    def write(self, folder: Path) -> None:
        """Writes `result.json` into `folder`, whole or not at all."""
        write_whole(folder / FILE, json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")


def read(folder: Path) -> Result | None:
    """The result in `folder`; None if there is no result that can be read."""
    try:
        record = json.loads((folder / FILE).read_text())
        return Result(**{field.name: record[field.name] for field in fields(Result)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_done(folder: Path, config_hash: str) -> bool:
    """Whether `folder` holds the finished result of this configuration."""
    result = read(folder)
    return result is not None and result.status == "done" and result.config_hash == config_hash
