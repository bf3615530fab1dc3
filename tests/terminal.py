"""A command in a pseudo terminal, and what a person sees of it."""

import codecs
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte

from tests.command_line import ENVIRONMENT


class Terminal:
    """A command whose output goes to a terminal of some size.

    Args:
        words: The command.
        folder: The folder in which it starts.
        columns: The width.
        lines: The height.
        environment: Variables beside those of every command.
    """

    def __init__(self, words: list[str], folder: Path, columns: int, lines: int, **environment: str):
        self.screen = pyte.HistoryScreen(columns, lines, history=1000)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.stream = pyte.Stream(self.screen)
        self.output = b""
        self.own, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        inherited = {
            key: value for key, value in ENVIRONMENT.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")
        }
        own = {**inherited, "TERM": "xterm-256color", **environment}
        self.process = subprocess.Popen(
            words, stdin=other, stdout=other, stderr=other, cwd=folder, env=own, start_new_session=True
        )
        os.close(other)
        self.deadline = time.monotonic() + 300

    @property
    def shown(self) -> list[str]:
        """What stands on the screen, without the empty lines at its end."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().split("\n")

    @property
    def text(self) -> list[str]:
        """The same, after the lines that have left the screen at its top."""
        gone = ["".join(line[x].data for x in range(self.screen.columns)).rstrip() for line in self.screen.history.top]
        return gone + self.shown

    def until(self, holds: Callable[[list[str]], object]) -> list[str]:
        """Waits for a screen, which it gives, on which something holds; every one is looked at."""
        while self._read():
            if holds(self.shown):
                return self.shown
        raise AssertionError("\n".join(self.text))

    def to_the_end(self) -> int:
        """Waits for the end of the command; gives its status."""
        while self._read():
            pass
        os.close(self.own)
        return self.process.wait()

    def _read(self) -> bool:
        """Takes what has come, up to a pause; false at the end."""
        assert time.monotonic() < self.deadline, "\n".join(self.text)
        if not select.select([self.own], [], [], 0.1)[0]:
            return True
        try:
            got = os.read(self.own, 2**16)
        except OSError:  # nobody has the terminal open
            got = b""
        self.output += got
        self.stream.feed(self.decoder.decode(got))
        return bool(got)
