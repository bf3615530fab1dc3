"""Comparison records: by which baseline, and at which looks, the cells of a sweep's folder are compared."""

import json
from collections.abc import Sequence
from pathlib import Path

from bn_experiments.records import results
from bn_experiments.records.identity import BASELINE
from bn_experiments.statistics.sizes import parsed
from bn_experiments.system.files import write_whole

FILE = "comparison.json"


def write(folder: Path, baseline: str, looks: Sequence[int]) -> None:
    """Writes `comparison.json` into a sweep's folder."""
    write_whole(folder / FILE, json.dumps({"baseline": baseline, "looks": [*looks]}) + "\n")


def baseline_in(folder: Path) -> str:
    """The baseline that the last command on a sweep's folder chose; none if there is no record of it."""
    try:
        return str(json.loads((folder / FILE).read_text())["baseline"])
    except (OSError, ValueError, KeyError, TypeError):
        return BASELINE


def looks_in(folder: Path) -> tuple[int, ...]:
    """The looks at which a sweep's folder is judged, as its file says, or else the runs of its cells; else none.

    Where runs were trained for other looks, they are the most numerous ones.
    """
    if looks := _looks(folder / FILE):
        return looks
    runs = [run for cell in results.cells_below(folder) for run in (cell, *results.further(cell))]
    return max((_looks(run / results.FILE) for run in runs), key=lambda looks: (len(looks), looks), default=())


def _looks(file: Path) -> tuple[int, ...]:
    try:
        return parsed(json.loads(file.read_text())["looks"]) or ()
    except (OSError, ValueError, KeyError, TypeError):
        return ()
