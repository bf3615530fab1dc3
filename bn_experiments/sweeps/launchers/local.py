"""This machine: as many cells side by side as it holds, each in a process that it alone can lose."""

import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

import joblib
import psutil
import torch
from hydra.core.utils import configure_log
from pydantic import PositiveInt

from bn_experiments.config import objects
from bn_experiments.config.cells import Cell
from bn_experiments.sweeps.launchers import worker_context
from bn_experiments.sweeps.launchers.launcher import CellLauncher, Jobs, say_saving
from bn_experiments.system import interruption

MEMORY_BYTES = 1.5e9  # that a cell needs beside its data


class LocalLauncher(CellLauncher):
    """Runs several jobs at a time on this machine.

    Each of n places has a worker process of its own: one that dies takes one job along, and its place gets a new
    one. With one place the jobs run in this process. The places take turns on several GPUs.

    Args:
        n_jobs: The number of jobs at a time. None: by rule (see `at_a_time`), which a line explains.
    """

    def __init__(self, n_jobs: PositiveInt | None):
        self.n_jobs = n_jobs

    def run(self, jobs: Jobs) -> None:
        """Runs the jobs."""
        places = self.n_jobs or self._at_a_time(jobs)
        if places > 1:
            self._run_in_workers(jobs, places)
            return
        hydra = self.worker.config.hydra
        for number, cell in jobs.items():
            self.ended(number, cell, self.worker(number, cell))
            configure_log(hydra.hydra_logging, hydra.verbose)

    def _at_a_time(self, jobs: Jobs) -> int:
        count, why = at_a_time(list(jobs.values()))
        print(f"training {len(jobs)} of {self.display.cells} cells, {count} at a time ({why})", flush=True)
        return count

    def _run_in_workers(self, jobs: Jobs, places: int) -> None:
        context, waiting = worker_context(), deque(jobs.items())
        stop = context.Event()
        with (
            interruption.deferred(),
            self.display.of_workers(context) as output,
            ThreadPoolExecutor(places) as threads,
        ):
            begins = [(stop, _gpu(place), output) for place in range(places)]
            hires = [partial(ProcessPoolExecutor, 1, context, _begin, begin) for begin in begins]
            serving = {threads.submit(self._serve, waiting, stop, hire) for hire in hires}
            while serving:
                if interruption.asked() and not stop.is_set():
                    say_saving()
                    stop.set()
                ended, serving = wait(serving, timeout=0.1)
                for future in ended:
                    future.result()

    def _serve(self, waiting: deque[tuple[int, Cell]], stop: Event, hire: Callable[[], ProcessPoolExecutor]) -> None:
        """Runs the jobs that wait, one after another, in a process that is replaced when it dies."""
        process = hire()
        try:
            while not stop.is_set():
                number, cell = waiting.popleft()
                try:
                    loss = process.submit(self.worker, number, cell).result()
                except BrokenProcessPool:
                    loss = "its process was killed, for a lack of memory perhaps"
                    process = hire()
                if not stop.is_set():
                    self.ended(number, cell, loss)
        except (IndexError, interruption.Interrupted):  # no job waits, or each that ran has saved
            pass
        finally:
            process.shutdown()


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
    threads = max(cell.config["trainer"]["threads"] for cell in cells)
    in_memory = int(psutil.virtual_memory().available // (MEMORY_BYTES + max(data_bytes(cell) for cell in cells)))
    count = max(1, min(len(cells), cores // threads, in_memory))
    return count, f"{_counted(threads, 'thread')} each, on {_counted(cores, 'core')}; memory for {in_memory}"


def data_bytes(cell: Cell) -> int:
    """What a cell's data set takes in memory; the check of the grid has loaded it."""
    source = objects.source(cell.config)
    return (source.train_x.nbytes + source.test_x.nbytes) * (len(cell.seeds) if objects.draws_data(cell.config) else 1)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _gpu(place: int) -> str | None:
    """The device that the worker of a place sees; None where there is none."""
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(i) for i in range(count)]
    return devices[place % count] if count else None


def _begin(stop: Event, gpu: str | None, output: Connection | None) -> None:
    """Makes this process one of workers, which sees one GPU where there are any, and prints into a pipe if given."""
    interruption.become_worker(stop)
    if output is not None:
        for number in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(output.fileno(), number)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
