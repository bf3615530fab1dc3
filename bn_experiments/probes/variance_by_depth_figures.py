"""Variance by depth, drawn: the variance of the signal at each stage, with the growth that is claimed of it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import MOMENTS, Arm, arms_in, by_moment
from bn_experiments.figures.drawing import INTERVALS, PUBLISHED, Drawing, dots, ends, legend, log_axis, panels, plain

METRIC = "variance_by_depth/variance"
QUANTITIES = {METRIC: "variance by depth"}
MOST_NAMES = 24  # of stages on the axis
GROWTH = ("slope", "linear_over_exponential", "exponential_over_linear")
FITS = (
    Line2D([], [], color="#333333", linestyle="-", linewidth=0.9, label="linear fit"),
    Line2D([], [], color="#333333", linestyle=":", linewidth=1.1, label="exponential fit"),
)


def variance_by_depth(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The variance of the signal at each stage, and the growth that the experiment claims of it."""
    data, stages = by_moment(arms, "variance_by_depth", "variance", "stage")
    moment = data["moment"].iloc[-1]
    last = data[data["moment"] == moment]
    drawn = arms_in(data, arms)
    figure, (axes,) = panels(2.9)
    fitted = published = False
    for i, arm in enumerate(drawn):
        own = last[last["arm"] == arm.name].set_index("stage").reindex(stages).dropna(subset="mean")
        at = [stages.index(stage) + (i - (len(drawn) - 1) / 2) * 0.08 for stage in own.index]
        dots(axes, arm, own.reset_index(), at, sideways=False)
        fitted |= _draw_fits(axes, arm, own["mean"], stages, _claimed(claims, arm))
        published |= _draw_published(axes, arm, stages)
    log_axis(axes.yaxis, last)
    _name_stages(axes, stages)
    axes.set_ylabel("variance")
    legend(figure, drawn, [*FITS * fitted, *[PUBLISHED] * published], lines=False)
    fits = " Fits are to the logarithm of the means, over the stages that the claims name." if fitted else ""
    circles = " Large circles are the published run." if published else ""
    caption = f"{INTERVALS.rstrip('.')}, {MOMENTS[moment]}.{fits}{circles}"
    alt = f"Dot plot of the variance at {len(stages)} stages, {MOMENTS[moment]}: {ends(last)}."
    return Drawing("variance_by_depth", "Variance by depth", caption, alt, data, figure)


def linear_fit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The positive line a + b k, k = 0..P-1, whose logarithm is nearest to that of the values (P,).

    Returns:
        The values of the line (P,).

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
    """The curve a e^{b k} whose logarithm is nearest to that of the values (P,).

    Returns:
        The values of the curve (P,).

    >>> exponential_fit(np.array([1.0, 2.0, 4.0])).round(2).tolist()
    [1.0, 2.0, 4.0]
    """
    k = np.arange(len(values))
    return np.exp(np.polyval(np.polyfit(k, np.log(values), 1), k))


def _claimed(claims: Sequence[Claim], arm: Arm) -> list[str]:
    """The stages over which the experiment claims a growth of the arm's variance."""
    return next(
        (
            quantity.labels
            for claim in claims
            for quantity in claim.quantities.values()
            if claim.rule in GROWTH and quantity.labels and (quantity.arm, quantity.metric) == (arm.name, METRIC)
        ),
        [],
    )


def _draw_fits(axes: Axes, arm: Arm, means: pd.Series, stages: list[str], claimed: list[str]) -> bool:
    """Draws both fits over the stages of a claim where all their means are positive; whether it did."""
    if not claimed or not set(claimed) <= set(means.index) or not (means.loc[claimed] > 0).all():
        return False
    at = [stages.index(stage) for stage in claimed]
    for fit, handle in zip((linear_fit, exponential_fit), FITS, strict=True):
        style, width = handle.get_linestyle(), handle.get_linewidth()
        axes.plot(at, fit(means.loc[claimed].to_numpy()), color=arm.look.color, linestyle=style, linewidth=width)
    return True


def _draw_published(axes: Axes, arm: Arm, stages: list[str]) -> bool:
    """Draws the published variances of the arm where there are any; whether there were."""
    found = [e for e in arm.published if e.metric == METRIC and e.labels and set(e.labels) <= set(stages)]
    for entry in found:
        x = [stages.index(label) for label in (entry.labels or [])[: len(entry.values)]]
        axes.plot(x, entry.values[: len(x)], "o", color=arm.look.color, markerfacecolor="none", markersize=9)
    return bool(found)


def _name_stages(axes: Axes, stages: list[str]) -> None:
    """Labels the horizontal axis, slanted where the names are long."""
    slanted: dict[str, Any] = {"rotation": 40, "ha": "right"} if sum(map(len, stages)) > 70 else {}
    step = math.ceil(len(stages) / MOST_NAMES)
    axes.set_xticks(range(0, len(stages), step), [plain(stage) for stage in stages[::step]], **slanted)
    axes.set_xlabel("stage, from the input x to the output")


DRAWINGS = (variance_by_depth,)
