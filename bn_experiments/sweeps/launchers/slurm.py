"""Slurm: each cell a job of an array, through submitit."""

import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from io import StringIO
from itertools import islice
from typing import Any, Literal

import submitit
from pydantic import PositiveInt

from bn_experiments.config.cells import Cell
from bn_experiments.refusal import Refusal, one_line
from bn_experiments.sweeps.launchers.launcher import CellLauncher, Jobs, Worker, say_saving
from bn_experiments.system import interruption

POLL_S = 1.0


class SlurmLauncher(CellLauncher):
    """Runs each job as a job of Slurm.

    A job that Slurm preempts or times out is put into the queue again, and goes on from its last checkpoint.

    Args:
        cluster: slurm, or local: processes of this machine in its place, to try things out.
        folder: The folder for the scripts and the logs of the jobs.
        at_a_time: The number of jobs that run at once.
        parameters: The parameters of a job, as submitit's executors take them: timeout_min, cpus_per_task, mem_gb,
            gpus_per_node, slurm_partition ...
    """

    def __init__(
        self, cluster: Literal["slurm", "local"], folder: str, at_a_time: PositiveInt, parameters: dict[str, Any]
    ):
        try:
            self.executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
            self.executor.update_parameters(**{**parameters, "slurm_array_parallelism": at_a_time})
        except (NameError, RuntimeError, TypeError) as error:  # submitit's words for what it does not find or know
            raise _refusal(error) from error
        self.room = sys.maxsize if cluster == "slurm" else at_a_time  # Slurm holds back itself what is beyond

    def run(self, jobs: Jobs) -> None:
        """Runs the jobs."""
        worker = _RequeuedWorker(**vars(self.worker))
        to_come = iter(jobs.items())
        running: dict[int, Any] = {}
        with interruption.deferred():
            while not interruption.asked():
                running |= self._submit(worker, islice(to_come, self.room - len(running)))
                if not running:
                    return
                time.sleep(POLL_S)
                for number in [number for number, job in running.items() if job.done()]:
                    self.ended(number, jobs[number], _loss(running.pop(number)))
            say_saving()
            for job in running.values():
                job.cancel(check=False)  # a SIGTERM
            while not all(job.done() for job in running.values()):
                time.sleep(POLL_S)

    def _submit(self, worker: Worker, jobs: Iterator[tuple[int, Cell]]) -> dict[int, Any]:
        """Hands in jobs, as one array; gives submitit's job of each number.

        Raises:
            Refusal: Slurm does not take them.
        """
        batch = list(jobs)
        if not batch:
            return {}
        try:
            with redirect_stderr(StringIO()), self.executor.batch():  # submitit prints what it raises too
                return {number: self.executor.submit(worker, number, cell) for number, cell in batch}
        except (RuntimeError, OSError) as error:  # sbatch says no; it is not there
            raise _refusal(error) from error


class _RequeuedWorker(Worker, submitit.helpers.Checkpointable):
    """A worker whose job submitit puts into the queue again, as it was, where Slurm is about to end it."""


def _refusal(error: Exception) -> Refusal:
    allowed = "a machine that has Slurm, and parameters that submitit and Slurm know"
    remedy = "hydra.launcher.cluster=local tries things out without a Slurm"
    return Refusal("hydra.launcher", one_line(error), allowed, remedy)


def _loss(job: Any) -> str | None:
    try:
        return job.result()
    except Exception as error:
        return f"its job ended without a result ({str(error).splitlines()[0]})"
