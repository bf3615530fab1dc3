"""Results: what a cell leaves behind, as a record on disk."""

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
    """What a cell leaves behind.

    Args:
        status: done, failed or interrupted.
        cell: The chosen option of each group, and `overrides`, every other key that was set.
        config: Resolved.
        config_hash: Of the config, less what does not change a number (see `identity.config_hash`).
        seeds: Of the replicas.
        metrics: Name to one number a replica; accuracies in [0, 1], losses in nats.
        diverged: Whether each replica's loss left the finite numbers; it is then scored at chance.
        probes: The last reading of each probe: quantity to label to one number a replica, null where it is not finite.
        timing: setup_s and train_s in seconds; samples_per_s, training examples of all replicas a second.
        device: Kind, name and threads.
        versions: Of Python and the packages that matter.
        git_commit: Of the code, with -dirty where it was changed; null outside a checkout.
        error: What ended a failed cell, else null.
        schema: Of this record.
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
        """Writes `result.json` into `folder`: to another name first, so that it is never half there."""
        write_whole(folder / FILE, json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")


def read(folder: Path) -> Result | None:
    """The result in `folder`; None where there is none that can be read."""
    try:
        record = json.loads((folder / FILE).read_text())
        return Result(**{field.name: record[field.name] for field in fields(Result)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_done(folder: Path, config_hash: str) -> bool:
    """Whether `folder` holds the finished result of this configuration."""
    result = read(folder)
    return result is not None and result.status == "done" and result.config_hash == config_hash
