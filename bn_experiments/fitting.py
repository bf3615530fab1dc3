"""Fitting: what was built for a run is trained and tested, and its final numbers are read."""

import math
import time
from pathlib import Path
from typing import NamedTuple

import torch

from bn_experiments.config.build import Built
from bn_experiments.training.replicas import StackedReplicas, refuse_what_vmap_refuses


class Fitted(NamedTuple):
    """The final numbers of a run.

    Args:
        metrics: The values (R,) of each metric, None for what is not finite.
        diverged: Whether each replica diverged.
        train_s: The seconds of the training.
    """

    metrics: dict[str, list[float | None]]
    diverged: list[bool]
    train_s: float


def fit(built: Built, checkpoint: Path | None) -> Fitted:
    """Trains what was built, from a checkpoint where there is one, saves it, and tests it.

    Networks that are not trained are not saved: their seeds make them again.

    Raises:
        Unstackable: `torch.vmap` refuses a step in the middle of the training.
    """
    trainer, module, data = built.trainer, built.module, built.data
    started = time.perf_counter()
    try:
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        train_s = time.perf_counter() - started
        if trainer.max_epochs:
            trainer.save_checkpoint(built.checkpoints.file)
        trainer.test(module, data, verbose=False)
    except RuntimeError as error:
        if isinstance(module.replicas, StackedReplicas):
            refuse_what_vmap_refuses(error)
        raise
    return Fitted(*score({**built.curves.last(), **module.metrics}, data.splits.num_classes), train_s)


def score(metrics: dict[str, torch.Tensor], num_classes: int) -> tuple[dict[str, list[float | None]], list[bool]]:
    """The final numbers. A replica whose loss is not finite has diverged: it has the accuracy of chance, and no loss.

    Args:
        metrics: Each metric's name with its values (R,).
        num_classes: C; chance is 1 / C.

    Returns:
        The metrics as lists, None for what is not finite, and whether each replica diverged.

    >>> score({"test/loss": torch.tensor([0.5, torch.nan]), "test/acc": torch.tensor([0.75, 0.0])}, 4)
    ({'test/loss': [0.5, None], 'test/acc': [0.75, 0.25]}, [False, True])
    """
    losses = torch.stack([values.cpu().double() for name, values in metrics.items() if name.endswith("loss")])
    diverged = ~losses.isfinite().all(0)
    scored: dict[str, list[float | None]] = {}
    for name, values in metrics.items():
        numbers = values.cpu().double()
        numbers = numbers.masked_fill(diverged, 1 / num_classes) if name.endswith("acc") else numbers
        scored[name] = [number if math.isfinite(number) else None for number in numbers.tolist()]
    return scored, diverged.tolist()
