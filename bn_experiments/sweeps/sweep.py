"""The sweep: checked whole before the first cell trains, each cell done once, summarised at the end."""

import atexit
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NoReturn, cast

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from bn_experiments.config import refusals
from bn_experiments.config.cells import Cell, asked_for, cell_of
from bn_experiments.records import identity, lock, table
from bn_experiments.records import result as results
from bn_experiments.refusal import Refusal
from bn_experiments.sweeps import short_names
from bn_experiments.sweeps.launchers import prepare, provide
from bn_experiments.system import interruption

if TYPE_CHECKING:
    from bn_experiments.claims.protocol import Protocol

log = logging.getLogger(__name__)

FAILED = 1  # exit status


def command_line(main: Callable[[], Any]) -> NoReturn:
    """Runs Hydra's main, and ends with a line for a person, never a traceback.

    Exit status: 0 when every cell has its result, 1 when one failed, 2 when the command was refused, 130
    after Ctrl-C, 143 after SIGTERM.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises what it would print over many lines
    sys.argv[1:] = short_names.in_full(sys.argv[1:], short_names.experiments(sys.argv[1:]))
    try:
        with interruption.listening():
            main()
    except interruption.Interrupted as interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the comparison comes yet, unless one is impatient
        print("interrupted: the same command goes on from here", file=sys.stderr)
        sys.exit(interrupted.status)
    except refusals.COMPOSITION_ERRORS as error:
        refusals.refuse(refusals.explain(error, sys.argv[1:]))
    sys.exit(0)


def run_cell(config: DictConfig) -> None:
    """Hydra's task: trains a cell unless that is done; a cell that fails says so in its record."""
    interruption.check()
    logging.raiseExceptions = False  # a log that a full disk cuts short is no error of the cell
    threading.excepthook = _log_of_thread
    cell = cell_of(config, cast(DictConfig, HydraConfig.get()))
    with interruption.listening(), interruption.deferred(), lock.locked(cell.folder) as is_ours:
        if not is_ours or results.is_done(cell.folder, identity.config_hash(cell.config)):
            return
        from bn_experiments.run import run

        try:
            run(cell)
        except Exception as error:  # the other cells of the sweep go on
            log.warning("the cell failed", exc_info=True)  # for its log; the terminal gets a line at the end
            _record(cell, "failed", f"{type(error).__name__}: {error}")
        except interruption.Interrupted:
            _record(cell, "interrupted", None)
            raise


def _log_of_thread(failed: threading.ExceptHookArgs) -> None:
    """What a thread fails of, such as TensorBoard's that writes its files, stands in the cell's log."""
    assert failed.exc_value is not None
    log.warning("a thread failed", exc_info=failed.exc_value)


def cell_lost(config: DictConfig, reason: str) -> None:
    """Records the failure of a cell that could not do so itself, unless its result was written before.

    Args:
        config: Of the cell, with Hydra's part.
        reason: What happened.
    """
    cell = cell_of(config, config.hydra)
    if not results.is_done(cell.folder, identity.config_hash(cell.config)):
        _record(cell, "failed", reason)


def _record(cell: Cell, status: results.Status, error: str | None) -> None:
    """The record of a cell that has no numbers, where it can be written."""
    config = cell.config
    seeds = list(range(config["seed"], config["seed"] + config["replicas"]))
    result = results.Result(status, cell.choices, config, identity.config_hash(config), seeds, error=error)
    try:
        result.write(cell.folder)
    except OSError as reason:  # a full disk, say; the sweep's last lines tell of the cell
        print(f"{cell.folder}: {error or status}; and its record: {reason}", file=sys.stderr)


class Sweep(Callback):
    """Hydra's callback around a run or a grid: the check before it, a line a cell, the comparison after it.

    Attributes:
        cells: Of the grid, in the order of its jobs.
        folders: Of the cells.
        to_train: Numbers of the cells that were not done before.
        protocol: Of the experiment, where one was asked for.
    """

    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self.folders: list[Path] = []
        self.to_train: list[int] = []
        self.protocol: Protocol | None = None
        self.started = time.time()

    def __getstate__(self) -> dict[str, Any]:
        """What a worker needs for `on_job_end`; the cells of a large grid are large."""
        return {**self.__dict__, "cells": [], "protocol": None}

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Checks the cell."""
        self._begin(config, kwargs["config_name"], multirun=False)

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Prints the cell's numbers."""
        sys.exit(self._finish())

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Checks the whole grid, and sees to it that the comparison comes at the end, whatever ends the sweep."""
        self._begin(config, kwargs["config_name"], multirun=True)
        atexit.register(self._finish)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Prints and writes the comparison of the arms."""
        atexit.unregister(self._finish)
        sys.exit(self._finish())

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """A line for the cell, where the output is a terminal."""
        console = Console(markup=False, highlight=False)
        if len(self.folders) == 1 or not console.is_terminal:
            return
        number = config.hydra.job.num
        folder = self.folders[number]
        text = "done before"
        if number in self.to_train:
            result = results.read(folder)
            text = result.status if result else "failed"
            if result and result.status == "done":
                text = f"test accuracy {fmean(result.metrics['test/acc']):.1%}"
            ended = sum(_is_newer(self.folders[i] / results.FILE, self.started) for i in self.to_train)
            left_s = (time.time() - self.started) / max(1, ended) * (len(self.to_train) - ended)
            text += f", about {timedelta(seconds=round(left_s))} left" if left_s else ""
        console.print(f"cell {number + 1} of {len(self.folders)}  {folder.name}  {text}", soft_wrap=True)

    def _begin(self, config: DictConfig, config_name: str, multirun: bool) -> None:
        """Ends the program where anything is wrong, before a folder is made."""
        try:
            if multirun:
                prepare(config.hydra.launcher)
            cells, lines = refusals.judge(config_name, asked_for(config, multirun), multirun)
            protocol, wrong = _protocol(config) if config.get("experiment") else (None, [])
            if not lines and not wrong:
                lines = _standing_in_the_way(protocol, cells)
            if multirun and not lines:
                lines = provide(config.hydra.launcher)
        except Exception as error:  # Hydra would make a warning of it, and train
            refusals.refuse([refusals.line(error)])
        if lines or wrong:
            refusals.refuse([*lines, *wrong])
        if protocol:
            protocol.write(cells[0].folder.parent)
        self.cells, self.protocol = cells, protocol
        self.folders = [cell.folder for cell in cells]
        self.to_train = [
            i for i, cell in enumerate(cells) if not results.is_done(cell.folder, identity.config_hash(cell.config))
        ]
        self.started = time.time()

    def _finish(self) -> int:
        """Prints the comparison, writes it for a grid, and gives the exit status."""
        folders = [cell.folder for cell in self.cells]
        done = [cell for cell in self.cells if results.is_done(cell.folder, identity.config_hash(cell.config))]
        console = Console(markup=False, highlight=False)
        status = 0 if len(done) == len(folders) else FAILED
        if done:
            try:
                self._compare(done, console)
            except Exception as error:  # what was trained is safe; Hydra would make a warning of it
                log.exception("the comparison failed")
                print(f"no comparison: {refusals.line(error)}", file=sys.stderr)
                status = FAILED
        console.print(f"{len(done)} of {len(folders)} cells done  {folders[0].parent}")
        for cell in self.cells:
            if cell not in done:
                print(f"{cell.folder}: {_why_not_done(cell.folder)}", file=sys.stderr)
        return status

    def _compare(self, done: Sequence[Cell], console: Console) -> None:
        """Prints the arms of the command's cells side by side; the files tell of all that lies in the folder."""
        from bn_experiments import report
        from bn_experiments.claims import summary, verdicts

        folder = done[0].folder.parent
        if trained := [cell.folder for cell in done if cell.config["trainer"]["max_epochs"]]:
            summary.show(summary.summarise(table.frame(trained)), console)
        if self.protocol:
            own = {group.context for group in verdicts.groups(self.protocol, [cell.folder for cell in done])}
            judged = verdicts.write(self.protocol, folder)  # with arms that an earlier command trained
            verdicts.show([verdict for verdict in judged if verdict.context in own], console)
        if len(self.cells) > 1:
            summary.write(summary.summarise(table.collect(folder)), folder)
            console.print(f"report  {report.build(folder)}")


def _protocol(config: DictConfig) -> "tuple[Protocol | None, list[Refusal]]":
    """The experiment's protocol, or what is wrong with it."""
    from bn_experiments.claims.protocol import parse

    body = cast(dict[str, Any], OmegaConf.to_container(config.experiment, resolve=True))
    axes = list(config.hydra.sweeper.get("params") or {})
    name = str(config.hydra.runtime.choices.experiment).rpartition("/")[2]  # without the folder it lies in
    return parse({"name": name, "axes": axes, **body})


def _standing_in_the_way(protocol: "Protocol | None", cells: Sequence[Cell]) -> list[Refusal]:
    """Whether the folder is another experiment's, and what of this one nothing measures."""
    folder = cells[0].folder.parent
    own = protocol.name if protocol else None
    lines = []
    try:
        there = json.loads((folder / "experiment.json").read_text())["name"]
    except (OSError, ValueError, KeyError, TypeError):  # there is none that can be read
        there = own
    if there != own:
        lines = [
            Refusal("name", f"{folder} holds the experiment {there}", "another name", "change it", value=folder.name)
        ]
    if protocol:
        from bn_experiments.claims.protocol import unmeasured

        options = GlobalHydra.instance().config_loader().get_group_options("probes")
        lines += unmeasured(protocol, {*options, *(probe for cell in cells for probe in cell.config["probes"])})
    return lines


def _is_newer(file: Path, moment: float) -> bool:
    return file.exists() and file.stat().st_mtime >= moment


def _why_not_done(folder: Path) -> str:
    if lock.is_locked(folder):
        return "another command trains it"
    result = results.read(folder)
    if result is None or result.status != "failed":
        return "not done; the same command goes on from here"
    return f"failed ({result.error}); its log tells more, and the same command tries it again"
