"""A cell in this process: trained unless it is done, with a record whatever becomes of it."""

import logging
import sys
import threading

from bn_experiments.config.cells import Cell
from bn_experiments.records import identity, lock, results
from bn_experiments.system import interruption

log = logging.getLogger(__name__)


def train_cell(cell: Cell) -> None:
    """Trains a cell unless that is done or another process does it; a cell that fails says so in its record.

    Raises:
        Interrupted: The process was asked to end; the cell goes on from its last checkpoint.
    """
    interruption.check()
    logging.raiseExceptions = False  # a log that a full disk cuts short is no error of the cell
    threading.excepthook = _log_of_thread
    cell.folder.mkdir(parents=True, exist_ok=True)
    with interruption.listening(), interruption.deferred(), lock.locked(cell.folder) as is_ours:
        if not is_ours or is_done(cell):
            return
        from bn_experiments.run import run

        try:
            run(cell)
        except (Exception, SystemExit) as error:  # the other cells of the sweep go on
            log.warning("the cell failed", exc_info=True)  # for its log; the terminal gets a line at the end
            _record(cell, "failed", f"{type(error).__name__}: {error}")
        except interruption.Interrupted:
            _record(cell, "interrupted", None)
            raise


def is_done(cell: Cell) -> bool:
    """Whether the cell has its finished result."""
    return results.is_done(cell.folder, identity.config_hash(cell.config))


def record_loss(cell: Cell, reason: str) -> None:
    """Records the failure of a cell that could not do so itself, unless its result was written before.

    Args:
        cell: The cell.
        reason: What happened.
    """
    if not is_done(cell):
        _record(cell, "failed", reason)


def _record(cell: Cell, status: results.Status, error: str | None) -> None:
    """The record of a cell that has no numbers, where it can be written."""
    config = cell.config
    seeds = list(range(config["seed"], config["seed"] + config["replicas"]))
    record = results.Result(status, cell.choices, config, identity.config_hash(config), seeds, error=error)
    try:
        cell.folder.mkdir(parents=True, exist_ok=True)
        record.write(cell.folder)
    except OSError as reason:  # a full disk, say; the sweep's last lines tell of the cell
        print(f"{cell.folder}: {error or status}; and its record: {reason}", file=sys.stderr)


def _log_of_thread(failed: threading.ExceptHookArgs) -> None:
    """Writes into the cell's log why a thread failed, such as TensorBoard's that writes its files."""
    assert failed.exc_value is not None
    log.warning("a thread failed", exc_info=failed.exc_value)
