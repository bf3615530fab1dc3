"""The LightningModule: the training step of R replicas, and what is measured of them."""

from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from bn_experiments.data.batches import Block, EvaluationBatches
from bn_experiments.data.splits import Examples
from bn_experiments.training.replicas import Replicas
from bn_experiments.training.steps import CapturedSteps, Steps, cross_entropy


class Classification(LightningModule):
    """Trains R replicas of a network with the cross-entropy, in blocks of mini-batches.

    Lightning is handed a block at a time, so that what it does for each batch is done once a block; the
    module takes the steps on a block's mini-batches in manual optimization. For Lightning a block is a batch and a
    step: its `global_step` counts blocks.

    Args:
        replicas: The R networks.
        optimizer: The function that makes an optimizer of a network or a stack; the optimizer must act element by
            element.
        scheduler: The function that makes a learning-rate scheduler of an optimizer; it steps after every epoch.
        gradient_clip_norm: The largest 2-norm of each replica's gradient. None: no clipping.
        captured: Whether the step is captured as a CUDA graph.
    """

    def __init__(
        self,
        replicas: Replicas,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler],
        gradient_clip_norm: float | None,
        captured: bool,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.replicas = replicas
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.gradient_clip_norm = gradient_clip_norm
        self.captured = captured
        self.steps: list[tuple[slice | int, Callable[[Examples, Tensor], Tensor]]] = []
        self.metrics: dict[str, Tensor] = {}

    def configure_optimizers(self) -> Any:
        """An optimizer with its scheduler for each part of the replicas."""
        optimizers = [self.make_optimizer(part) for part, _ in self.replicas.parts()]
        self.schedulers = [self.make_scheduler(optimizer) for optimizer in optimizers]
        return optimizers, self.schedulers

    def on_train_start(self) -> None:
        """Makes the steps, now that networks and optimizers are where and what they will be."""
        self.steps.clear()
        for (part, replicas), optimizer in zip(self.replicas.parts(), self.trainer.optimizers, strict=True):
            steps = Steps(part, optimizer, self.gradient_clip_norm)
            self.steps.append((replicas, CapturedSteps(steps) if self.captured else steps))

    def training_step(self, block: Block, block_index: int) -> dict[str, Tensor]:
        """Trains each part on a block, on its own; gives the loss of each mini-batch and replica, `losses` (K, R)."""
        losses = [take(block.examples, block.index[replicas].movedim(-2, 0)) for replicas, take in self.steps]
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()  # Lightning counts the steps of optimizers that it wraps: here, a step a block
        progress.increment_completed()
        return {"losses": torch.cat([loss.view(len(block), -1) for loss in losses], dim=1)}

    def on_train_epoch_end(self) -> None:
        """Steps the schedulers."""
        for scheduler in self.schedulers:
            scheduler.step()

    def validation_step(self, batches: EvaluationBatches, batch_index: int) -> None:
        """Scores the split, in evaluation mode."""
        self._score(batches, "val")

    def test_step(self, batches: EvaluationBatches, batch_index: int) -> None:
        """Scores the test set, in evaluation mode."""
        self._score(batches, "test")

    def _score(self, batches: EvaluationBatches, split: str) -> None:
        """Sets the metrics `<split>/loss` and `<split>/acc`, the mean loss and accuracy of each replica, (R,) each."""
        losses, hits = [], []
        for x, y in batches.batches():
            logits = self.replicas.forward_shared(x)
            labels = y.expand(len(logits), -1)
            losses.append(cross_entropy(logits, labels).sum(1))
            hits.append((logits.argmax(-1) == labels).sum(1))
        count = len(batches.examples)
        self.metrics[f"{split}/loss"] = torch.stack(losses).sum(0) / count
        self.metrics[f"{split}/acc"] = torch.stack(hits).sum(0) / count
