"""Classes: the confusion matrix, and the share of right answers in each class."""

from typing import TYPE_CHECKING

import torch
from pydantic import PositiveInt
from torch import Tensor

from bn_experiments.data.batches import BatchSize
from bn_experiments.data.splits import Splits
from bn_experiments.probes.probe import Probe, Reading, TrainingBatch
from bn_experiments.probes.scoring import MODES, logits_on
from bn_experiments.training.replicas import Replicas

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter


def confusion_matrices(logits: Tensor, y: Tensor) -> Tensor:
    """The number of examples of class i, the row, that were answered as class j, the column.

    Shapes: logits (R, N, C), y (N,), (1, N) or (R, N) to (R, C, C).

    >>> confusion_matrices(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]), torch.tensor([0, 1])).tolist()
    [[[1, 0], [1, 0]]]
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix  # which imports Lightning

    classes = logits.shape[-1]
    answers = zip(logits.argmax(-1), y.expand(logits.shape[:-1]), strict=True)
    return torch.stack([multiclass_confusion_matrix(own, labels, classes) for own, labels in answers])


class Classes(Probe):
    """The confusion matrix of the test set, in training mode and in evaluation mode.

    Readings, for mode train and eval: <mode>_mode_confusion (R, C, C), <mode>_mode_correct (R, C), the right answers
    in each class, and <mode>_mode_acc (R, C), their share.

    Args:
        batch_size: B, the size of the batches in training mode, full for the whole set, on which the answers depend.
        eval_batch_size: The size of the batches in evaluation mode, which changes no number.
    """

    quantities = (
        "train_mode_confusion",
        "train_mode_correct",
        "train_mode_acc",
        "eval_mode_confusion",
        "eval_mode_correct",
        "eval_mode_acc",
    )

    def __init__(self, *, batch_size: BatchSize, eval_batch_size: PositiveInt):
        self.sizes = {"train": batch_size, "eval": eval_batch_size}

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Counts the answers on the test set, in one mode after the other."""
        values = {}
        for mode in MODES:
            replicas.train(mode == "train")
            logits = logits_on(splits.test, replicas, self.sizes[mode])
            confusion = confusion_matrices(logits, splits.test.labels)  # (R, C, C)
            correct = confusion.diagonal(dim1=1, dim2=2)  # (R, C)
            values[f"{mode}_mode_confusion"] = confusion.cpu()
            values[f"{mode}_mode_correct"] = correct.cpu()
            values[f"{mode}_mode_acc"] = (correct / confusion.sum(2).clamp(min=1)).cpu()
        return Reading("class", list(splits.classes), values)

    def draw(self, writer: "SummaryWriter", tag: str, reading: Reading, splits: Splits, epoch: int) -> None:
        """Draws the confusion matrix of evaluation mode, over all replicas, as an image."""
        figure = draw_confusion(reading.values["eval_mode_confusion"].sum(0), reading.labels)
        writer.add_figure(f"{tag}/confusion", figure, epoch, close=False)

    def training_batches(self, splits: Splits) -> list[TrainingBatch]:
        """The test set is scored in training mode."""
        return TrainingBatch.of_whole("batch_size", self.sizes["train"], "test", splits)


def draw_confusion(confusion: Tensor, classes: list[str]) -> "Figure":
    """A picture of a confusion matrix of counts (C, C), in per cent of each class."""
    shares = 100 * confusion / confusion.sum(1, keepdim=True).clamp(min=1)
    from matplotlib.figure import Figure  # half a second

    figure = Figure(figsize=(1.5 + 0.45 * len(classes),) * 2, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(classes)), classes, rotation=45 if max(map(len, classes)) > 2 else 0)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("answer")
    axes.set_ylabel("class")
    axes.set_title("per cent of each class, all replicas")
    if len(classes) <= 20:  # more would not be legible
        for i, row in enumerate(shares.tolist()):
            for j, share in enumerate(row):
                color = "white" if share > 50 else "black"
                axes.text(j, i, f"{share:.0f}" if share >= 0.5 else "", ha="center", va="center", color=color, size=8)
    return figure
