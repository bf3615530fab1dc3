"""Start here: one cell of the grid, from its configuration to its result."""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from bn_experiments.config.build import ONE_BY_ONE, Built, build
from bn_experiments.config.cells import Cell
from bn_experiments.config.origin import origin
from bn_experiments.config.space import is_tuned
from bn_experiments.fitting import fit
from bn_experiments.records.identity import config_hash
from bn_experiments.records.origin import UNKNOWN
from bn_experiments.records.results import Result, read_run
from bn_experiments.records.tuning import Tuning
from bn_experiments.refusal import one_line
from bn_experiments.system import provenance
from bn_experiments.training.replicas import Unstackable
from bn_experiments.training.trainer import HPARAMS_METRICS
from bn_experiments.tuning import tuned

log = logging.getLogger(__name__)
LATER = "a step in the middle of the training was refused in a stack"  # a reason that only training shows


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Within it, numbers below 1e-38 count as zero; a processor takes a hundred times as long for each of them."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@flushed_denormals()
def run(cell: Cell) -> Result:
    """Trains and tests the replicas of a cell, and writes its record into its folder.

    A cell that was cut short goes on from its last checkpoint, and ends with the same numbers. One whose stack is
    refused by `torch.vmap` in the middle of its training starts again, with its replicas one by one.

    Args:
        cell: A cell that `check.check` has nothing to say against.

    Returns:
        What was written to `result.json`.
    """
    started = time.perf_counter()
    chosen = tuned(cell) if is_tuned(cell.config) else None
    built = build(cell, chosen.point if chosen else {}, refused_later(cell))
    trainer, module, data, curves, probing, checkpoints, notes = built
    checkpoint, begun = begin(cell, built, chosen)
    setup_s = time.perf_counter() - started

    try:
        metrics, diverged, train_s = fit(built, checkpoint)
    except Unstackable as error:
        if cell.config["trainer"]["stack_replicas"] is True:
            raise
        replace(begun, notes=[*notes, f"{ONE_BY_ONE}{LATER} ({one_line(error)})"]).write(cell.folder)
        checkpoints.file.unlink(missing_ok=True)
        return run(cell)
    result = replace(
        begun,
        status="done",
        notes=[*notes, *module.notes()],
        metrics=metrics,
        diverged=diverged,
        chance={f"{name}/acc": getattr(data.splits, name).chance() for name in ("val", "test")},
        probes=probing.numbers(),
        timing={"setup_s": setup_s, "train_s": train_s, "samples_per_s": curves.examples_taken() / train_s},
        **provenance.of_this_process(trainer.strategy.root_device.type),
    )
    for logger in trainer.loggers:
        logger.log_metrics({name: mean_of(metrics[name]) for name in HPARAMS_METRICS}, trainer.max_epochs)
        logger.finalize("success")
    for record in (curves, probing, result):
        record.write(cell.folder)
    return result


def begin(cell: Cell, built: Built, chosen: Tuning | None) -> tuple[Path | None, Result]:
    """The checkpoint from which a run goes on, if there is one, and its record, which says that it has started."""
    for note in built.notes:
        log.warning(note)
    checkpoints = built.checkpoints
    checkpoint = checkpoints.found()
    checkpoints.made_by = made_by(cell, checkpoints.made_by if checkpoint else None)
    made, seeds = checkpoints.made_by, list(cell.seeds)
    begun = Result(
        "started",
        cell.choices,
        cell.config,
        checkpoints.identity,
        seeds,
        looks=[*cell.looks],
        tuned=chosen.summary if chosen else {},
        made_by=made,
        notes=built.notes,
    )
    begun.write(cell.folder)
    return checkpoint, begun


def refused_later(cell: Cell) -> str | None:
    """Why a run of the cell that had begun could not train its replicas as a stack, as its record says."""
    begun = read_run(cell.folder)
    if begun is None or begun.config_hash != config_hash(cell.config):
        return None
    return next((note.removeprefix(ONE_BY_ONE) for note in begun.notes if note.startswith(ONE_BY_ONE + LATER)), None)


def made_by(cell: Cell, before: Sequence[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """What makes the numbers of a run that starts now, or goes on.

    Args:
        cell: The cell.
        before: What made the checkpoint from which it goes on; None if there is no checkpoint.
    """
    now = origin(cell.config)._asdict()
    earlier = [] if before is None else list(before) or [UNKNOWN._asdict()]
    return earlier if now in earlier else [*earlier, now]


def mean_of(values: Sequence[float | None]) -> float:
    """The mean of a metric; NaN where a replica diverged and has none."""
    return fmean(math.nan if value is None else value for value in values)
