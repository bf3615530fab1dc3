"""Workers: how many cells are trained side by side, each in a process of its own."""

from collections.abc import Sequence

import joblib
import psutil

from bn_experiments import build
from bn_experiments.cells import Cell

MEMORY_BYTES = 1.5e9  # that a cell needs beside its data


def at_a_time(cells: Sequence[Cell]) -> tuple[int, str]:
    """How many cells of a sweep to train at a time.

    On a CPU as many as there are cores, cells and memory for: with networks this small, two processes of one
    thread do more than one process of two threads. One on a GPU, where a cell has the device to itself. The
    threads of a cell follow from it, and the last digit of its numbers from these; so all cells of the command
    count, done or not, and the same command gives the same numbers whenever it is started again.

    Args:
        cells: Of the command, one at the least.

    Returns:
        The number, and the reason for a person.
    """
    if any(build.device(cell.config) != "cpu" for cell in cells):
        return 1, "which has the device to itself"
    cores = joblib.cpu_count()
    asked_for = max(build.trainer(cell.config).threads or 1 for cell in cells)
    in_memory = int(psutil.virtual_memory().available // (MEMORY_BYTES + max(data_bytes(cell) for cell in cells)))
    count = max(1, min(len(cells), cores // asked_for, in_memory))
    threads = asked_for if asked_for > 1 else cores // count
    return count, f"{_counted(cores, 'core')}, {_counted(threads, 'thread')} a cell, memory for {in_memory}"


def data_bytes(cell: Cell) -> int:
    """What a cell's data set takes in memory; the check of the grid has loaded it."""
    source = build.source(cell.config)
    return source.train_x.nbytes + source.test_x.nbytes


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
