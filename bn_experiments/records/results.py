"""Results: the record of a run on disk, with its metrics and where they come from, and what the runs of a cell make."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from bn_experiments.records.identity import identity
from bn_experiments.records.origin import UNKNOWN, Origin
from bn_experiments.system.files import write_whole

FILE = "result.json"
FURTHER = "seeds="  # with which the name of a folder begins that holds a run of further seeds, below the cell's own
Status = Literal["started", "done", "failed", "interrupted"]


@dataclass(frozen=True)
class Result:
    """The record of a run, or of all runs of a cell.

    Args:
        status: The state of the run: started, done, failed or interrupted.
        cell: The chosen option of each group, and under `overrides` all other keys that were set.
        config: The resolved config.
        config_hash: The hash of the part of the config that decides the numbers (see `identity.config_hash`).
        seeds: The seeds of the replicas.
        metrics: One number for each replica, by name; accuracies in [0, 1], losses in nats. Null: the replica diverged
            and has no such number.
        diverged: Whether the loss of each replica is no longer finite; its accuracies are then those at chance.
        chance: The accuracy that a network without skill does not exceed, on each split (see `data.splits.Examples`).
        probes: The last reading of each probe, by quantity and label: one number for each replica, null if not finite.
        timing: The times setup_s and train_s in seconds; samples_per_s, training examples of all replicas per second.
        device: The kind and name of the device, and its threads.
        versions: The versions of Python and of the packages that a number may depend on.
        git_commit: The commit of the code, with -dirty if files were changed since; null outside a checkout.
        looks: The numbers of replicas at which its sweep judges, where these are several.
        tuned: What was chosen of each tuned key (see `records.tuning.Tuning.summary`); `config` has what was typed.
        made_by: What made the numbers (see `origin.Origin`); several entries if it changed on the way.
        notes: What was done in another way than asked for or expected, and why.
        error: The error that ended a failed run, else null.
    """

    status: Status
    cell: dict[str, Any]
    config: dict[str, Any]
    config_hash: str
    seeds: list[int]
    metrics: dict[str, list[float | None]] = field(default_factory=dict)
    diverged: list[bool] = field(default_factory=list)
    chance: dict[str, float] = field(default_factory=dict)
    probes: dict[str, dict[str, dict[str, list[float | None]]]] = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=dict)
    device: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    looks: list[int] = field(default_factory=list)
    tuned: dict[str, dict[str, Any]] = field(default_factory=dict)
    made_by: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def origin(self) -> Origin:
        """What made the numbers, the first if several did."""
        return self.origins[0]

    @property
    def origins(self) -> list[Origin]:
        """All that made the numbers: several where the code changed between the runs, or before one went on."""
        return [Origin.read(each) for each in self.made_by] or [UNKNOWN]

    def write(self, folder: Path) -> None:
        """Writes `result.json` into `folder`, whole or not at all."""
        write_whole(folder / FILE, json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")


def read_run(folder: Path) -> Result | None:
    """The record of the run in `folder`; None if there is none that can be read."""
    file = folder / FILE
    try:
        stat = file.stat()
        return _read(file, (stat.st_mtime_ns, stat.st_ino))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


@lru_cache(maxsize=64)
def _read(file: Path, stamp: tuple[int, int]) -> Result:
    record = json.loads(file.read_text())
    found = Result(**{field.name: record[field.name] for field in fields(Result) if field.name in record})
    if found.status == "done" and not _is_whole(found):
        raise ValueError("a run writes no such record")
    return found


def _is_whole(result: Result) -> bool:
    """Whether a finished run's record has one number for each seed, each seed once, and its times."""
    lengths = {len(result.seeds), len(set(result.seeds)), len(result.diverged), *map(len, result.metrics.values())}
    return len(lengths) == 1 and {"setup_s", "train_s", "samples_per_s"} <= result.timing.keys()


def read(folder: Path) -> Result | None:
    """The record of the cell in `folder`: of all its finished runs, or of its own run where none is finished."""
    found = runs(folder)
    return pooled(found) if found else read_run(folder)


def checkpoint(folder: Path, config_hash: str) -> Path:
    """The file from which a run goes on.

    Args:
        folder: The folder of the run.
        config_hash: The hash of its configuration (see `identity.config_hash`).
    """
    return folder / "checkpoints" / f"{config_hash}.ckpt"


def cells_below(folder: Path) -> list[Path]:
    """The folders of the cells with a record, at any depth below a folder such as a sweep's."""
    runs_of_cells = {path.parent for path in folder.rglob(FILE)}
    return sorted({run.parent if run.name.startswith(FURTHER) else run for run in runs_of_cells})


def done_below(folder: Path) -> dict[Path, Result]:
    """The records of the cells below a folder that have a finished run, without the readings of their probes."""
    return _done(cells_below(folder))


def done_in(sweep: Path) -> dict[Path, Result]:
    """The same of the cells of a sweep, which lie in its folder itself; what lies deeper is another sweep's."""
    return _done([cell for cell in cells_below(sweep) if cell.parent == sweep])


def _done(cells: Sequence[Path]) -> dict[Path, Result]:
    found = {cell: read(cell) for cell in cells}
    return {cell: replace(result, probes={}) for cell, result in found.items() if result and result.status == "done"}


def written_ns(folder: Path) -> int:
    """When the newest record of a cell was written, in nanoseconds since 1970; 0 where there is none."""
    records = [place / FILE for place in (folder, *further(folder))]
    return max((record.stat().st_mtime_ns for record in records if record.exists()), default=0)


@dataclass(frozen=True)
class Run:
    """A finished run of a cell, and which of its replicas count.

    Args:
        folder: The folder of the run, which is the cell's or lies in it.
        result: The record of the run.
        kept: The indices of the replicas whose seeds no earlier run has.
    """

    folder: Path
    result: Result
    kept: tuple[int, ...]


def runs(folder: Path) -> list[Run]:
    """The finished runs of a cell: the one in its own folder first, then those of further seeds.

    Args:
        folder: The folder of the cell.
    """
    found: list[Run] = []
    seen: set[int] = set()
    for place in (folder, *further(folder)):
        result = read_run(place)
        if result is None or result.status != "done":
            continue
        first = found[0].result if found else result
        if identity(result.config) != identity(first.config) or result.tuned != first.tuned:
            continue
        kept = tuple(i for i, seed in enumerate(result.seeds) if seed not in seen)
        seen |= set(result.seeds)
        if kept:
            found.append(Run(place, result, kept))
    return found


def further(folder: Path) -> list[Path]:
    """The folders of the runs of further seeds of a cell."""
    return sorted(folder.glob(f"{FURTHER}*"))


def pooled(found: Sequence[Run]) -> Result:
    """The record of a cell with the replicas of all its runs; its times are their sums."""
    first = found[0].result
    if len(found) == 1:
        return first
    results = [run.result for run in found]
    train_s = sum(result.timing["train_s"] for result in results)
    examples = sum(result.timing["samples_per_s"] * result.timing["train_s"] for result in results)
    made_by = [entry for result in results for entry in result.made_by]
    notes = dict.fromkeys(note for result in results for note in result.notes)
    return replace(
        first,
        seeds=[run.result.seeds[i] for run in found for i in run.kept],
        metrics={name: [run.result.metrics[name][i] for run in found for i in run.kept] for name in first.metrics},
        diverged=[run.result.diverged[i] for run in found for i in run.kept],
        chance={
            name: max(result.chance.get(name, chance) for result in results) for name, chance in first.chance.items()
        },
        probes=_pooled(found, [result.probes for result in results]),
        timing={
            "setup_s": sum(result.timing["setup_s"] for result in results),
            "train_s": train_s,
            "samples_per_s": examples / train_s if train_s else 0.0,
        },
        made_by=[entry for i, entry in enumerate(made_by) if entry not in made_by[:i]],
        notes=list(notes),
    )


def _pooled(found: Sequence[Run], each: Sequence[Any]) -> Any:
    """The values at the same places of nested records of runs, each a list with a number for each replica."""
    if isinstance(each[0], dict):
        return {key: _pooled(found, [own[key] for own in each]) for key in each[0]}
    return [values[i] for run, values in zip(found, each, strict=True) for i in run.kept]
