"""This machine: cells side by side, each in a process that it alone can lose."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.synchronize import Event
from queue import Empty, SimpleQueue

from hydra.core.utils import configure_log
from pydantic import PositiveInt

from bn_experiments.config.cells import Cell
from bn_experiments.sweeps.launchers import worker_context
from bn_experiments.sweeps.launchers.launcher import CellLauncher, Jobs
from bn_experiments.sweeps.launchers.worker import JobSettings, Worker
from bn_experiments.sweeps.workers import at_a_time
from bn_experiments.system import interruption

_worker: list[Worker] = []  # the one that this process is


class LocalLauncher(CellLauncher):
    """Runs several jobs at a time on this machine.

    Each of n places has a worker process of its own: one that dies takes one job along, and its place gets a new
    one. With one place the jobs run in this process. The places take turns on several GPUs.

    Args:
        n_jobs: The number of jobs at a time. None: by rule (see `workers.at_a_time`), which a line explains.
    """

    def __init__(self, n_jobs: PositiveInt | None):
        self.n_jobs = n_jobs

    def run(self, jobs: Jobs) -> None:
        """Runs the jobs."""
        places = self.n_jobs or self._at_a_time(jobs)
        if places > 1:
            self._run_in_workers(jobs, places)
            return
        hydra, worker = self.settings.config.hydra, Worker(self.settings)
        for number, cell in jobs.items():
            self.ended(number, cell, worker(number, cell))
            configure_log(hydra.hydra_logging, hydra.verbose)

    def _at_a_time(self, jobs: Jobs) -> int:
        count, why = at_a_time(list(jobs.values()))
        print(f"training {len(jobs)} of {self.progress.cells} cells, {count} at a time ({why})", flush=True)
        return count

    def _run_in_workers(self, jobs: Jobs, places: int) -> None:
        context = worker_context()
        stop = context.Event()
        waiting: SimpleQueue[int] = SimpleQueue()
        for number in jobs:
            waiting.put(number)

        begun = [(stop, _gpu(place), self.settings) for place in range(places)]
        hires = [partial(ProcessPoolExecutor, 1, context, _begin, arguments) for arguments in begun]
        with interruption.deferred(), ThreadPoolExecutor(places) as threads:
            serving = {threads.submit(self._serve, jobs, waiting, stop, hire) for hire in hires}
            while serving:
                if interruption.asked() and not stop.is_set():
                    print("saving what is trained: a moment", file=sys.stderr, flush=True)
                    stop.set()
                ended, serving = wait(serving, timeout=0.1)
                for future in ended:
                    future.result()

    def _serve(
        self, jobs: Jobs, waiting: "SimpleQueue[int]", stop: Event, hire: Callable[[], ProcessPoolExecutor]
    ) -> None:
        """Runs the jobs that wait, one after another, in a worker that is replaced when it dies."""
        worker = hire()
        try:
            while not stop.is_set():
                number = waiting.get_nowait()
                try:
                    loss = worker.submit(_work, number, jobs[number]).result()
                except BrokenProcessPool:
                    loss = "its process was killed, for a lack of memory perhaps"
                    worker = hire()
                if not stop.is_set():
                    self.ended(number, jobs[number], loss)
        except (Empty, interruption.Interrupted):
            pass
        finally:
            worker.shutdown()


def _gpu(place: int) -> str | None:
    """The device that the worker of a place sees; None where there is none."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(i) for i in range(count)]
    return devices[place % count] if count else None


def _begin(stop: Event, gpu: str | None, settings: JobSettings) -> None:
    """Makes this process a worker."""
    interruption.become_worker(stop)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    _worker.append(Worker(settings))


def _work(number: int, cell: Cell) -> str | None:
    return _worker[0](number, cell)
