"""Start here: one cell of the grid, from its configuration to its result."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean

import torch

from bn_experiments.config.build import build
from bn_experiments.config.cells import Cell
from bn_experiments.records.results import Result
from bn_experiments.system import provenance
from bn_experiments.training.trainer import HPARAMS_METRICS


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

    A cell that was cut short goes on from its last checkpoint, and ends with the same numbers.

    Args:
        cell: A cell that `check.check` has nothing to say against.

    Returns:
        What was written to `result.json`.
    """
    started = time.perf_counter()
    trainer, module, data, curves, probing, checkpoints = build(cell)
    setup_s = time.perf_counter() - started

    trainer.fit(module, data, ckpt_path=checkpoints.found(), weights_only=True)
    train_s = time.perf_counter() - started - setup_s
    trainer.save_checkpoint(checkpoints.file)
    trainer.test(module, data, verbose=False)

    metrics, diverged = score({**curves.last(), **module.metrics}, data.splits.num_classes)
    result = Result(
        status="done",
        cell=cell.choices,
        config=cell.config,
        config_hash=checkpoints.identity,
        seeds=list(data.seeds),
        metrics=metrics,
        diverged=diverged,
        probes=probing.numbers(),
        timing={"setup_s": setup_s, "train_s": train_s, "samples_per_s": curves.examples_taken() / train_s},
        **provenance.of_this_process(trainer.strategy.root_device.type),
    )
    for logger in trainer.loggers:
        logger.log_metrics({name: fmean(metrics[name]) for name in HPARAMS_METRICS}, trainer.max_epochs)
        logger.finalize("success")
    for record in (curves, probing, result):
        record.write(cell.folder)
    return result


def score(metrics: dict[str, torch.Tensor], num_classes: int) -> tuple[dict[str, list[float]], list[bool]]:
    """The final numbers; a replica whose loss is not finite counts at chance, and is never dropped.

    Chance: accuracy 1 / C, loss log C.

    Args:
        metrics: Each metric's name with its values (R,).
        num_classes: C.

    Returns:
        The metrics as lists, and whether each replica diverged.

    >>> score({"test/loss": torch.tensor([0.5, torch.nan]), "test/acc": torch.tensor([0.75, 0.0])}, 4)
    ({'test/loss': [0.5, 1.3862943611198906], 'test/acc': [0.75, 0.25]}, [False, True])
    """
    losses = torch.stack([values.cpu().double() for name, values in metrics.items() if name.endswith("loss")])
    diverged = ~losses.isfinite().all(0)
    chance = {"loss": math.log(num_classes), "acc": 1 / num_classes}
    scored = {
        name: values.cpu().double().masked_fill(diverged, chance[name.rpartition("/")[2]]).tolist()
        for name, values in metrics.items()
    }
    return scored, diverged.tolist()
