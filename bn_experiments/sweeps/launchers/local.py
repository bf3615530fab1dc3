"""This machine: cells side by side, each in a process that it alone can lose."""

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.synchronize import Event
from queue import Empty, SimpleQueue

from hydra.core.utils import configure_log
from pydantic import PositiveInt

from bn_experiments.sweeps.launchers import worker_context
from bn_experiments.sweeps.launchers.launcher import CellLauncher, Jobs, Worker, attempt
from bn_experiments.sweeps.workers import at_a_time
from bn_experiments.system import interruption

_worker: list[Worker] = []  # the one that this process is


class LocalLauncher(CellLauncher):
    """Runs so many jobs at a time on this machine.

    Each of n slots has a worker process of its own: one that dies takes one job along, and the slot gets a new
    one. With one slot the jobs run in this process. Of several GPUs the slots take turns.

    Args:
        n_jobs: At a time. None: by rule (see `workers.at_a_time`), which is told in a line.
    """

    def __init__(self, n_jobs: PositiveInt | None):
        self.n_jobs = n_jobs

    def run(self, jobs: Jobs) -> None:
        """Runs the jobs."""
        slots = self.n_jobs or self._at_a_time(jobs)
        if slots > 1:
            self._run_in_workers(jobs, slots)
            return
        for number, overrides in jobs.items():
            reason = attempt(number, overrides, self.hydra_context, self.task_function, self.config)
            if reason:
                self.lose(number, overrides, reason)
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)

    def _at_a_time(self, jobs: Jobs) -> int:
        count, why = at_a_time([self.sweep.cells[number] for number in jobs])
        print(f"training {len(jobs)} of {len(self.sweep.cells)} cells, {count} at a time ({why})", flush=True)
        return count

    def _run_in_workers(self, jobs: Jobs, slots: int) -> None:
        context = worker_context()
        stop, shared = context.Event(), self.shared()
        waiting: SimpleQueue[int] = SimpleQueue()
        for number in jobs:
            waiting.put(number)

        begun = [(stop, _gpu(slot), shared) for slot in range(slots)]
        hires = [partial(ProcessPoolExecutor, 1, context, _begin, arguments) for arguments in begun]
        with interruption.deferred(), ThreadPoolExecutor(slots) as threads:
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
                    reason = worker.submit(_work, number, jobs[number]).result()
                except BrokenProcessPool:
                    reason = "its process was killed, for a lack of memory perhaps"
                    worker = hire()
                if reason and not stop.is_set():
                    self.lose(number, jobs[number], reason)
        except (Empty, interruption.Interrupted):
            pass
        finally:
            worker.shutdown()


def _gpu(slot: int) -> str | None:
    """The device that a slot's worker sees; None where there is none."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(i) for i in range(count)]
    return devices[slot % count] if count else None


def _begin(stop: Event, gpu: str | None, shared: bytes) -> None:
    """Makes this process a worker."""
    interruption.become_worker(stop)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    _worker.append(Worker(shared))


def _work(number: int, overrides: Sequence[str]) -> str | None:
    return _worker[0](number, overrides)
