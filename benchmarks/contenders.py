"""Contenders: the ways to do a workload that are timed, each as training examples a second."""

import re
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import joblib
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger

from benchmarks import rivals
from benchmarks.workloads import Workload
from bn_experiments.config import objects
from bn_experiments.config.cells import Cell
from bn_experiments.probes.probing import Probing
from bn_experiments.records.results import Result
from bn_experiments.run import flushed_denormals, run
from bn_experiments.training.curves import Curves

# all that writes while a cell trains and after it; none of them calls another
WRITING = [
    (Curves, "on_train_start"),
    (Curves, "on_train_batch_end"),
    (Curves, "on_train_epoch_end"),
    (Curves, "write"),
    (Probing, "write"),
    (Result, "write"),
    (TensorBoardLogger, "log_hyperparams"),
    (TensorBoardLogger, "log_metrics"),
    (TensorBoardLogger, "finalize"),
]
Contender = Callable[[Workload], float]


def examples(cell: Cell) -> int:
    """Training examples that all replicas of a cell see."""
    config = cell.config
    return len(objects.splits(config).train) * config["trainer"]["max_epochs"] * config["replicas"]


def ours(workload: Workload) -> float:
    """One replica with everything that a run does, on one thread."""
    with TemporaryDirectory() as folder:
        cell = workload.cell(Path(folder), 1)
        cell.folder.mkdir(parents=True)
        return run(cell).timing["samples_per_s"]


def ten_replicas(workload: Workload) -> float:
    """Ten replicas in each of as many processes as there are cores, with everything that a run does."""
    epochs = [] if workload.name.startswith("mnist1d") else ["trainer.max_epochs=1"]
    with TemporaryDirectory() as folder:
        cells = [workload.cell(Path(folder), 10, f"seed={10 * i}", *epochs) for i in range(joblib.cpu_count())]
        ends = joblib.Parallel(n_jobs=len(cells))(joblib.delayed(_in_a_worker)(cell) for cell in cells)
    starts, stops = zip(*ends, strict=True)
    return sum(map(examples, cells)) / (max(stops) - min(starts))


def _in_a_worker(cell: Cell) -> tuple[float, float]:
    """When the training of a cell started and stopped, by a clock that processes share."""
    times: list[float] = []
    fit = Trainer.fit

    def timed(*args: Any, **options: Any) -> None:
        times.append(time.monotonic())
        fit(*args, **options)
        times.append(time.monotonic())

    cell.folder.mkdir(parents=True)
    with patch.object(Trainer, "fit", timed):
        run(cell)
    return times[0], times[1]


def bare(threads: int) -> Contender:
    """The bare loop on so many threads, denormals flushed."""

    def contender(workload: Workload) -> float:
        cell = workload.cell(Path(), 1)
        with flushed_denormals():
            return _timed(rivals.bare_loop, cell, threads)

    return contender


def notebook(workload: Workload) -> float:
    """The notebooks' way, an epoch of it, on all cores."""
    return _timed(rivals.notebook, workload.cell(Path(), 1, "trainer.max_epochs=1"), joblib.cpu_count())


def plain_lightning(workload: Workload) -> float:
    """Plain Lightning, an epoch of it, on all cores."""
    with TemporaryDirectory() as folder:
        cell = workload.cell(Path(folder), 1, "trainer.max_epochs=1")
        return _timed(rivals.plain_lightning, cell, joblib.cpu_count())


def _timed(rival: Callable[[Cell], float], cell: Cell, threads: int) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return examples(cell) / rival(cell)
    finally:
        torch.set_num_threads(before)


def writing_share(workload: Workload) -> float:
    """What logging and writing take of the training time of ten replicas, the losses of all steps kept."""
    spent = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal spent
            started = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                spent += time.perf_counter() - started

        return call

    with TemporaryDirectory() as folder, ExitStack() as patches:
        for owner, name in WRITING:
            patches.enter_context(patch.object(owner, name, timed(getattr(owner, name))))
        cell = workload.cell(Path(folder), 10)
        cell.folder.mkdir(parents=True)
        train_s = run(cell).timing["train_s"]
    return spent / train_s


def peak_bytes(workload: Workload) -> float:
    """Most memory that a process takes which loads the data, and trains ten replicas for an epoch."""
    with TemporaryDirectory() as folder, ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        return fresh.submit(_peak, workload.cell(Path(folder), 10, "trainer.max_epochs=1")).result()


def _peak(cell: Cell) -> float:
    cell.folder.mkdir(parents=True)
    run(cell)
    return float(most_resident_bytes())


def most_resident_bytes() -> int:
    """Most memory that this process has held; the system's `ru_maxrss` would count the process that started it."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024
