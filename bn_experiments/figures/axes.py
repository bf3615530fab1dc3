"""Axes: names, legends and logarithmic scales that read the same in every figure."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bn_experiments.figures.arms import Arm


def plain(text: str, longest: int = 28) -> str:
    """Text that matplotlib takes as it is: no formula, no hidden label, and not too long for a figure.

    >>> plain("a long name", longest=7)
    'a long…'
    """
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
        axis: The axis, axes.xaxis or axes.yaxis; its scale is set.
        low: The smallest number on it, > 0.
        high: The largest number on it.
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
