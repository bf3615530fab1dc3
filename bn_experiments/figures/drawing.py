"""Drawings: figures with what stands beside them, and the panels, axes, legends and marks that they share."""

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bn_experiments.figures.arms import Arm

WIDTH = 7.0  # inches, of a column of the page
DOTS = 150  # for each inch of an image
ROW, KEY = 100, 8  # letters that a row of a legend holds at that width, and those that a key takes
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
INTERVALS = "Means over replicas with their 99% intervals."
PUBLISHED = Line2D([], [], color="#333333", linestyle="", marker="o", markerfacecolor="none", label="published")


@dataclass
class Drawing:
    """A figure, with what stands beside it.

    Args:
        name: The name of the file that holds its numbers, without the ending.
        title: The title, on one line.
        caption: How the figure is read.
        alt: What the figure shows, for readers who cannot see it.
        data: The numbers that the figure shows.
        figure: The figure itself.

    Attributes:
        svg: The figure as text, the same for the same figure, in the reader's own sans-serif.
        wide: Whether the figure is wider than a column of the page.
    """

    name: str
    title: str
    caption: str
    alt: str
    data: pd.DataFrame
    figure: Figure

    def __post_init__(self) -> None:
        self.wide = bool(self.figure.get_figwidth() > WIDTH)
        buffer = io.StringIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's may have it
            self.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        self.svg = re.sub(r"(?<=px )'DejaVu Sans'(, [^;\"]*)?", FONTS, buffer.getvalue())

    def png(self) -> tuple[bytes, tuple[int, int]]:
        """The figure as an image in the layout of the SVG, the same for the same figure; its width and height."""
        self.figure.set_layout_engine(
            "none"
        )  # the panels stay where they are; to lay them out takes as long as to draw
        self.figure.set_dpi(DOTS)
        canvas, buffer = FigureCanvasAgg(self.figure), io.BytesIO()
        with matplotlib.rc_context(STYLE):
            canvas.print_png(buffer, metadata={"Software": None})
        return buffer.getvalue(), canvas.get_width_height()


def panels(
    height: float, rows: int = 1, columns: int = 1, *, sharey: bool = False, width: float = WIDTH
) -> tuple[Figure, list[Axes]]:
    """A figure as wide as a column of the page, or `width` inches, `height` inches high; and its panels, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, sharey=sharey, squeeze=False).flat)


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
        Line2D([], [], color=look.color, linestyle=look.dash)
        if lines
        else Line2D([], [], color=look.color, linestyle="", marker=look.marker)
        for look in (arm.look for arm in arms)
    ]
    labels = [plain(arm.title, longest=40) for arm in arms] + [str(line.get_label()) for line in extra]
    columns = next(count for count in range(min(6, len(labels)), 0, -1) if count == 1 or _row(labels, count) <= ROW)
    figure.legend(
        [*handles, *extra], labels, loc="outside upper left", ncols=columns, handlelength=2.6, columnspacing=1.6
    )


def _row(labels: Sequence[str], columns: int) -> int:
    """The letters that a row of a legend is as wide as, which is filled column by column."""
    rows, longer = divmod(len(labels), columns)  # the first columns have a row more
    ends = [i * rows + min(i, longer) for i in range(columns + 1)]
    return sum(KEY + max(map(len, labels[start:end])) for start, end in pairwise(ends))


def log_scale(axis: Any, low: float, high: float) -> None:
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


def log_axis(axis: Any, data: pd.DataFrame) -> None:
    """A logarithmic axis that holds all means, and the upper ends of their intervals."""
    means = data["mean"][data["mean"] > 0]
    low, high = (means.min(), max(means.max(), data["high"].max())) if len(means) else (1.0, 10.0)
    log_scale(axis, low, high)
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


def dots_in_rows(
    axes: Axes, arms: Sequence[Arm], data: pd.DataFrame, column: str, names: list[str], *, spread: float
) -> None:
    """A row for each name, from above, with the dots of all arms.

    Args:
        axes: The panel.
        arms: The arms.
        data: The estimates of the arms.
        column: The column of the data that holds the names.
        names: The names.
        spread: The share of a row's height that the arms take.
    """
    for i, arm in enumerate(arms):
        own = data[data["arm"] == arm.name]
        offset = (i - (len(arms) - 1) / 2) * spread / max(2, len(arms))
        dots(axes, arm, own, [names.index(name) + offset for name in own[column]], sideways=True)
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def ends(data: pd.DataFrame, unit: str = "") -> str:
    """Where each arm's last point lies, for an alternative text."""
    last = data.groupby("arm", sort=False).tail(1)
    return "; ".join(f"{row['arm']} ends at {row['mean']:.4g}{unit}" for row in last.to_dict("records"))
