"""Samples: pictures of the examples that the networks are trained on."""

from typing import TYPE_CHECKING

import torch
from pydantic import PositiveInt
from torch import Tensor

from bn_experiments.data.splits import Splits
from bn_experiments.probes.probe import Probe, Reading
from bn_experiments.training.replicas import Replicas

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter


class Samples(Probe):
    """The first training examples of the first replica, as they go into the network, drawn in TensorBoard.

    There are no readings.

    Args:
        examples: The number of examples.
    """

    def __init__(self, *, examples: PositiveInt):
        self.examples = examples

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Measures nothing."""
        return Reading("", [], {})

    def draw(self, writer: "SummaryWriter", tag: str, reading: Reading, splits: Splits, epoch: int) -> None:
        """Draws a picture of each example under the name of its class."""
        x, y = splits.train.slice(0, self.examples)
        names = [splits.classes[label] for label in y[0].tolist()]
        writer.add_figure(f"{tag}/training", draw_samples(x[0].cpu(), names), epoch, close=False)


def draw_samples(x: Tensor, names: list[str], columns: int = 4) -> "Figure":
    """Images (N, channels, H, W) or signals (N, channels, L) in a grid, each under its class's name."""
    from matplotlib.figure import Figure  # half a second

    rows = -(-len(x) // columns)
    figure = Figure(figsize=(1.4 * columns, 1.45 * rows))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))  # one for all: an example's own would take ten times as long
    for i, (example, name) in enumerate(zip(_to_unit(x.float()), names, strict=True)):
        left, bottom = i % columns, -(i // columns) - 1.0
        axes.text(left, bottom + 0.92, name, size=10)
        if example.dim() == 2:
            axes.set_prop_cycle(None)  # one colour for each channel
            axes.plot(torch.linspace(left, left + 0.9, example.shape[1]).numpy(), (bottom + 0.88 * example.T).numpy())
        else:
            image = example[:3].permute(1, 2, 0) if len(example) >= 3 else example[0]
            axes.imshow(image.numpy(), cmap="gray", extent=(left, left + 0.9, bottom, bottom + 0.88), aspect="auto")
    axes.set_xlim(0, columns)
    axes.set_ylim(-rows, 0.02)
    axes.set_axis_off()
    return figure


def _to_unit(x: Tensor) -> Tensor:
    """Each example scaled to [0, 1]."""
    flat = x.flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    return ((flat - low) / (high - low).clamp(min=torch.finfo(x.dtype).tiny)).view_as(x)
