"""A worker: a process that trains the cells that it is handed, each as a job of Hydra's."""

import copy
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.utils import JobRuntime, JobStatus, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict, read_write

from bn_experiments.config.cells import Cell
from bn_experiments.config.errors import as_refusal
from bn_experiments.sweeps.train_cell import train_cell


@dataclass(frozen=True)
class JobSettings:
    """What the jobs of a sweep have in common.

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


class Worker:
    """Trains cells in this process, which sees the same files as the sweep's.

    A job is what Hydra makes of it: its own folder and log, its records below `.hydra`, the environment that
    `hydra.job.env_set` names. Nothing is composed: the cell is trained as it was checked.

    Args:
        settings: What the jobs have in common.
    """

    def __init__(self, settings: JobSettings):
        os.chdir(settings.folder)
        setup_globals()
        JobRuntime.instance().set("name", settings.name)
        self.settings = settings

    def __call__(self, number: int, cell: Cell) -> str | None:
        """Runs a job; gives what kept it from even starting, on one line."""
        try:
            context = HydraContext(config_loader=None, callbacks=self.settings.callbacks)  # type: ignore[arg-type]  # nothing is composed
            config = self._config(number, cell)
            job = run_job(lambda _: train_cell(cell), config, "hydra.sweep.dir", "hydra.sweep.subdir", context)
            if job.status == JobStatus.FAILED:
                raise job._return_value  # Hydra's property would print over many lines
        except OSError as error:
            return str(error)
        except Exception as error:
            return str(as_refusal(error))
        return None

    def _config(self, number: int, cell: Cell) -> DictConfig:
        """The configuration of a job, as Hydra would have composed it."""
        config = copy.deepcopy(self.settings.config)
        with read_write(config), open_dict(config):
            for key in [key for key in config if key not in ("hydra", "experiment")]:
                del config[key]
            config.update(cell.config)
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.job.id, config.hydra.job.num = str(number), number
            config.hydra.job.override_dirname = ",".join(cell.typed)
            config.hydra.overrides.task = list(cell.typed)
            config.hydra.runtime.choices.update({k: v for k, v in cell.choices.items() if k != "overrides"})
        return config
