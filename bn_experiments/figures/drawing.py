"""Drawings: matplotlib figures with what stands beside them, and as SVG that a page can hold."""

import io
import re
import warnings
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

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
        name: The name of the file that holds its numbers, without the ending.
        title: The title, on one line.
        caption: How the figure is read.
        alt: What the figure shows, for readers who cannot see it.
        data: The numbers that the figure shows.
        figure: The figure itself.
    """

    name: str
    title: str
    caption: str
    alt: str
    data: pd.DataFrame
    figure: Figure


def svg(figure: Figure) -> str:
    """The figure as SVG, the same for the same figure, its text in the reader's own sans-serif."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's may have it
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"(?<=px )'DejaVu Sans'(, [^;\"]*)?", FONTS, buffer.getvalue())
