"""Telling: the callback that writes how far a run is, about once a second."""

import time
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from bn_experiments.data.batches import Blocks
from bn_experiments.records.progress import TESTING, Progress, remove
from bn_experiments.training.curves import BY_EPOCH, Curves

EVERY_S = 1.0
LAST = 50  # mini-batches whose mean loss is told, at most


class Stage(NamedTuple):
    """What is trained, of all that a run trains.

    Args:
        folder: The folder of the run.
        name: The name of the stage.
        then: The work of the run that comes after this stage, as a multiple of the stage's.
    """

    folder: Path
    name: str
    then: float


class Telling(Callback):
    """Writes `progress.json` into a run's folder, at most once a second; changes nothing of what is trained.

    The time left is that of the steps to come, at the pace of the steps that this process took; what a checkpoint
    brought along does not count towards the pace.

    Args:
        stage: What is trained.
        curves: The callback that keeps losses and metrics, which Lightning calls before this one.
    """

    def __init__(self, stage: Stage, curves: Curves):
        self.stage = stage
        self.curves = curves
        self.began = self.told = time.monotonic()
        self.of_epoch = 0  # steps of an epoch

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to measure the pace."""
        self.began = time.monotonic()
        blocks = cast(Blocks, trainer.train_dataloader)
        self.of_epoch = blocks.full + (blocks.last > 0)
        self._tell(trainer, self.stage.name)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes after a block, where a second has passed."""
        self._tell_where_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes after an epoch, with its validation, where a second has passed."""
        self._tell_where_due(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes that the networks are tested."""
        self._tell(trainer, self.stage.name if self.stage.then else TESTING)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes the file after the last stage."""
        if not self.stage.then:
            remove(self.stage.folder)

    def _tell_where_due(self, trainer: Trainer) -> None:
        if time.monotonic() - self.told >= EVERY_S:
            self._tell(trainer, self.stage.name)

    def _tell(self, trainer: Trainer, stage: str) -> None:
        self.told = time.monotonic()
        epochs, taken = trainer.max_epochs or 0, len(self.curves.sizes)
        steps, own = self.of_epoch * epochs, taken - self.curves.brought
        epoch = min(taken // self.of_epoch + 1, epochs) if self.of_epoch else 0
        left_s = (self.told - self.began) / own * (steps - taken + self.stage.then * steps) if own else None
        means = self._means() if taken else {}
        Progress(stage, epoch, epochs, taken, steps, left_s, self.curves.replicas, **means).write(self.stage.folder)

    def _means(self) -> dict[str, Any]:
        """The means over the replicas that have not diverged, and how many others there are."""
        last = {"loss": self.curves.losses[-1][-LAST:].mean(0)}
        last |= {name.replace("/", "_"): values for name, values in self.curves.last().items() if name in BY_EPOCH[1:]}
        finite = torch.stack([values.isfinite() for values in last.values()]).all(0)
        means = {name: values[finite].double().mean().item() for name, values in last.items()}
        return {"diverged": int((~finite).sum()), **means}
