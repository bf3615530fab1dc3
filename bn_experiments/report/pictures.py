"""Pictures: every drawing of a section, as a page holds it."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType

import matplotlib
import pandas as pd

from bn_experiments.figures.drawing import STYLE, svg
from bn_experiments.records.quantities import NotMeasured
from bn_experiments.refusal import one_line
from bn_experiments.report import learning
from bn_experiments.report.contents import Section
from bn_experiments.report.probe_figures import figures_modules


@dataclass(frozen=True)
class Picture:
    """A drawing with its figure as SVG (see `Drawing`)."""

    name: str
    title: str
    caption: str
    alt: str
    data: pd.DataFrame
    svg: str


def pictures(section: Section) -> list[Picture]:
    """Every drawing of a section whose numbers were measured: how it learned, then what its probes measured."""
    modules = [learning, *figures_modules(section.arms.values())]
    with matplotlib.rc_context(STYLE):
        return [picture for module in modules for picture in _drawn(module, section)]


def _drawn(module: ModuleType, section: Section) -> Iterator[Picture]:
    """The drawings of a module; those that cannot be made are left out, after a line that says why."""
    try:
        for draw in getattr(module, "DRAWINGS", ()):
            with suppress(NotMeasured):
                drawing = draw(section.arms, section.claims)
                shown = {name: value for name, value in vars(drawing).items() if name != "figure"}
                yield Picture(**shown, svg=svg(drawing.figure))
    except (Exception, SystemExit) as error:  # a user's own module may raise anything
        print(f"{module.__name__}: not drawn ({one_line(error)})", file=sys.stderr)
