"""Samples: a look at what the networks are trained on."""

from typing import TYPE_CHECKING

import torch
from pydantic import PositiveInt
from torch import Tensor

from bn_experiments.data.splits import Splits
from bn_experiments.probes.probe import Probe, Reading
from bn_experiments.replicas import Replicas

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter


class Samples(Probe):
    """The first training examples, as they go into the network, drawn in TensorBoard.

    Readings: none.

    Args:
        examples: How many.
    """

    def __init__(self, *, examples: PositiveInt):
        self.examples = examples

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Nothing."""
        return Reading("", [], {})

    def draw(self, writer: "SummaryWriter", tag: str, reading: Reading, splits: Splits, epoch: int) -> None:
        """A picture of each example under its class's name."""
        x, y = splits.train.slice(0, self.examples)
        names = [splits.classes[label] for label in y.tolist()]
        writer.add_figure(f"{tag}/training", draw_samples(x.cpu(), names), epoch, close=False)


def draw_samples(x: Tensor, names: list[str], columns: int = 4) -> "Figure":
    """Images (N, channels, H, W) or signals (N, channels, L) in a grid, each with its class's name."""
    rows = -(-len(x) // columns)
    from matplotlib.figure import Figure  # half a second

    figure = Figure(figsize=(1.4 * columns, 1.6 * rows), layout="constrained")
    for i, (example, name) in enumerate(zip(x.float(), names, strict=True)):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.set_title(name, size=10)
        if example.dim() == 2:
            axes.plot(example.T.numpy(), linewidth=1)
        else:
            low, high = example.min(), example.max()
            image = (example - low) / (high - low).clamp(min=torch.finfo(torch.float32).tiny)
            pixels = image[:3].permute(1, 2, 0) if len(image) >= 3 else image[0]
            axes.imshow(pixels.numpy(), cmap="gray")
        axes.set_axis_off()
    return figure
