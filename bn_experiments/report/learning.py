"""Learning: the loss by step, the losses and the accuracy by epoch."""

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import PERCENT, Arm, arms_in, joined, loss_unit, measured_in, points
from bn_experiments.figures.drawing import PUBLISHED, Drawing, ends, legend, line, log_scale, panels
from bn_experiments.records.quantities import STEP_LOSS

POINTS = 150  # the most that a curve by step has
BAND = "Lines are means over replicas, bands the 99% intervals of the means."
CIRCLES = " Circles are the published run."
NAMES = ("loss_by_step", "curves_by_epoch")  # of the drawings
PANELS = {
    STEP_LOSS: ("training loss", 1),
    "train/running_loss": ("running training loss", 1),
    "val/loss": ("validation loss", 1),
    "val/acc": ("validation accuracy, %", 100),
}


def loss_by_step(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The training loss, each point the mean of so many steps that all fit in `POINTS`."""
    parts, sizes = [], set()
    for arm, losses in measured_in(arms, STEP_LOSS, each="1 steps"):
        size = math.ceil(losses.shape[1] / POINTS)
        values = arm.measured(STEP_LOSS, each=f"{size} steps")
        within = _within(STEP_LOSS, arms)
        parts.append(points(values, within=within, arm=arm.name, step=_middles(size, values.shape[1])))
        sizes.add(size)
    data = joined(parts)
    drawn = arms_in(data, arms)
    figure, (axes,) = panels(3.1)
    published = False
    for arm in drawn:
        line(axes, arm, data[data["arm"] == arm.name], "step", markers=False)
        published |= _draw_published(axes, arm, STEP_LOSS, by_epoch=False)
    legend(figure, drawn, [PUBLISHED] * published)
    axes.set_xlim(0, data["step"].max() * 1.01)
    axes.set_xlabel("step (mini-batches seen)")
    unit = loss_unit(drawn)
    axes.set_ylabel(", ".join(filter(None, ("training loss", unit))))
    _log_if_wide(axes, data)
    window = " or ".join(map(str, sorted(sizes)))
    smoothed = f" Each point is the mean of {window} steps." if sizes != {1} else ""
    caption = f"{BAND}{smoothed}{CIRCLES * published}"
    alt = f"Line chart of the training loss over {data['step'].max():.0f} steps: {ends(data, f' {unit}'.rstrip())}."
    return Drawing(NAMES[0], "Training loss by step", caption, alt, data, figure)


def curves_by_epoch(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """Training loss, validation loss and validation accuracy after each epoch, a panel each."""
    data = joined(
        points(
            factor * values,
            within=_within(metric, arms),
            metric=metric,
            arm=arm.name,
            epoch=range(1, values.shape[1] + 1),
        )
        for metric, (_, factor) in PANELS.items()
        if metric != STEP_LOSS
        for arm, values in measured_in(arms, metric, each="epoch")
    )
    drawn, metrics = arms_in(data, arms), list(dict.fromkeys(data["metric"]))
    unit = loss_unit(drawn)
    figure, shown = panels(2.7, columns=len(metrics))
    published = False
    for axes, metric in zip(shown, metrics, strict=True):
        label, _ = PANELS[metric]
        own = data[data["metric"] == metric]
        for arm in drawn:
            line(axes, arm, own[own["arm"] == arm.name], "epoch", markers=own["epoch"].max() <= 25)
            published |= _draw_published(axes, arm, metric, by_epoch=True)
        axes.set_title(f"{label}, {unit}" if unit and metric.endswith("loss") else label)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        if metric.endswith("loss"):
            _log_if_wide(axes, own)
    legend(figure, drawn, [PUBLISHED] * published)
    accuracy = data[data["metric"] == "val/acc"]
    last = f"Training loss: {ends(data, f' {unit}'.rstrip())}"
    if len(accuracy):
        last = f"Validation accuracy: {ends(accuracy, '%')}"
    caption, alt = f"{BAND}{CIRCLES * published}", f"Line charts by epoch. {last}."
    return Drawing(NAMES[1], "Losses and accuracy by epoch", caption, alt, data, figure)


def _within(metric: str, arms: Mapping[str, Arm]) -> tuple[float, float]:
    """Between which values a metric lies: accuracies in per cent, cross-entropies above 0, other losses anywhere."""
    if metric.endswith("acc"):
        return PERCENT
    return (0.0 if loss_unit(arms.values()) else -math.inf, math.inf)


def _middles(size: int, count: int) -> list[float]:
    """The middle of each of so many groups of steps."""
    return [size * i + (size + 1) / 2 for i in range(count)]


def published_curves(arm: Arm, metric: str, *, by_epoch: bool) -> Iterator[tuple[list[float], list[float]]]:
    """The places and the values of the curves that were published of an arm, as they are shown."""
    for entry in arm.published:
        if entry.metric == metric and entry.each and (entry.each == "epoch") == by_epoch:
            size = 1 if by_epoch else int(str(entry.each).split()[0])
            yield _middles(size, len(entry.values)), [PANELS[metric][1] * value for value in entry.values]


def is_wide(data: pd.DataFrame) -> bool:
    """Whether the means span a factor of five or more, so that their axis is logarithmic."""
    means = data["mean"][data["mean"] > 0]
    return bool(len(means)) and bool(means.max() / means.min() >= 5)


def _draw_published(axes: Axes, arm: Arm, metric: str, *, by_epoch: bool) -> bool:
    """Draws the published curves of a metric as circles; whether there are any."""
    found = list(published_curves(arm, metric, by_epoch=by_epoch))
    for x, y in found:
        axes.plot(x, y, "o", color=arm.look.color, markerfacecolor="none", markersize=6, zorder=3)
    return bool(found)


def _log_if_wide(axes: Axes, data: pd.DataFrame) -> None:
    if is_wide(data):
        means = data["mean"][data["mean"] > 0]
        log_scale(axes.yaxis, means.min(), means.max())
        axes.set_ylim(bottom=means.min() / 1.5)


DRAWINGS = (loss_by_step, curves_by_epoch)
