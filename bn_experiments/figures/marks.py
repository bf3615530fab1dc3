"""Marks: an arm's means in a figure, as a line with a band or as dots with bars."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from bn_experiments.figures.arms import Arm

INTERVALS = "Means over replicas with their 95% intervals."
PUBLISHED = Line2D([], [], color="#333333", linestyle="", marker="o", markerfacecolor="none", label="published")


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
