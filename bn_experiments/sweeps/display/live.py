"""What a terminal shows while a sweep lasts: one display that is drawn anew, or a line for each cell that ended."""

import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from statistics import fmean
from typing import Self

from rich.console import Console
from rich.live import Live

from bn_experiments.config.cells import Cell
from bn_experiments.records import results
from bn_experiments.sweeps.plan import Plan
from bn_experiments.system import interruption

log = logging.getLogger(__name__)
EVERY_S = 0.5  # how often the files are read
SHARE = 20  # times as long as the reading took last is the least time until the next


class Lines:
    """A line for each cell that ended, where the output is a terminal.

    Args:
        cells: The number of cells of the grid.
        to_train: The number of those that are to be trained.
    """

    def __init__(self, cells: int, to_train: int):
        self.cells, self.to_train, self.ended = cells, to_train, 0
        self.started = time.time()
        self.console = Console(markup=False, highlight=False)

    def __enter__(self) -> Self:
        """Begins."""
        return self

    def __exit__(self, *error: object) -> None:
        """Ends."""

    def show(self, number: int, cell: Cell) -> None:
        """Prints the line: the number of the cell, its folder, what came out, and the time that is left."""
        self.ended += 1
        if not self.console.is_terminal:
            return
        record = results.read_run(cell.folder)
        text: str = record.status if record else "failed"
        if record and record.status == "done":
            accuracies = [value for value in record.metrics["test/acc"] if value is not None]
            text = f"test accuracy {fmean(accuracies):.1%}"
        left_s = (time.time() - self.started) / self.ended * (self.to_train - self.ended)
        text += f", about {timedelta(seconds=round(left_s))} left" if left_s else ""
        self.console.print(f"cell {number + 1} of {self.cells}  {cell.folder.name}  {text}", soft_wrap=True)

    @contextmanager
    def of_workers(self, context: BaseContext) -> Iterator[Connection | None]:
        """A context with the end of a pipe into which workers of this machine print; None: where this process does."""
        yield None


class Display(Lines):
    """One display of the cells that are trained and of those that are done; it vanishes when the training ends.

    A thread reads the files of the cells and draws. What is printed meanwhile stands above the display. The cursor
    stays visible, so that the terminal is as it was whatever ends the process.

    Args:
        plan: The plan of the command.
        cells: The number of cells of the grid.
        jobs: What is to be trained, by number.
    """

    def __init__(self, plan: Plan, cells: int, jobs: Mapping[int, Cell]):
        from bn_experiments.sweeps.display.watch import Watch  # which imports pandas

        super().__init__(cells, len(jobs))
        self.watch = Watch(plan, cells, jobs)
        printed_here = sys.stderr.isatty()
        self.live = Live(console=self.console, auto_refresh=False, transient=True, redirect_stderr=printed_here)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._draw, daemon=True)

    def __enter__(self) -> Self:
        """Begins to draw."""
        self.live.start()
        self.console.show_cursor(True)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends, and clears what was drawn."""
        with interruption.deferred():
            self.over.set()
            self.thread.join(timeout=2.0)  # a file system that does not answer must not hold the command
            self.live.update("")
            self.live.stop()

    def show(self, number: int, cell: Cell) -> None:
        """Moves a cell to those that ended."""
        self.watch.ends.put(number)

    @contextmanager
    def of_workers(self, context: BaseContext) -> Iterator[Connection | None]:
        """See `Lines`: what workers print comes through a pipe, and stands above the display."""
        reader, writer = context.Pipe(duplex=False)
        thread = threading.Thread(target=_print_lines, args=(reader,), daemon=True)
        thread.start()
        try:
            yield writer
        finally:
            writer.close()
            thread.join(timeout=1.0)

    def _draw(self) -> None:
        from bn_experiments.sweeps.display.frame import Frame

        took_s = 0.0
        while not self.over.wait(max(EVERY_S, SHARE * took_s)):
            began = time.monotonic()
            try:
                view = self.watch.view(most=self.console.height)
                self.live.update(Frame(view), refresh=True)
            except Exception:  # a terminal that is gone; the sweep goes on without it
                log.warning("the display ended", exc_info=True)
                return
            took_s = time.monotonic() - began


def display_of(plan: Plan, cells: int, jobs: Mapping[int, Cell]) -> Lines:
    """The display of a sweep; lines where the output is no terminal to draw in, or Lightning's bar was chosen or not.

    Args:
        plan: The plan of the command.
        cells: The number of cells of the grid.
        jobs: What is to be trained, by number.
    """
    console = Console()
    draws = console.is_terminal and not console.is_dumb_terminal and sys.stdout.isatty()
    if draws and all(cell.config["trainer"]["progress_bar"] == "auto" for cell in jobs.values()):
        return Display(plan, cells, jobs)
    return Lines(cells, len(jobs))


def _print_lines(reader: Connection) -> None:
    with reader, open(reader.fileno(), errors="replace", closefd=False) as lines:
        for line in lines:
            print(line, end="", file=sys.stderr)
