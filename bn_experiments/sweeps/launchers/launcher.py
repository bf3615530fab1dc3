"""What the launchers share: which jobs to run, how a worker runs one, and what becomes of one that is lost."""

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from bn_experiments.config import refusals
from bn_experiments.sweeps.sweep import Sweep, cell_lost
from bn_experiments.system import interruption

Jobs = Mapping[int, Sequence[str]]  # number to overrides


class CellLauncher(Launcher):
    """Runs the jobs of a sweep whose cells are not done; each can be lost without harm to another."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Takes what the jobs have in common."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        (self.sweep,) = (callback for callback in hydra_context.callbacks.callbacks if isinstance(callback, Sweep))

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs the jobs that are not done. What became of each stands in its cell's record, not in what is returned.

        Args:
            job_overrides: Of each job.
            initial_job_idx: Number of the first.

        Raises:
            Interrupted: The process was asked to end; the jobs that were running have saved.
        """
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        numbered = dict(enumerate(job_overrides, initial_job_idx))
        jobs = {number: numbered[number] for number in self.sweep.to_train if number in numbered}
        if jobs:
            self.run(jobs)
        interruption.check()
        return [JobReturn(overrides, status=JobStatus.COMPLETED) for overrides in job_overrides]

    @abstractmethod
    def run(self, jobs: Jobs) -> None:
        """Runs the jobs, and returns early once `interruption.asked`."""

    def shared(self) -> bytes:
        """What the jobs have in common, for `Worker`; Hydra's task function is in no module that can be imported."""
        return cloudpickle.dumps(
            (self.hydra_context, self.task_function, self.config, Singleton.get_state(), str(Path.cwd()))
        )

    def lose(self, number: int, overrides: Sequence[str], reason: str) -> None:
        """Records the failure of a job that could not do so itself; the sweep goes on."""
        cell_lost(self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides)), reason)


class Worker:
    """Runs jobs in a process other than the sweep's, which sees the same files.

    Args:
        shared: See `CellLauncher.shared`.
    """

    def __init__(self, shared: bytes):
        hydra_context, task_function, config, singletons, folder = cloudpickle.loads(shared)
        os.chdir(folder)
        setup_globals()
        Singleton.set_state(singletons)
        self.shared: tuple[Any, ...] = hydra_context, task_function, config

    def __call__(self, number: int, overrides: Sequence[str]) -> str | None:
        """Runs a job; gives what kept it from even starting, on one line."""
        return attempt(number, overrides, *self.shared)


def attempt(
    number: int, overrides: Sequence[str], hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
) -> str | None:
    """Runs a job in this process as Hydra does; gives what kept it from even starting, on one line."""
    try:
        sweep_config = hydra_context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(sweep_config):
            sweep_config.hydra.job.id = str(number)
            sweep_config.hydra.job.num = number
        HydraConfig.instance().set_config(sweep_config)
        job = run_job(task_function, sweep_config, "hydra.sweep.dir", "hydra.sweep.subdir", hydra_context)
        if job.status == JobStatus.FAILED:
            raise job._return_value  # Hydra's property would print over many lines
    except OSError as error:
        return str(error)
    except Exception as error:
        return str(refusals.line(error))
    return None
