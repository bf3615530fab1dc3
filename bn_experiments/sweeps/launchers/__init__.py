"""Launchers: where the cells of a sweep train, chosen with hydra/launcher=local, ray or slurm."""

import multiprocessing
import os
from multiprocessing import forkserver
from multiprocessing.context import BaseContext

from omegaconf import DictConfig

PACKAGE = __name__


def worker_context() -> BaseContext:
    """How workers of this machine start: forked from a process that has imported what they need, if the system can."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload([f"{PACKAGE}.preload"])
    return context


def prepare_workers(preset: DictConfig) -> None:
    """Lets that process import while the grid is being checked, where there will be workers of this machine.

    Args:
        preset: The launcher's preset.
    """
    n_jobs = preset.get("n_jobs", 1) if preset._target_.startswith(PACKAGE) else 1
    several = (os.cpu_count() or 1) > 1 if n_jobs is None else n_jobs != 1
    if several and worker_context().get_start_method() == "forkserver":
        forkserver.ensure_running()


def trains_elsewhere(preset: DictConfig) -> bool:
    """Whether the cells train on other machines than this one: on a running Ray cluster, or as jobs of Slurm.

    The launchers themselves are not asked, because they import what the check of a grid should not wait for.

    Args:
        preset: The launcher's preset.
    """
    return preset.get("address") not in (None, "local") or preset.get("cluster") == "slurm"
