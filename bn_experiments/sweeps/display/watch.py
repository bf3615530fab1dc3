"""Watch: what is known of the cells of a sweep while they are trained, from their files, wherever they are trained."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from statistics import fmean
from typing import NamedTuple

from bn_experiments.claims.arms import arm_names
from bn_experiments.config.cells import Cell
from bn_experiments.records import progress, results
from bn_experiments.records.progress import Progress
from bn_experiments.records.results import FURTHER
from bn_experiments.refusal import one_line
from bn_experiments.sweeps.display.so_far import Finding, SoFar
from bn_experiments.sweeps.plan import Plan

OPTIONS = ("data", "optimizer", "scheduler", "loss", "trainer")  # that are named where cells differ in them


class Ended(NamedTuple):
    """A cell that ended.

    Args:
        name: The short name of the cell.
        outcome: What became of it where it is not done.
        finding: What came out where it is done; None where nothing was trained.
    """

    name: str
    outcome: str
    finding: Finding | None


class View(NamedTuple):
    """What there is to show of a sweep at a moment.

    Args:
        cells: The number of its cells.
        done: The number of those that are done.
        failed: The number of those that failed.
        left_s: The seconds until its end, where there is a pace yet.
        baseline: The arm that the others are compared with.
        training: The name of each cell that is trained, with how far it is.
        ended: Cells that ended, the newest first.
    """

    cells: int
    done: int
    failed: int
    left_s: float | None
    baseline: str
    training: Sequence[tuple[str, Progress]]
    ended: Sequence[Ended]


class Watch:
    """Reads the files of the cells that are not done; one thread looks, any thread may say that a job ended.

    Args:
        plan: The plan of the command.
        cells: The number of cells, each run of further seeds of a cell counted as one.
        jobs: What is to be trained, by number.
    """

    def __init__(self, plan: Plan, cells: int, jobs: Mapping[int, Cell]):
        self.plan = plan
        self.cells = cells
        self.waiting = dict(jobs)  # for their end
        self.ends: SimpleQueue[int] = SimpleQueue()  # of which the next view takes note
        self.training: dict[int, Progress] = {}
        self.since: dict[int, float] = {}  # when a cell was first seen to be trained
        self.told: dict[int, float] = {}  # when its file was first seen as it is now
        self.lasted_s: list[float] = []  # of each cell that was trained
        names = short_names(plan.cells)
        self.names = {number: _with_seeds(names[home_of(cell)], cell) for number, cell in jobs.items()}
        trained = {home_of(cell) for cell in jobs.values()}
        self.before = [(names[cell.folder], "", cell.folder) for cell in plan.cells if cell.folder not in trained]
        self.ended: list[tuple[str, str, Path]] = []  # name, outcome, folder
        for cell in jobs.values():
            progress.remove(cell.folder)  # of a process that was killed

    @cached_property
    def so_far(self) -> SoFar:
        """What came out of the cells that are done."""
        return SoFar(self.plan)

    def view(self, most: int) -> View:
        """Reads the files.

        Args:
            most: The number of ended cells to give, at the most.
        """
        while not self.ends.empty():
            self._end(self.ends.get())
        for number, cell in self.waiting.items():
            found = progress.read(cell.folder)
            if found and found != self.training.get(number):  # the last one stays until the job ends
                self.training[number] = found
                self.told[number] = time.monotonic()
                self.since.setdefault(number, self.told[number])
        training = {number: self._now(number) for number in sorted(self.training)}
        outcomes = [outcome for _, outcome, _ in self.ended if outcome]
        newest = [*reversed(self.ended[-most:]), *self.before[:most]][:most]
        return View(
            self.cells,
            self.cells - len(self.waiting) - len(outcomes),
            sum(outcome.startswith("failed") for outcome in outcomes),
            self._left_s({number: own.left_s for number, own in training.items() if own.left_s is not None}),
            self.so_far.baseline,
            [(self.names[number], own) for number, own in training.items()],
            [Ended(name, outcome, None if outcome else self.so_far.of(folder)) for name, outcome, folder in newest],
        )

    def _end(self, number: int) -> None:
        cell = self.waiting.pop(number)
        record = results.read_run(cell.folder)
        outcome = "" if record and record.status == "done" else "not done"
        if record and record.status == "failed":
            outcome = f"failed ({one_line(record.error)})"
        if self.training.pop(number, None):
            self.lasted_s.append(time.monotonic() - self.since[number])
        self.ended.append((self.names[number], outcome, home_of(cell)))
        self.so_far.add(home_of(cell))

    def _now(self, number: int) -> Progress:
        """What the file of a cell says, less the time since it was written."""
        found = self.training[number]
        if found.left_s is None:
            return found
        return replace(found, left_s=max(0.0, found.left_s - (time.monotonic() - self.told[number])))

    def _left_s(self, left: Mapping[int, float]) -> float | None:
        """The seconds that the cells to come take at the pace of the others, as many at a time as are trained now.

        Args:
            left: The seconds that each cell has left, of those that have a pace.
        """
        now = time.monotonic()
        lasts = [*self.lasted_s, *(now - self.since[number] + own for number, own in left.items())]
        if not lasts or not self.waiting:
            return None
        unknown = len(self.waiting) - len(left)
        return max([(sum(left.values()) + unknown * fmean(lasts)) / max(1, len(self.training)), *left.values()])


def short_names(cells: Sequence[Cell]) -> dict[Path, str]:
    """The name of each cell of a grid, by its folder: its model and its arm, then in what the cells differ besides."""
    arms = arm_names({cell.folder: (cell.choices, cell.config) for cell in cells})
    varying = [group for group in OPTIONS if len({str(cell.choices[group]) for cell in cells}) > 1]
    settings = [[text for text in cell.choices["overrides"] if not text.startswith("norm.")] for cell in cells]
    shared = set.intersection(*map(set, settings))
    names = {}
    for cell, texts in zip(cells, settings, strict=True):
        options = [str(cell.choices[group]) for group in varying]
        own = [text for text in texts if text not in shared]
        names[cell.folder] = " ".join([str(cell.choices["model"]), arms[cell.folder], *options, *own])
    return names


def home_of(cell: Cell) -> Path:
    """The folder of a cell, of which a run of further seeds has one below it."""
    return cell.folder.parent if cell.folder.name.startswith(FURTHER) else cell.folder


def _with_seeds(name: str, cell: Cell) -> str:
    return f"{name} {cell.folder.name}" if cell.folder.name.startswith(FURTHER) else name
