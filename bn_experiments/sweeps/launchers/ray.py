"""A Ray cluster: cells on all its nodes, which see the same files."""

import logging
from typing import Any

import ray
from pydantic import NonNegativeFloat, NonNegativeInt
from ray.exceptions import RayError

from bn_experiments.refusal import Refusal
from bn_experiments.sweeps.launchers.launcher import CellLauncher, Jobs, Worker, say_saving
from bn_experiments.system import interruption


class RayLauncher(CellLauncher):
    """Runs each job as a task of a Ray cluster.

    A cell whose worker or node dies is tried again on another, where it goes on from its last checkpoint.

    Args:
        address: The address of a running cluster, such as auto or host:6379. None: the sweep starts one on this
            machine, for itself.
        num_cpus: The number of CPUs that a cell takes.
        num_gpus: The number of GPUs that a cell takes; a fraction lets cells share one.
        retries: The number of times that a cell is tried again after its worker died.
    """

    def __init__(
        self, address: str | None, num_cpus: NonNegativeFloat, num_gpus: NonNegativeFloat, retries: NonNegativeInt
    ):
        self.address = address
        self.task: Any = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=retries)(Worker.__call__)

    def run(self, jobs: Jobs) -> None:
        """Runs the jobs."""
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except ConnectionError as error:
            got = f"no Ray cluster answers ({str(error).splitlines()[0]})"
            allowed, remedy = "that of a running one, or null for one on this machine", "start it with ray start --head"
            raise Refusal("hydra.launcher.address", got, allowed, remedy, value=self.address) from error
        interruption.listen()  # Ray takes SIGTERM for itself, and would end at once
        try:
            worker = ray.put(self.worker)
            waiting = {self.task.remote(worker, number, cell): number for number, cell in jobs.items()}
            with interruption.deferred():
                while waiting and not interruption.asked():
                    ended, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0.5)
                    for task in ended:
                        number = waiting.pop(task)
                        self.ended(number, jobs[number], _loss(task))
                if waiting:
                    say_saving()
                for task in waiting:
                    ray.cancel(task)  # in its worker a SIGINT: a job that runs saves and ends, another does not begin
                ray.wait(list(waiting), num_returns=len(waiting), timeout=60)
        finally:
            ray.shutdown()


def _loss(task: Any) -> str | None:
    try:
        return ray.get(task)
    except RayError as error:
        return f"its worker died ({str(error).splitlines()[0]})"
