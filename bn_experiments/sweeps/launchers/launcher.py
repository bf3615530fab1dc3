"""What the launchers share: which cells they train, and what becomes of one that is lost."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from statistics import fmean

from rich.console import Console

from bn_experiments.config.cells import Cell
from bn_experiments.records import results
from bn_experiments.sweeps.launchers.worker import JobSettings
from bn_experiments.sweeps.plan import Plan
from bn_experiments.sweeps.train_cell import is_done, record_loss
from bn_experiments.system import interruption

Jobs = Mapping[int, Cell]  # number to cell


class CellLauncher(ABC):
    """Trains the cells of a plan that are not done; each can be lost without harm to another."""

    def train(self, plan: Plan, settings: JobSettings) -> None:
        """Trains the cells that are not done; what became of each stands in its record.

        Args:
            plan: The plan of the command.
            settings: What its jobs have in common.

        Raises:
            Interrupted: The process was asked to end; the cells that were training have saved.
        """
        self.settings = settings
        jobs = {number: cell for number, cell in enumerate(plan.cells) if not is_done(cell)}
        self.progress = Progress(len(plan.cells), len(jobs))
        if jobs:
            self.run(jobs)
        interruption.check()

    @abstractmethod
    def run(self, jobs: Jobs) -> None:
        """Runs the jobs, and returns early once `interruption.asked`."""

    def ended(self, number: int, cell: Cell, loss: str | None) -> None:
        """Shows that a job ended, and records the failure of one that could not do so itself; the sweep goes on.

        Args:
            number: The number of the job.
            cell: The cell.
            loss: What kept the job from starting, or from its end.
        """
        if loss:
            record_loss(cell, loss)
        self.progress.show(number, cell)


class Progress:
    """A line for each cell that ended, where the output is a terminal.

    Args:
        cells: How many cells the grid has.
        to_train: How many of them are to be trained.
    """

    def __init__(self, cells: int, to_train: int):
        self.cells, self.to_train, self.ended = cells, to_train, 0
        self.started = time.time()
        self.console = Console(markup=False, highlight=False)

    def show(self, number: int, cell: Cell) -> None:
        """Prints the line: the number of the cell, its folder, what came out, and the time that is left."""
        self.ended += 1
        if not self.console.is_terminal:
            return
        record = results.read(cell.folder)
        text: str = record.status if record else "failed"
        if record and record.status == "done":
            text = f"test accuracy {fmean(record.metrics['test/acc']):.1%}"
        left_s = (time.time() - self.started) / self.ended * (self.to_train - self.ended)
        text += f", about {timedelta(seconds=round(left_s))} left" if left_s else ""
        self.console.print(f"cell {number + 1} of {self.cells}  {cell.folder.name}  {text}", soft_wrap=True)
