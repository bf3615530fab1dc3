"""Learning: the loss by step, the losses and the accuracy by epoch."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import Arm, arms_in, points
from bn_experiments.figures.axes import legend, log_axis
from bn_experiments.figures.drawing import WIDTH, Drawing
from bn_experiments.figures.marks import PUBLISHED, ends, line
from bn_experiments.records.quantities import NotMeasured

POINTS = 150  # the most that a curve by step has
BAND = "Lines are means over replicas, bands the 95% intervals of the means."


def loss_by_step(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The training loss, each point the mean of so many steps that all fit in `POINTS`."""
    parts, sizes = [], {}
    for arm in _with_steps(arms):
        steps = arm.measured("train/step_loss", each="1 steps").shape[1]
        size = sizes[arm.name] = math.ceil(steps / POINTS)
        values = arm.measured("train/step_loss", each=f"{size} steps")
        middles = [size * i + (size + 1) / 2 for i in range(values.shape[1])]
        parts.append(points(values, arm=arm.name, step=middles))
    data = _joined(parts)
    drawn = arms_in(data, arms)
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    axes = figure.subplots()
    published = False
    for arm in drawn:
        line(axes, arm, data[data["arm"] == arm.name], "step", markers=False)
        for entry in arm.published:
            if entry.metric == "train/step_loss" and entry.each != "epoch" and entry.each:
                size = int(entry.each.split()[0])
                middles = [size * i + (size + 1) / 2 for i in range(len(entry.values))]
                _circles(axes, arm, middles, entry.values)
                published = True
    legend(figure, drawn, [PUBLISHED] * published)
    axes.set_xlim(0, data["step"].max() * 1.01)
    axes.set_xlabel("step (mini-batches seen)")
    axes.set_ylabel("training loss, nats")
    _log_if_wide(axes, data)
    windows = sorted(set(sizes.values()))
    window = " or ".join(map(str, windows))
    smoothed = f" Each point is the mean of {window} steps." if windows != [1] else ""
    circles = " Circles are the published run." if published else ""
    return Drawing(
        "loss_by_step",
        "Training loss by step",
        f"{BAND}{smoothed}{circles}",
        f"Line chart of the training loss over {data['step'].max():.0f} steps: {ends(data, ' nats')}.",
        data,
        figure,
    )


PANELS = (
    ("train/loss", "training loss, nats", 1),
    ("val/loss", "validation loss, nats", 1),
    ("val/acc", "validation accuracy, %", 100),
)


def curves_by_epoch(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """Training loss, validation loss and validation accuracy after each epoch, a panel each."""
    parts = []
    for metric, _, factor in PANELS:
        for arm in arms.values():
            try:
                values = factor * arm.measured(metric, each="epoch")
            except NotMeasured:
                continue
            parts.append(points(values, metric=metric, arm=arm.name, epoch=range(1, values.shape[1] + 1)))
    data = _joined(parts)
    panels = [panel for panel in PANELS if panel[0] in set(data["metric"])]
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    drawn, published = arms_in(data, arms), False
    for axes, (metric, label, factor) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        own = data[data["metric"] == metric]
        for arm in drawn:
            line(axes, arm, own[own["arm"] == arm.name], "epoch", markers=own["epoch"].max() <= 25)
            for entry in arm.published:
                if entry.metric == metric and entry.each == "epoch":
                    _circles(axes, arm, range(1, len(entry.values) + 1), [factor * value for value in entry.values])
                    published = True
        axes.set_title(label)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        if metric.endswith("loss"):
            _log_if_wide(axes, own)
    legend(figure, drawn, [PUBLISHED] * published)
    return Drawing(
        "curves_by_epoch",
        "Losses and accuracy by epoch",
        BAND + (" Circles are the published run." if published else ""),
        f"Line charts by epoch. {_last_accuracy(data)}.",
        data,
        figure,
    )


def _with_steps(arms: Mapping[str, Arm]) -> list[Arm]:
    found = []
    for arm in arms.values():
        try:
            arm.measured("train/step_loss", each="1 steps")
        except NotMeasured:
            continue
        found.append(arm)
    return found


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    if not parts:
        raise NotMeasured("no curve was measured")
    return pd.concat(parts, ignore_index=True)


def _circles(axes: Axes, arm: Arm, x: Sequence[float], values: Sequence[float]) -> None:
    axes.plot(x, values, linestyle="", marker="o", color=arm.look.color, markerfacecolor="none", markersize=6, zorder=3)


def _log_if_wide(axes: Axes, data: pd.DataFrame) -> None:
    """A logarithmic axis where the means span a factor of five or more."""
    means = data["mean"][data["mean"] > 0]
    if len(means) and means.max() / means.min() >= 5:
        log_axis(axes.yaxis, means.min(), means.max())
        axes.set_ylim(bottom=means.min() / 1.5)


def _last_accuracy(data: pd.DataFrame) -> str:
    accuracy = data[data["metric"] == "val/acc"]
    return f"Validation accuracy: {ends(accuracy, '%')}" if len(accuracy) else f"Training loss: {ends(data, ' nats')}"


DRAWINGS = (loss_by_step, curves_by_epoch)
