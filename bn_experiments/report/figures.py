"""Figures: matplotlib's, each as an SVG that a page can hold, with the numbers that it shows."""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bn_experiments.records.quantities import NotMeasured
from bn_experiments.report.arms import Arm
from bn_experiments.report.contents import Section

WIDTH = 7.0  # inches
FONTS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"  # none wider than the one it is laid out with
STYLE: dict[Any, Any] = {
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.unicode_minus": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "bn_experiments",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}


@dataclass(frozen=True)
class Drawing:
    """A figure, with what stands beside it.

    Args:
        name: Of its file of numbers.
        title: In a line.
        caption: How to read it.
        alt: What it shows, for those who do not see it.
        data: The numbers that it shows, a row each.
        figure: Matplotlib's.
    """

    name: str
    title: str
    caption: str
    alt: str
    data: pd.DataFrame
    figure: Figure


@dataclass(frozen=True)
class Picture:
    """A drawing as a page holds it."""

    name: str
    title: str
    caption: str
    alt: str
    data: pd.DataFrame
    svg: str


def pictures(section: Section) -> list[Picture]:
    """Every figure of a section whose numbers were measured."""
    from bn_experiments.report import activity, depth, learning, scores

    drawings: Sequence[Callable[[Section], Drawing]] = (
        learning.loss_by_step,
        learning.curves_by_epoch,
        activity.at_start,
        activity.at_end,
        depth.variance,
        depth.gradients,
        scores.modes,
        scores.classes,
        scores.confusion,
    )
    found = []
    with matplotlib.rc_context(STYLE):
        for draw in drawings:
            with suppress(NotMeasured):
                drawing = draw(section)
                shown = {name: value for name, value in vars(drawing).items() if name != "figure"}
                found.append(Picture(**shown, svg=svg(drawing.figure)))
    return found


def svg(figure: Figure) -> str:
    """The figure as SVG, the same for the same figure, its text in the reader's own sans-serif."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's may have it
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"(?<=px )'DejaVu Sans'(, [^;\"]*)?", FONTS, buffer.getvalue())


def plain(text: str, longest: int = 28) -> str:
    """Text that matplotlib takes as it is: no formula, no hidden label, and no longer than a figure bears."""
    text = " ".join(str(text).split())
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    text = text.replace("$", r"\$")
    return f"\u200b{text}" if text.startswith("_") else text


def legend(figure: Figure, arms: Sequence[Arm], extra: Sequence[Line2D] = (), *, lines: bool = True) -> None:
    """One legend for all panels, above them."""
    handles = [
        Line2D(
            [], [], color=a.look.color, linestyle=a.look.dash if lines else "", marker="" if lines else a.look.marker
        )
        for a in arms
    ]
    labels = [plain(arm.name) for arm in arms] + [str(line.get_label()) for line in extra]
    figure.legend(
        [*handles, *extra],
        labels,
        loc="outside upper left",
        ncols=min(6, len(labels)),
        handlelength=2.6,
        columnspacing=1.6,
    )


def log_axis(axis: Any, low: float, high: float) -> None:
    """A logarithmic axis with plain numbers, enough of them where it spans little.

    Args:
        axis: axes.xaxis or axes.yaxis, whose scale is set.
        low: The least number on it, > 0.
        high: The largest.
    """
    name = axis.axis_name
    getattr(axis.axes, f"set_{name}scale")("log", nonpositive="clip")
    decades = len(str(int(high / low))) if low > 0 else 9
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades <= 2 else (1, 3) if decades <= 3 else (1,), numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def log_axis_for(axis: Any, data: pd.DataFrame) -> None:
    """A logarithmic axis that holds all means, and the upper ends of their intervals."""
    means = data["mean"][data["mean"] > 0]
    low, high = (means.min(), max(means.max(), data["high"].max())) if len(means) else (1.0, 10.0)
    log_axis(axis, low, high)
    getattr(axis.axes, f"set_{axis.axis_name}lim")(low / 1.7, high * 1.4)


def line(axes: Axes, arm: Arm, data: pd.DataFrame, x: str, *, markers: bool) -> None:
    """An arm's means with a band for their intervals."""
    marker = arm.look.marker if markers else ""
    axes.plot(data[x], data["mean"], color=arm.look.color, linestyle=arm.look.dash, marker=marker)
    if (data["n"] > 1).any():
        axes.fill_between(data[x], data["low"], data["high"], color=arm.look.color, alpha=0.18, linewidth=0)


def dots(
    axes: Axes, arm: Arm, data: pd.DataFrame, at: Sequence[float], *, hollow: bool = False, sideways: bool
) -> None:
    """An arm's means as markers, each with a bar for its interval."""
    face = "white" if hollow else arm.look.color
    error = [(data["mean"] - data["low"]).fillna(0), (data["high"] - data["mean"]).fillna(0)]
    kwargs: dict[str, Any] = {"xerr": error} if sideways else {"yerr": error}
    x, y = (data["mean"], at) if sideways else (at, data["mean"])
    axes.errorbar(x, y, fmt=arm.look.marker, color=arm.look.color, markerfacecolor=face, elinewidth=1, **kwargs)


def ends(data: pd.DataFrame, unit: str = "") -> str:
    """Where each arm's last point lies, for an alternative text."""
    last = data.groupby("arm", sort=False).tail(1)
    return "; ".join(f"{row['arm']} ends at {row['mean']:.4g}{unit}" for row in last.to_dict("records"))
