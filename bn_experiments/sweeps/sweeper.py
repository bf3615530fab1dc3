"""The sweep: Hydra's sweeper and callback, which plan a command, have its cells trained and compare them."""

import sys
from typing import Any

from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from bn_experiments.records import comparison
from bn_experiments.records.identity import BASELINE
from bn_experiments.refusal import Refusal
from bn_experiments.sweeps.command_line import refuse
from bn_experiments.sweeps.comparison import finish, undecided
from bn_experiments.sweeps.launchers import prepare_workers
from bn_experiments.sweeps.launchers.launcher import Worker, launcher_of
from bn_experiments.sweeps.plan import plan_of

TARGET = "hydra_plugins.bn_experiments.GridSweeper"  # Hydra 1.3 takes sweepers from its own name space alone


class GridSweeper(Sweeper):
    """Trains every cell of a grid, once.

    Hydra's own sweeper hands the overrides of each cell to a worker, which composes them again. Here a cell is
    composed once: what was checked is what a worker is handed and trains.

    Args:
        params: The grid of an experiment's file, the values of each key; `config.composition` reads it.
    """

    def __init__(self, params: dict[str, str] | None):
        pass

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Takes the configuration, with Hydra's own part."""
        self.config: DictConfig = config
        self.callbacks = hydra_context.callbacks

    def sweep(self, arguments: list[str]) -> None:
        """Checks the whole grid, trains the cells that are not done, and compares the arms, whatever ends the sweep.

        Args:
            arguments: The overrides of the command line, which the configuration has too.
        """
        prepare_workers(self.config.hydra.launcher)
        plan = plan_of(self.config, multirun=True)
        launcher = launcher_of(self.config.hydra.launcher)
        plan.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, plan.folder / "multirun.yaml")
        if plan.looks:  # they are fixed before the first one
            comparison.write(plan.folder, plan.baseline or BASELINE, plan.looks)
        worker = Worker(self.config, self.callbacks)
        try:
            launcher.train(plan, worker)
            for replicas in plan.looks[1:]:
                if not (open_ones := undecided(plan)):
                    break
                print(
                    f"undecided with {plan.looks[plan.looks.index(replicas) - 1]} replicas: on to {replicas}",
                    flush=True,
                )
                plan = plan.going_on(open_ones, replicas)
                launcher.train(plan, worker)
        except Refusal as refusal:  # the launcher cannot be used, and has taken no cell
            refuse([refusal])
        except BaseException:
            finish(plan)
            raise
        sys.exit(finish(plan))


class CommandCallback(Callback):
    """Hydra's callback around a command: it checks and compares a single run, and has a grid swept by `GridSweeper`."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Checks the cell."""
        self.plan = plan_of(config, multirun=False)

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Prints the cell's numbers."""
        sys.exit(finish(self.plan))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Makes our sweeper known to Hydra, and refuses others, which would train cells that nobody checked."""
        chosen = config.hydra.runtime.choices["hydra/sweeper"]
        if chosen != "grid":
            refuse([Refusal("hydra/sweeper", "checks no cell", "grid", "leave it out", value=chosen)])
        Plugins.instance().class_name_to_class[TARGET] = GridSweeper
