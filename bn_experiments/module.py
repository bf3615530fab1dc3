"""The LightningModule: the training step of R replicas, and what is measured of them."""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor

from bn_experiments.data.batches import Block
from bn_experiments.replicas import Replicas, clip_gradients


class Classification(LightningModule):
    """Trains R replicas of a network with the cross-entropy, in blocks of mini-batches.

    Lightning is handed a block at a time, so that what it does for each batch is done once a block; the
    module walks the block's mini-batches in manual optimization. For Lightning a block is a batch and a
    step: its `global_step` counts blocks.

    Args:
        replicas: The networks.
        optimizer: Makes an optimizer of parameters; it must act element by element.
        scheduler: Makes a learning-rate scheduler of an optimizer; it steps once an epoch.
        gradient_clip_norm: Largest 2-norm of each replica's gradient. None: not clipped.
    """

    def __init__(
        self,
        replicas: Replicas,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler],
        gradient_clip_norm: float | None,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.replicas = replicas
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.gradient_clip_norm = gradient_clip_norm
        self.scores: list[tuple[Tensor, Tensor, int]] = []
        self.metrics: dict[str, Tensor] = {}

    def configure_optimizers(self) -> Any:
        """The optimizer over all replicas, with its scheduler."""
        optimizer = self.make_optimizer(self.replicas.parameters())
        return [optimizer], [self.make_scheduler(optimizer)]

    def training_step(self, block: Block, block_index: int) -> dict[str, Tensor]:
        """Walks a block; gives the loss of each mini-batch and replica, `losses` (K, R), on the device."""
        lightning_optimizer = cast(LightningOptimizer, self.optimizers())
        optimizer = lightning_optimizer.optimizer
        losses = []
        for k, (x, y) in enumerate(block):
            optimizer.zero_grad()
            loss = cross_entropy(self.replicas(x), y).mean(1)
            loss.sum().backward()  # replicas do not interact: each gets the gradient of its own loss
            if self.gradient_clip_norm is not None:
                clip_gradients(self.replicas, self.gradient_clip_norm)
            # the last step of a block goes through Lightning, whose step count then counts blocks
            if k == len(block) - 1:
                lightning_optimizer.step()
            else:
                optimizer.step()
            if torch.is_autocast_enabled(self.device.type):
                torch.clear_autocast_cache()  # it holds the weights of before the step
            losses.append(loss.detach())
        return {"losses": torch.stack(losses)}

    def on_train_epoch_end(self) -> None:
        """Steps the scheduler."""
        cast(torch.optim.lr_scheduler.LRScheduler, self.lr_schedulers()).step()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Scores a batch, in evaluation mode."""
        self.score(*batch)

    def on_validation_epoch_end(self) -> None:
        """Turns the scores into `val/loss` and `val/acc`."""
        self.measure("val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Scores a batch, in evaluation mode."""
        self.score(*batch)

    def on_test_epoch_end(self) -> None:
        """Turns the scores into `test/loss` and `test/acc`."""
        self.measure("test")

    def score(self, x: Tensor, y: Tensor) -> None:
        """Keeps each replica's summed loss and hits on a shared batch x (B, ...), y (B,)."""
        logits = self.replicas.forward_shared(x)
        labels = y.expand(len(logits), -1)
        hits = (logits.argmax(-1) == labels).sum(1)
        self.scores.append((cross_entropy(logits, labels).sum(1), hits, len(y)))

    def measure(self, split: str) -> None:
        """Means over the split, (R,) each, into `metrics`; Lightning's callbacks see the replicas' mean."""
        losses, hits, sizes = zip(*self.scores, strict=True)
        self.scores.clear()
        self.metrics[f"{split}/loss"] = torch.stack(losses).sum(0) / sum(sizes)
        self.metrics[f"{split}/acc"] = torch.stack(hits).sum(0) / sum(sizes)
        for name in (f"{split}/loss", f"{split}/acc"):
            self.log(name, self.metrics[name].float().mean(), logger=False)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each example, in nats.

    Shapes: logits (R, B, C), y (R, B) to (R, B).

    >>> cross_entropy(torch.zeros(1, 1, 10), torch.tensor([[3]])).exp()
    tensor([[10.]])
    """
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
