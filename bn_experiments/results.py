"""Results: a cell's record on disk, written whole or not at all, read back as tables."""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
FILE = "result.json"
PARTIAL = ".partial"  # ends the name of a file that is being written
CLAIM = ".claim"  # locked while a process trains the cell
PATIENCE_S = 3.0  # for a process that is ending
NO_NUMBERS = ("progress_bar", "threads", "cuda_graph")  # keys of the trainer that decide nothing but the last digit
Status = Literal["done", "failed", "interrupted"]


@dataclass(frozen=True)
class Result:
    """What a cell leaves behind.

    Args:
        status: done, failed or interrupted.
        cell: The chosen option of each group, and `overrides`, every other key that was set.
        config: Resolved.
        config_hash: Of the config, less what does not change a number (see `config_hash`).
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


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Within it a cell's folder is this process's, unless it is another's; the claim ends with the process.

    Args:
        folder: Exists.

    Yields:
        Whether it is ours. One whose owner is about to end is waited for.
    """
    claim = FileLock(folder / CLAIM)
    try:
        claim.acquire(timeout=PATIENCE_S)
    except Timeout:
        yield False
        return
    except NotImplementedError:  # a file system that has no locks
        yield True
        return
    try:
        for partial in folder.rglob(f".*{PARTIAL}"):  # of a process that was killed
            partial.unlink()
        yield True
    finally:
        claim.release()


def is_claimed(folder: Path) -> bool:
    """Whether another process is at work in a cell's folder."""
    if not (folder / CLAIM).exists():
        return False
    try:
        with FileLock(folder / CLAIM, timeout=0):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False


def collect(folder: str | Path) -> "pd.DataFrame":
    """All finished runs below a folder, one row for each cell and replica.

    Columns: folder, sweep (the folder above it), the groups (data, model, norm, optimizer, scheduler, trainer),
    settings (the overrides beyond the groups), seed, diverged, every metric by name, config_hash.

    Args:
        folder: Such as "outputs" or "outputs/grid".

    Returns:
        The table; empty where there is no result.
    """
    return frame(sorted(path.parent for path in Path(folder).rglob(FILE)))


def frame(folders: Iterable[Path]) -> "pd.DataFrame":
    """The table of `collect`, for the cells in these folders."""
    import pandas as pd  # the command line imports this module, and answers at once

    cells = []
    for folder in folders:
        result = read(folder)
        if result is None or result.status != "done":
            continue
        groups = {key: value for key, value in result.cell.items() if key != "overrides"}
        settings = " ".join(result.cell["overrides"])
        shared = {"folder": str(folder), "sweep": str(folder.parent), **groups, "settings": settings}
        cells.append((shared, result.seeds, result.diverged, result.metrics, result.config_hash))
    if not cells:
        return pd.DataFrame()
    columns: dict[str, list[Any]] = {}  # a column at a time: a large grid has 100,000 rows
    for name in dict.fromkeys(key for shared, *_ in cells for key in shared):
        columns[name] = [shared.get(name) for shared, seeds, *_ in cells for _ in seeds]
    columns["seed"] = [seed for _, seeds, *_ in cells for seed in seeds]
    columns["diverged"] = [each for _, _, diverged, *_ in cells for each in diverged]
    for name in dict.fromkeys(name for *_, metrics, _ in cells for name in metrics):
        unknown = [math.nan]
        columns[name] = [v for _, seeds, _, metrics, _ in cells for v in metrics.get(name) or unknown * len(seeds)]
    columns["config_hash"] = [each for _, seeds, *_, each in cells for _ in seeds]
    return pd.DataFrame(columns)


def config_hash(config: dict[str, Any]) -> str:
    """The first 16 hex digits of SHA-256 over what decides a cell's numbers.

    Left out: the sweep's name, where data and outputs lie, the progress bar, and how the machine is used.

    >>> a = {"name": "a", "paths": {}, "data": {"root": "x"}, "trainer": {"progress_bar": True}, "seed": 0}
    >>> config_hash(a) == config_hash({**a, "name": "b"}) != config_hash({**a, "seed": 1})
    True
    """
    kept = {key: value for key, value in config.items() if key not in ("name", "paths")}
    kept["trainer"] = {key: value for key, value in config["trainer"].items() if key not in NO_NUMBERS}
    # where downloads lie changes nothing; a folder of one's own is what is trained on
    own_images = str(config["data"].get("_target_")).endswith(".image_folder")
    if not own_images and config["data"].get("root") == config["paths"].get("data_dir"):
        kept["data"] = {key: value for key, value in config["data"].items() if key != "root"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def write_whole(path: Path, content: str | bytes | Callable[[BinaryIO], None]) -> None:
    """Writes a file so that it has its old content or all of the new, whatever happens meanwhile.

    Args:
        path: In a folder that exists.
        content: The new content, or what writes it into an open file.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
