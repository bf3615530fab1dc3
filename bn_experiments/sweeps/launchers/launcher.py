"""What the launchers share: how one is chosen, and the worker that trains a cell."""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from hydra.core.utils import JobRuntime, JobStatus, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from bn_experiments.config.cells import Cell
from bn_experiments.config.errors import as_refusal
from bn_experiments.refusal import Refusal
from bn_experiments.signatures import problems
from bn_experiments.sweeps.command_line import refuse
from bn_experiments.sweeps.display.live import display_of
from bn_experiments.sweeps.launchers import PACKAGE
from bn_experiments.sweeps.plan import Plan
from bn_experiments.sweeps.train_cell import record_loss, runs_to_train, train_cell
from bn_experiments.system import interruption

Jobs = Mapping[int, Cell]  # number to cell


def say_saving() -> None:
    """Says that the cells save what they have trained, because of the signal that this process got."""
    again = f"a second {interruption.signal_name()} ends at once"
    print(f"saving what is trained, after the steps that are under way; {again}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Worker:
    """Trains cells in the process that calls it, which sees the same files as the sweep's.

    A job is what Hydra makes of it: its own folder and log, its records below `.hydra`, the environment that
    `hydra.job.env_set` names. Nothing is composed: the cell is trained as it was checked.

    Args:
        config: The configuration that Hydra composed of the command, with Hydra's own part.
        callbacks: Hydra's callbacks, which hear of the start and the end of every job.
        name: The name of every job, and of its log.
        folder: The working directory.
    """

    config: DictConfig
    callbacks: Any
    name: str = field(default_factory=lambda: str(JobRuntime.instance().get("name")))
    folder: Path = field(default_factory=Path.cwd)

    def __call__(self, number: int, cell: Cell) -> str | None:
        """Runs a job; gives what kept it from even starting, on one line."""
        os.chdir(self.folder)
        setup_globals()
        JobRuntime.instance().set("name", self.name)
        try:
            context = HydraContext(config_loader=None, callbacks=self.callbacks)  # type: ignore[arg-type]  # nothing is composed
            config = self._config_of(number, cell)
            job = run_job(lambda _: train_cell(cell), config, "hydra.sweep.dir", "hydra.sweep.subdir", context)
            if job.status == JobStatus.FAILED:
                raise job._return_value  # Hydra's property would print over many lines
        except OSError as error:
            return str(error)
        except Exception as error:
            return str(as_refusal(error))
        return None

    def _config_of(self, number: int, cell: Cell) -> DictConfig:
        """The configuration of a job, as Hydra would have composed it."""
        config = OmegaConf.masked_copy(self.config, ["hydra", "experiment"])
        config.update(cell.config)
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.job.id, config.hydra.job.num = str(number), number
            config.hydra.job.override_dirname = ",".join(cell.typed)
            config.hydra.overrides.task = list(cell.typed)
            config.hydra.sweep.subdir = str(cell.folder.relative_to(Path(config.paths.output_dir, config.name)))
            config.hydra.runtime.choices.update({k: v for k, v in cell.choices.items() if k != "overrides"})
        return config


class CellLauncher(ABC):
    """Trains the cells of a plan that are not done; each can be lost without harm to another."""

    def train(self, plan: Plan, worker: Worker) -> None:
        """Trains the cells that are not done; what became of each stands in its record.

        Args:
            plan: The plan of the command.
            worker: The worker, of which every process may have a copy.

        Raises:
            Interrupted: The process was asked to end; the cells that were training have saved.
        """
        self.worker = worker
        runs = [(number, runs_to_train(cell)) for number, cell in enumerate(plan.cells)]
        jobs = {number: own[0] for number, own in runs if own}
        more = [run for _, own in runs for run in own[1:]]  # where the seeds that are left do not follow on each other
        jobs |= dict(enumerate(more, start=len(plan.cells)))
        if jobs:
            with display_of(plan, len(plan.cells) + len(more), jobs) as self.display:
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
        self.display.show(number, cell)


def launcher_of(preset: DictConfig) -> CellLauncher:
    """The launcher that a preset of `conf/hydra/launcher/` describes; ends the program where anything is wrong with it.

    Args:
        preset: The preset, with its `_target_`.
    """
    options = cast(dict[str, Any], OmegaConf.to_container(preset, resolve=True))
    module, _, name = options.pop("_target_").rpartition(".")
    if not module.startswith(PACKAGE):
        remedy = "leave it out for this machine, or choose one"
        refuse([Refusal("hydra/launcher", f"{module}.{name} trains no checked cell", "local, ray, slurm", remedy)])
    try:
        launcher = getattr(import_module(module), name)
    except ImportError as error:
        remedy = f'pip install "bn-experiments[{error.name}]", or use hydra/launcher=local'
        allowed, chosen = "a launcher whose packages are installed", module.rpartition(".")[2]
        refuse([Refusal("hydra/launcher", f"{error.name} is not installed", allowed, remedy, value=chosen)])
    if wrong := problems(options, "hydra.launcher", launcher):
        refuse(wrong)
    return launcher(**options)
