"""Modes: the same network scored with the batch's own statistics and with the running ones."""

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor

from bn_experiments.data.splits import Examples, Splits
from bn_experiments.probes.probe import Probe, Reading
from bn_experiments.training.replicas import Replicas

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

MODES = ("train", "eval")
SPLITS = ("train", "val", "test")


def logits_of(replicas: Replicas, examples: Examples, batch_size: int) -> Tensor:
    """Logits (R, N, C) of all examples, in order, in batches of `batch_size`; the last may be smaller."""
    sizes = [batch_size] * (len(examples) // batch_size)
    rest = len(examples) % batch_size
    if rest == 1 and sizes:  # batch statistics need two: one example goes with the batch before it
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    ends = list(accumulate(sizes, initial=0))
    with torch.no_grad():
        return torch.cat([replicas.forward_shared(examples.slice(a, b)[0]) for a, b in pairwise(ends)], dim=1)


def loss_and_accuracy(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy in nats, and share of right answers.

    Shapes: logits (R, N, C), y (N,) to (R,) and (R,).

    >>> loss_and_accuracy(torch.tensor([[[0.0, 0.0], [9.0, 0.0]]]), torch.tensor([1, 0]))[1]
    tensor([0.5000])
    """
    labels = y.expand(len(logits), -1)
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
    return losses.double().mean(1).float(), (logits.argmax(-1) == labels).float().mean(1)


class Modes(Probe):
    """Loss and accuracy of every split, in training mode and in evaluation mode.

    In training mode batch norm uses the statistics of the batch at hand, and dropout acts: the number depends on the
    size of the batch. It is measured on a copy, so the running statistics stay as training left them.

    Readings: train_mode_loss, train_mode_acc, eval_mode_loss, eval_mode_acc (R, 3), over train, val and test.

    Args:
        batch_size: B, of training mode.
        eval_batch_size: Of evaluation mode, in which it changes nothing.
    """

    def __init__(self, *, batch_size: PositiveInt, eval_batch_size: PositiveInt):
        self.sizes = {"train": batch_size, "eval": eval_batch_size}

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """See the class."""
        values = {}
        for mode in reversed(MODES):  # evaluation first: training mode moves the copy's running statistics
            replicas.train(mode == "train")
            parts = [getattr(splits, split) for split in SPLITS]
            scores = [loss_and_accuracy(logits_of(replicas, part, self.sizes[mode]), part.y) for part in parts]
            for quantity, by_split in zip(("loss", "acc"), zip(*scores, strict=True), strict=True):
                values[f"{mode}_mode_{quantity}"] = torch.stack(by_split, dim=1).cpu()
        return Reading("split", list(SPLITS), values)

    def draw(self, writer: "SummaryWriter", tag: str, reading: Reading, splits: Splits, epoch: int) -> None:
        """The mean over replicas of each number."""
        for quantity, values in reading.values.items():
            for split, value in zip(SPLITS, values.mean(0).tolist(), strict=True):
                writer.add_scalar(f"{tag}/{split}/{quantity}", value, epoch)
