"""Depth: variance and gradient from the input to the output."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from bn_experiments.records.quantities import NotMeasured, Quantity, axis_labels, probes
from bn_experiments.report.arms import Arm, points
from bn_experiments.report.contents import Section
from bn_experiments.report.figures import WIDTH, Drawing, dots, ends, legend, log_axis_for, plain
from bn_experiments.report.learning import PUBLISHED

GROWTH = ("slope", "linear_over_exponential", "exponential_over_linear")
MOMENTS = {"start": "initial networks", "end": "after the last epoch"}
FITS = (
    Line2D([], [], color="#333333", linestyle="-", linewidth=0.9, label="linear fit"),
    Line2D([], [], color="#333333", linestyle=":", linewidth=1.1, label="exponential fit"),
)


def variance(section: Section) -> Drawing:
    """The variance of the signal at each stage, and the growth that the experiment claims of it."""
    data, stages = _read(section, "variance_by_depth", "variance", "stage")
    moments = list(dict.fromkeys(data["moment"]))
    moment = moments[-1]
    arms = [arm for arm in section.arms.values() if arm.name in set(data["arm"])]
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplots()
    last = data[data["moment"] == moment]
    fitted = published = False
    for i, arm in enumerate(arms):
        own = last[last["arm"] == arm.name].set_index("stage").reindex(stages).dropna(subset="mean")
        at = [stages.index(stage) + (i - (len(arms) - 1) / 2) * 0.08 for stage in own.index]
        dots(axes, arm, own.reset_index(), at, sideways=False)
        claimed = _claimed(section, arm)
        if claimed and set(claimed) <= set(own.index) and (own.loc[claimed, "mean"] > 0).all():
            _draw_fits(axes, arm, [stages.index(stage) for stage in claimed], own.loc[claimed, "mean"].to_numpy())
            fitted = True
        for entry in arm.published:
            if entry.metric == "variance_by_depth/variance" and entry.labels and set(entry.labels) <= set(stages):
                x = [stages.index(label) for label in entry.labels[: len(entry.values)]]
                axes.plot(x, entry.values[: len(x)], "o", color=arm.look.color, markerfacecolor="none", markersize=9)
                published = True
    log_axis_for(axes.yaxis, last)
    slanted = sum(map(len, stages)) > 70
    axes.set_xticks(
        range(len(stages)),
        [plain(s) for s in stages],
        rotation=40 if slanted else 0,
        ha="right" if slanted else "center",
    )
    axes.set_xlabel("stage, from the input x to the output")
    axes.set_ylabel("variance")
    legend(figure, arms, [*FITS * fitted, *[PUBLISHED] * published], lines=False)
    fits = " Fits are to the logarithm of the means, over the stages that the claims name." if fitted else ""
    circles = " Large circles are the published run." if published else ""
    caption = f"Means over replicas with their 95% intervals, {MOMENTS[moment]}.{fits}{circles}"
    alt = f"Dot plot of the variance at {len(stages)} stages, {MOMENTS[moment]}: {ends(last)}."
    return Drawing("variance_by_depth", "Variance by depth", caption, alt, data, figure)


def gradients(section: Section) -> Drawing:
    """The norm of the loss's gradient in each layer, at the start and at the end."""
    data, layers = _read(section, "gradients", "norm", "layer")
    moments = list(dict.fromkeys(data["moment"]))
    arms = [arm for arm in section.arms.values() if arm.name in set(data["arm"])]
    figure = Figure(figsize=(WIDTH, 1.2 + 0.24 * len(layers)), layout="constrained")
    panels = figure.subplots(1, len(moments), sharey=True, squeeze=False)[0]
    for axes, moment in zip(panels, moments, strict=True):
        own = data[data["moment"] == moment]
        for i, arm in enumerate(arms):
            rows = own[(own["arm"] == arm.name) & (own["mean"] > 0)]
            at = [layers.index(layer) + (i - (len(arms) - 1) / 2) * 0.7 / max(2, len(arms)) for layer in rows["layer"]]
            dots(axes, arm, rows, at, sideways=True)
        log_axis_for(axes.xaxis, own)
        axes.set_title(MOMENTS[moment])
        axes.set_xlabel("gradient norm")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
    panels[0].set_yticks(range(len(layers)), [plain(layer) for layer in layers])
    panels[0].set_ylim(len(layers) - 0.4, -0.6)
    legend(figure, arms, lines=False)
    caption = "2-norm of the gradient of the training loss in each layer; means over replicas with their 95% intervals."
    alt = f"Dot plot of gradient norms in {len(layers)} layers: {ends(data)}, in the last layer."
    return Drawing("gradient_norms", "Gradient by layer", caption, alt, data, figure)


def linear_fit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The positive line a + b k, k = 0..P-1, that is nearest to the values (P,) in its logarithm (see `growth`).

    >>> linear_fit(np.array([1.0, 3.0, 5.0])).round(2).tolist()
    [1.0, 3.0, 5.0]
    """
    z, t = np.log(values), np.linspace(0, 1, len(values))
    with np.errstate(divide="ignore"):
        lines = np.linspace(-1, 1, 20001)[:, None] * (np.ptp(z) + 2)
        curves = np.logaddexp(np.log1p(-t), lines + np.log(t))  # (W, P), with a = 1
    shift = (z - curves).mean(axis=1, keepdims=True)
    best = ((z - curves - shift) ** 2).sum(axis=1).argmin()
    return np.exp(curves[best] + shift[best])


def exponential_fit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The curve a e^{b k} that is nearest to the values (P,) in its logarithm.

    >>> exponential_fit(np.array([1.0, 2.0, 4.0])).round(2).tolist()
    [1.0, 2.0, 4.0]
    """
    k = np.arange(len(values))
    return np.exp(np.polyval(np.polyfit(k, np.log(values), 1), k))


def _read(section: Section, probe: str, quantity: str, axis: str) -> tuple[pd.DataFrame, list[str]]:
    """Each arm's estimates by moment and label, and the labels of the arm that has most, with others after them."""
    parts, labels = [], []
    for moment in MOMENTS:
        for arm in section.arms.values():
            arrays = probes(arm.folder)
            try:
                values = arm.measured(f"{probe}/{quantity}", moment=moment)
            except NotMeasured:
                continue
            if moment == "end" and len(arrays[f"{probe}/epochs"]) == 1 and arrays[f"{probe}/epochs"][0] == 0:
                continue  # the only reading is the start's
            labels.append(axis_labels(arrays, probe))
            parts.append(points(values, moment=moment, arm=arm.name, **{axis: labels[-1]}))
    if not parts:
        raise NotMeasured(f"{probe} was not measured")
    labels.sort(key=len, reverse=True)
    return pd.concat(parts, ignore_index=True), list(dict.fromkeys(label for each in labels for label in each))


def _claimed(section: Section, arm: Arm) -> list[str]:
    """The stages over which the experiment claims a growth of the arm's variance."""
    return next(
        (
            quantity.labels
            for claim in section.claims
            for quantity in claim.quantities.values()
            if claim.rule in GROWTH and _is_variance(quantity, arm) and quantity.labels
        ),
        [],
    )


def _is_variance(quantity: Quantity, arm: Arm) -> bool:
    return quantity.arm == arm.name and quantity.metric == "variance_by_depth/variance"


def _draw_fits(axes: Axes, arm: Arm, at: list[int], values: NDArray[np.float64]) -> None:
    for fit, handle in zip((linear_fit, exponential_fit), FITS, strict=True):
        style, width = handle.get_linestyle(), handle.get_linewidth()
        axes.plot(at, fit(values), color=arm.look.color, linestyle=style, linewidth=width)
