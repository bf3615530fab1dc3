"""Workers: how many cells are trained side by side, each in a process of its own."""

from collections.abc import Sequence

import joblib
import psutil
import torch

from bn_experiments.config import objects
from bn_experiments.config.cells import Cell

MEMORY_BYTES = 1.5e9  # that a cell needs beside its data


def at_a_time(cells: Sequence[Cell]) -> tuple[int, str]:
    """How many of the cells to train at a time.

    On a CPU these are as many as there are cores, cells and memory for: with networks this small, two processes of one
    thread do more than one process of two threads, and threads that share a core with another program wait for
    each other most of the time. On GPUs one each.

    Args:
        cells: Those to train, one at the least.

    Returns:
        The number, and the reason for a person.
    """
    if any(objects.device(cell.config) != "cpu" for cell in cells):
        return max(1, min(len(cells), torch.cuda.device_count())), "each has a device to itself"
    cores = joblib.cpu_count()
    threads = max(objects.trainer(cell.config).threads for cell in cells)
    in_memory = int(psutil.virtual_memory().available // (MEMORY_BYTES + max(data_bytes(cell) for cell in cells)))
    count = max(1, min(len(cells), cores // threads, in_memory))
    return count, f"{_counted(threads, 'thread')} each, on {_counted(cores, 'core')}; memory for {in_memory}"


def data_bytes(cell: Cell) -> int:
    """What a cell's data set takes in memory; the check of the grid has loaded it."""
    source = objects.source(cell.config)
    return source.train_x.nbytes + source.test_x.nbytes


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
