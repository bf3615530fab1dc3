"""The lock on a cell's folder: a single process trains a cell, and the lock ends with that process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bn_experiments.system.files import PARTIAL

LOCK = ".claim"  # the file that is locked while a process trains the cell
WAIT_S = 3.0  # the wait for a process that is about to end


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """A context in which this process holds the lock on a cell's folder, unless another process holds it.

    Args:
        folder: The folder of the cell, which exists.

    Yields:
        Whether this process holds the lock. It waits a few seconds for a process that is about to end.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=WAIT_S)
    except Timeout:
        yield False
        return
    except NotImplementedError:  # the file system has no locks
        yield True
        return
    try:
        for partial in folder.rglob(f".*{PARTIAL}"):  # left by a process that was killed
            partial.unlink()
        yield True
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether another process holds the lock on a cell's folder."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False
