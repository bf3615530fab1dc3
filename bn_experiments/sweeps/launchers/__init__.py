"""Launchers: where the cells of a sweep train, chosen with hydra/launcher=local, ray or slurm."""

import multiprocessing
import os
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig, OmegaConf

from bn_experiments.refusal import Refusal
from bn_experiments.signatures import problems

if TYPE_CHECKING:
    from bn_experiments.sweeps.launchers.launcher import CellLauncher

PACKAGE = __name__


def launcher_of(preset: DictConfig) -> "CellLauncher | list[Refusal]":
    """The launcher that a preset of `conf/hydra/launcher/` describes, or what is wrong with it.

    Args:
        preset: The preset, with its `_target_`.
    """
    options = cast(dict[str, Any], OmegaConf.to_container(preset))
    module, _, name = options.pop("_target_").rpartition(".")
    if not module.startswith(PACKAGE):
        remedy = "leave it out for this machine, or choose one"
        return [Refusal("hydra/launcher", f"{module}.{name} trains no checked cell", "local, ray, slurm", remedy)]
    try:
        launcher = getattr(import_module(module), name)
    except ImportError as error:
        missing = error.name
        remedy = f'pip install "bn-experiments[{missing}]", or use hydra/launcher=local'
        got = f"{missing} is not installed"
        chosen = module.rpartition(".")[2]
        return [Refusal("hydra/launcher", got, "a launcher whose packages are installed", remedy, value=chosen)]
    return problems(options, "hydra.launcher", launcher.__init__, given=["self"]) or launcher(**options)


def worker_context() -> BaseContext:
    """How workers of this machine start: forked from a process that has imported what they need, if the system can."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
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
