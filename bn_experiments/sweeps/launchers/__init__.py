"""Launchers: where the cells of a sweep train, chosen with hydra/launcher=local, ray or slurm."""

import multiprocessing
import os
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import Any, cast

from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from bn_experiments.refusal import Refusal

PREFIX = "hydra_plugins.bn_experiments."  # Hydra 1.3 takes launchers from its own name space alone


def provide(launcher: DictConfig) -> list[Refusal]:
    """Makes a launcher known to Hydra under the name that its preset gives, which `PREFIX` begins.

    Args:
        launcher: The preset; one that is not ours is left to Hydra.

    Returns:
        What is wrong with it.
    """
    if not launcher._target_.startswith(PREFIX):
        return []
    module, _, name = launcher._target_.removeprefix(PREFIX).rpartition(".")
    try:
        found = getattr(import_module(f"{__name__}.{module}"), name)
    except (ImportError, AttributeError) as error:
        missing = error.name
        return [
            Refusal(
                "hydra/launcher",
                f"{missing} is not installed",
                "a launcher whose packages are installed",
                f'pip install "bn-experiments[{missing}]", or use hydra/launcher=local',
                value=module,
            )
        ]
    from bn_experiments.signatures import problems  # pydantic takes a while

    options = cast(dict[str, Any], OmegaConf.to_container(launcher))
    del options["_target_"]
    Plugins.instance().class_name_to_class[launcher._target_] = found
    return problems(options, "hydra.launcher", found.__init__, given=["self"])


def worker_context() -> BaseContext:
    """How workers of this machine start: forked from a process that has imported what they need, if the system can."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([f"{__name__}.preload"])
    return context


def prepare(launcher: DictConfig) -> None:
    """Lets that process import while the grid is being checked, where there will be workers of this machine.

    Args:
        launcher: The preset.
    """
    n_jobs = launcher.get("n_jobs", 1) if launcher._target_.startswith(PREFIX) else 1
    several = (os.cpu_count() or 1) > 1 if n_jobs is None else n_jobs != 1
    if several and worker_context().get_start_method() == "forkserver":
        forkserver.ensure_running()
