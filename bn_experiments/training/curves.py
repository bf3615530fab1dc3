"""Curves: what is measured while a cell trains, kept with the checkpoint, drawn in TensorBoard, written as CSV."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from bn_experiments.data.batches import Block
from bn_experiments.records.events import interval_tags
from bn_experiments.statistics.intervals import mean_interval
from bn_experiments.system.files import write_whole
from bn_experiments.training.module import Classification

FILE = "metrics.csv"
BY_EPOCH = ("train/running_loss", "val/loss", "val/acc")


class Curves(Callback):
    """Keeps the loss of every step and the metrics of every epoch, of each of R replicas.

    `train/running_loss` of an epoch is the mean, over its examples, of the loss of the mini-batch in which each was
    taken: in training mode, while the weights change. It is not the loss of the network at the end of the epoch.

    TensorBoard gets the replicas' means, and for each epoch the 99% interval of the mean. The curves travel
    in the checkpoint: a run that goes on from one starts a new event file with all of them, so that every point is
    drawn once.

    Args:
        writers: Writers of TensorBoard's event files, each with the replicas whose means it draws: one for all of them
            or, where replicas are trained with several rates, one for each rate.
        log_every_n_steps: The number of steps between two points of the training curve in TensorBoard; each point
            is the mean loss over these steps.
    """

    def __init__(self, writers: Sequence[tuple[SummaryWriter, range]], log_every_n_steps: int):
        self.writers = writers
        self.replicas = sum(len(own) for _, own in writers)
        self.log_every_n_steps = log_every_n_steps
        self.losses = [torch.empty(0, self.replicas)]  # (K, R) for each block
        self.sizes: list[int] = []  # the size of the mini-batch of each step
        self.epoch_ends: list[int] = []  # steps taken by the end of each epoch
        self.epochs: dict[str, list[Tensor]] = {name: [] for name in BY_EPOCH}  # (R,) for each epoch
        self.brought = 0  # steps that a checkpoint brought along
        self.drawn_steps = 0

    def state_dict(self) -> dict[str, Any]:
        """The curves, as a checkpoint keeps them."""
        losses = torch.cat(self.losses)
        return {"losses": losses, "sizes": self.sizes, "epoch_ends": self.epoch_ends, "epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The curves of a checkpoint."""
        self.losses = [state["losses"]]
        self.sizes = list(state["sizes"])
        self.brought = len(self.sizes)
        self.epoch_ends = list(state["epoch_ends"])
        self.epochs = {name: list(values) for name, values in state["epochs"].items()}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws what a checkpoint brought along, and asks TensorBoard for charts with intervals."""
        charts = {name: ["Margin", [name, *interval_tags(name)]] for name in BY_EPOCH}
        for writer, own in self.writers:
            if len(own) > 1:  # one replica has no interval
                writer.add_custom_scalars({"mean and 99% interval over replicas": charts})
        self._draw_steps()
        for epoch in range(len(self.epoch_ends)):
            self._draw_epoch(epoch)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Block, batch_idx: int
    ) -> None:
        """Takes a block's losses off the device."""
        self.losses.append(outputs["losses"].cpu())
        self.sizes.extend([batch.index.shape[-1]] * len(batch))
        self._draw_steps()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds the epoch's point to each curve: the mean loss over its examples, and the validation metrics."""
        assert isinstance(pl_module, Classification)
        start = self.epoch_ends[-1] if self.epoch_ends else 0
        self.epoch_ends.append(len(self.sizes))
        weights = torch.tensor(self.sizes[start:], dtype=torch.float64)
        self.losses = [torch.cat(self.losses)]
        self.epochs["train/running_loss"].append(weights @ self.losses[0][start:].double() / weights.sum())
        for name in BY_EPOCH[1:]:
            self.epochs[name].append(pl_module.metrics[name].cpu().double())
        self._draw_epoch(len(self.epoch_ends) - 1)

    def examples_taken(self) -> int:
        """How many examples all replicas took since this process began; those before a checkpoint do not count."""
        return sum(self.sizes[self.brought :]) * self.replicas

    def last(self) -> dict[str, Tensor]:
        """The last point, (R,), of each curve that has one."""
        return {name: values[-1] for name, values in self.epochs.items() if values}

    def write(self, folder: Path) -> None:
        """Writes `metrics.csv`: step, epoch, replica, name, value; steps and epochs count from 1.

        Values have as many digits as the losses: 7 in float32, 17 in float64.
        """
        digits = 17 if torch.cat(self.losses).dtype == torch.float64 else 7
        write_whole(folder / FILE, pd.concat(self._tables()).to_csv(index=False, float_format=f"%.{digits}g"))

    def _tables(self) -> Iterator[pd.DataFrame]:
        steps, ends = torch.arange(1, len(self.sizes) + 1), torch.tensor(self.epoch_ends)
        yield _long("train/step_loss", torch.cat(self.losses), steps, torch.bucketize(steps, ends) + 1)
        for name, values in self.epochs.items():
            if values:
                yield _long(name, torch.stack(values), ends, torch.arange(1, len(values) + 1))

    def _draw_steps(self) -> None:
        every = self.log_every_n_steps
        points = (len(self.sizes) - self.drawn_steps) // every
        if points == 0:
            return
        new = torch.cat(self.losses)[self.drawn_steps : self.drawn_steps + points * every]
        for writer, own in self.writers:
            means = new[:, own.start : own.stop].reshape(points, -1).mean(1)
            for i, value in enumerate(means.tolist(), start=1):
                writer.add_scalar("train/step_loss", value, self.drawn_steps + i * every)
        self.drawn_steps += points * every

    def _draw_epoch(self, epoch: int) -> None:
        for name, values in self.epochs.items():
            for writer, own in self.writers:
                estimate = mean_interval(values[epoch][own.start : own.stop].tolist())
                tags = (name, *interval_tags(name)) if estimate.n > 1 else (name,)
                for tag, number in zip(tags, estimate, strict=False):
                    writer.add_scalar(tag, number, epoch + 1)


def _long(name: str, values: Tensor, steps: Tensor, epochs: Tensor) -> pd.DataFrame:
    """Values (points, R) as a table, one row for each point and replica."""
    points, replicas = values.shape
    return pd.DataFrame(
        {
            "step": steps.repeat_interleave(replicas).numpy(),
            "epoch": epochs.repeat_interleave(replicas).numpy(),
            "replica": torch.arange(replicas).repeat(points).numpy(),
            "name": name,
            "value": values.flatten().numpy(),
        }
    )
