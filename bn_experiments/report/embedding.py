"""Embedding: figures and their numbers as data URIs, without what no reader sees."""

import re
from urllib.parse import quote

from bn_experiments.figures.drawing import Drawing

SAFE = " !$'()*+,-./:;=?@[]_~{}|"  # what stands in an attribute of HTML, and in a URI there, as it is
LONG = re.compile(r"-?\d+\.\d{3,}")


def svg_uri(drawing: Drawing) -> str:
    """The figure as a data URI."""
    return f"data:image/svg+xml,{quote(shortened(drawing.svg), safe=SAFE)}"


def csv_uri(drawing: Drawing) -> str:
    """The figure's numbers as a data URI."""
    table = drawing.data.to_csv(index=False, float_format="%.6g")
    return f"data:text/csv;charset=utf-8,{quote(table, safe=',;:+()[]')}"


def shortened(svg: str) -> str:
    r"""An SVG figure with coordinates to a hundredth of a point, without names that nothing refers to, and metadata.

    >>> shortened('<g id="axes_1">\n <path id="m1" d="M 1.23456 2"/>\n <use x="0.5" href="#m1"/></g>')
    '<g><path id="m1" d="M 1.23 2"/><use x="0.5" href="#m1"/></g>'
    """
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    named = set(re.findall(r"#([^\"')]+)", svg))

    def tag(found: re.Match[str]) -> str:
        text = re.sub(r' id="([^"]*)"', lambda name: name[0] if name[1] in named else "", found[0])
        text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text)
        text = re.sub(r' (d|x|y|transform)="[^"]*"', lambda value: LONG.sub(_hundredth, value[0]), text)
        return re.sub(r"\s*\n\s*", " ", text)

    return re.sub(r">\s*\n\s*<", "><", re.sub(r"<[^>]+>", tag, svg))


def _hundredth(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
