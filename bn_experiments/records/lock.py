"""The lock on a cell's folder: one process trains a cell, and it ends with that process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bn_experiments.system.files import PARTIAL

LOCK = ".claim"  # the file that is locked while a process trains the cell
PATIENCE_S = 3.0  # for a process that is ending


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Within it a cell's folder is this process's, unless it is another's; the lock ends with the process.

    Args:
        folder: Exists.

    Yields:
        Whether it is ours. One whose owner is about to end is waited for.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=PATIENCE_S)
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
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether another process is at work in a cell's folder."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False
