"""A cell in this process: trained unless it is done, with a record whatever becomes of it."""

import logging
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bn_experiments.config.cells import Cell
from bn_experiments.records import identity, lock, progress, results
from bn_experiments.system import interruption

log = logging.getLogger(__name__)


def train_cell(cell: Cell) -> None:
    """Trains the seeds of a cell that are not done, unless another process does; what fails says so in its record.

    Raises:
        Interrupted: The process was asked to end; the cell goes on from its last checkpoint.
    """
    logging.raiseExceptions = False  # a log that a full disk cuts short is no error of the cell
    threading.excepthook = _log_of_thread
    for run_of_it in runs_to_train(cell):
        interruption.check()
        _train(run_of_it)


def _train(cell: Cell) -> None:
    cell.folder.mkdir(parents=True, exist_ok=True)
    with interruption.listening(), interruption.deferred(), lock.locked(cell.folder) as is_ours:
        record = results.read_run(cell.folder)
        if not is_ours or (record and record.status == "done"):  # which another process may have written just now
            return
        _record(cell, "started", None)  # so that another process knows at once which seeds this one trains
        progress.Progress(progress.STARTING, epochs=cell.config["trainer"]["max_epochs"]).write(cell.folder)
        from bn_experiments.run import run

        try:
            run(cell)
        except (Exception, SystemExit) as error:  # the other cells of the sweep go on
            log.warning("the cell failed", exc_info=True)  # for its log; the terminal gets a line at the end
            _record(cell, "failed", f"{type(error).__name__}: {error}")
        except interruption.Interrupted:
            _record(cell, "interrupted", None)
            raise
        finally:
            progress.remove(cell.folder)


def runs_to_train(cell: Cell) -> list[Cell]:
    """What is left to train of a cell: unfinished runs of its seeds, then those of its seeds that no run has.

    The first run of a cell lies in the cell's own folder, each further one in a folder `seeds=a-b` in it. The seeds of
    all finished runs count together.
    """
    done = seeds_done(cell)
    left = [seed for seed in cell.seeds if seed not in done]
    found = []
    for folder in (cell.folder, *results.further(cell.folder)):
        record = _record_of(folder)
        if record and record.status != "done" and record.seeds and set(record.seeds) <= set(left):
            found.append(cell.of_seeds(record.seeds, folder))
            left = [seed for seed in left if seed not in record.seeds]
    taken = is_in_use(cell.folder) or lock.is_locked(cell.folder)
    for seeds in _consecutive(left):
        own = cell.of_seeds(seeds, cell.folder)
        saved = results.checkpoint(own.folder, identity.config_hash(own.config))
        if taken and not saved.exists():  # a record may be damaged where the checkpoint is not
            own = cell.of_seeds(seeds, cell.folder / f"{results.FURTHER}{seeds[0]}-{seeds[-1]}")
        found.append(own)
        taken = True
    return found


def _record_of(folder: Path) -> results.Result | None:
    """The record of a run; that of one which another process is just about to begin too."""
    for _ in range(20):
        record = results.read_run(folder)
        if record is not None or not lock.is_locked(folder):
            return record
        time.sleep(0.1)
    return record


def is_in_use(folder: Path) -> bool:
    """Whether a folder holds a run that is finished or can go on, and not just the record of one that failed early."""
    record = results.read_run(folder)
    return (record is not None and record.status == "done") or any(folder.glob("checkpoints/*.ckpt"))


def _consecutive(seeds: Sequence[int]) -> list[list[int]]:
    """Seeds in runs of numbers that follow on each other.

    >>> _consecutive([0, 1, 5, 6, 7])
    [[0, 1], [5, 6, 7]]
    """
    found: list[list[int]] = []
    for seed in sorted(seeds):
        if found and seed == found[-1][-1] + 1:
            found[-1].append(seed)
        else:
            found.append([seed])
    return found


def seeds_done(cell: Cell) -> set[int]:
    """The seeds of a cell's finished runs."""
    mine = identity.identity(cell.config)
    found = results.runs(cell.folder)
    return {seed for run in found for seed in run.result.seeds if identity.identity(run.result.config) == mine}


def is_done(cell: Cell) -> bool:
    """Whether all seeds of a cell have their finished run."""
    return seeds_done(cell).issuperset(cell.seeds)


def record_loss(cell: Cell, reason: str) -> None:
    """Records the failure of a run that could not do so itself, unless its result was written before.

    Args:
        cell: The cell, with the seeds and the folder of the run.
        reason: What happened.
    """
    record = results.read_run(cell.folder)
    if record is None or record.status != "done":
        _record(cell, "failed", reason)


def _record(cell: Cell, status: results.Status, error: str | None) -> None:
    """The record of a run that has no numbers, where it can be written."""
    hashed = identity.config_hash(cell.config)
    begun = results.read_run(cell.folder)
    if begun is None or begun.config_hash != hashed:
        begun = results.Result(status, cell.choices, cell.config, hashed, list(cell.seeds))
    try:
        cell.folder.mkdir(parents=True, exist_ok=True)
        replace(begun, status=status, error=error, seeds=list(cell.seeds)).write(cell.folder)
    except OSError as reason:  # a full disk, say; the sweep's last lines tell of the cell
        print(f"{cell.folder}: {error or status}; and its record: {reason}", file=sys.stderr)


def _log_of_thread(failed: threading.ExceptHookArgs) -> None:
    """Writes into the cell's log why a thread failed, such as TensorBoard's that writes its files."""
    assert failed.exc_value is not None
    log.warning("a thread failed", exc_info=failed.exc_value)
