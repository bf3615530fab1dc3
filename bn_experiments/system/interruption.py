"""Interruption: SIGTERM and Ctrl-C end a run only where nothing is lost."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from multiprocessing.synchronize import Event
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
IMPATIENT_S = 1.0  # a signal this long after the first ends the process at once; some programs send each signal twice


class Interrupted(BaseException):
    """The process was asked to end. Neither Hydra nor Lightning takes it for the failure of a cell.

    Args:
        signum: The signal that asked.
    """

    def __init__(self, signum: int):
        super().__init__(signum)
        self.status = 128 + signum  # a shell's exit status for it


@dataclass
class _Process:
    """What this process was asked, and whether it answers at once."""

    signum: int | None = None
    since: float = 0.0
    deferring: bool = False
    stop: Event | None = None


_process = _Process()


@contextmanager
def listening() -> Iterator[None]:
    """Within it, SIGINT and SIGTERM raise `Interrupted`, at once or, within `deferred`, where `check` is called."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    outermost = _answer not in before.values()
    listen()
    try:
        yield
    finally:
        if outermost and _in_main_thread():
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)
            _process.signum = None


def listen() -> None:
    """Takes the signals over, also from whoever took them meanwhile; only a main thread can."""
    if _process.stop is None and _in_main_thread():
        for number in SIGNALS:
            signal.signal(number, _answer)


@contextmanager
def deferred() -> Iterator[None]:
    """Within it a signal waits until `check` is called."""
    outer, _process.deferring = _process.deferring, True
    try:
        yield
    finally:
        _process.deferring = outer


def asked() -> bool:
    """Whether this process was asked to end."""
    return _process.signum is not None or (_process.stop is not None and _process.stop.is_set())


def check() -> None:
    """Ends what is running where the process was asked to.

    Raises:
        Interrupted: It was.
    """
    if asked():
        raise Interrupted(_process.signum or signal.SIGTERM)


def become_worker(stop: Event) -> None:
    """Makes this process a worker: it ends when its parent says so, or dies, and signals mean nothing to it.

    Args:
        stop: Set by the parent.
    """
    for number in SIGNALS:  # Ctrl-C reaches every process of a terminal; the parent decides
        signal.signal(number, signal.SIG_IGN)
    _process.stop = stop
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _answer(signum: int, frame: Any) -> None:
    now = time.monotonic()
    if _process.signum is None:
        _process.signum, _process.since = signum, now
    elif now - _process.since > IMPATIENT_S:
        os._exit(128 + signum)
    else:
        return
    if not _process.deferring:
        raise Interrupted(signum)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
