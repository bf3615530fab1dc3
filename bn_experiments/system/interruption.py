"""Interruption: SIGTERM and Ctrl-C end a run only at a place where nothing is lost."""

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
IMPATIENT_S = 1.0  # a second signal this much later ends the process at once; some programs send each signal twice


class Interrupted(BaseException):
    """A signal asked the process to end. Neither Hydra nor Lightning handles this exception as the failure of a cell.

    Args:
        signum: The number of the signal.
    """

    def __init__(self, signum: int):
        super().__init__(signum)
        self.status = 128 + signum  # the exit status that a shell gives for this signal


@dataclass
class _Process:
    """The signal that this process got, and whether it acts on it at once."""

    signum: int | None = None
    since: float = 0.0
    deferring: bool = False
    stop: Event | None = None


_process = _Process()


@contextmanager
def listening() -> Iterator[None]:
    """A context in which SIGINT and SIGTERM raise `Interrupted`, at once or, within `deferred`, in `check`."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    listen()
    try:
        yield
    finally:
        if _answer not in before.values() and _in_main_thread():  # the outermost context
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)
            _process.signum = None


def listen() -> None:
    """Sets the handlers of the signals, also over those of another library; only the main thread can do so."""
    if _in_main_thread():
        for number in SIGNALS:
            signal.signal(number, _answer if _process.stop is None else signal.SIG_IGN)


@contextmanager
def deferred() -> Iterator[None]:
    """A context in which a signal has no effect until `check` is called."""
    outer, _process.deferring = _process.deferring, True
    try:
        yield
    finally:
        _process.deferring = outer


def asked() -> bool:
    """Whether this process was asked to end."""
    return _process.signum is not None or (_process.stop is not None and _process.stop.is_set())


def signal_name() -> str:
    """The signal that this process got, as the one who sent it knows it."""
    return "Ctrl-C" if _process.signum == signal.SIGINT else signal.Signals(_process.signum or signal.SIGTERM).name


def check() -> None:
    """Raises `Interrupted` if the process was asked to end.

    Raises:
        Interrupted: The process was asked to end.
    """
    if asked():
        raise Interrupted(_process.signum or signal.SIGTERM)


def become_worker(stop: Event) -> None:
    """Makes this process a worker: it ends when its parent asks for it or dies, and it ignores signals.

    Args:
        stop: The event that the parent sets to ask for the end.
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
