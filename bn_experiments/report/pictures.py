"""Pictures: every drawing of a section, as a page holds it."""

from contextlib import suppress
from dataclasses import dataclass

import matplotlib
import pandas as pd

from bn_experiments.figures.drawing import STYLE, svg
from bn_experiments.records.quantities import NotMeasured
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
    found = []
    with matplotlib.rc_context(STYLE):
        for draw in (each for module in modules for each in getattr(module, "DRAWINGS", ())):
            with suppress(NotMeasured):
                drawing = draw(section.arms, section.claims)
                shown = {name: value for name, value in vars(drawing).items() if name != "figure"}
                found.append(Picture(**shown, svg=svg(drawing.figure)))
    return found
