"""Tables of results, with one row for each cell and replica."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bn_experiments.records.results import FILE, read


def collect(folder: str | Path) -> pd.DataFrame:
    """The table of all finished cells below a folder, with one row for each cell and replica.

    The columns are folder, sweep (the folder above it), the groups (data, model, norm, optimizer, scheduler, trainer),
    settings (the overrides of other keys), seed, diverged, each metric by name, and config_hash.

    Args:
        folder: The folder, such as "outputs" or "outputs/grid".

    Returns:
        The table, which is empty if there is no result.
    """
    return frame(sorted(path.parent for path in Path(folder).rglob(FILE)))


def frame(folders: Iterable[Path]) -> pd.DataFrame:
    """The table of `collect` for the cells in these folders."""
    cells = []
    for folder in folders:
        result = read(folder)
        if result is None or result.status != "done":
            continue
        groups = {key: value for key, value in result.cell.items() if key != "overrides"}
        settings = " ".join(result.cell["overrides"])
        shared = {"folder": str(folder), "sweep": str(folder.parent), **groups, "settings": settings}
        cells.append((shared, result.seeds, result.diverged, result.metrics, result.config_hash))
    if not cells:
        return pd.DataFrame()
    columns: dict[str, list[Any]] = {}  # column by column, since a large grid has 100,000 rows
    for name in dict.fromkeys(key for shared, *_ in cells for key in shared):
        columns[name] = [shared.get(name) for shared, seeds, *_ in cells for _ in seeds]
    columns["seed"] = [seed for _, seeds, *_ in cells for seed in seeds]
    columns["diverged"] = [each for _, _, diverged, *_ in cells for each in diverged]
    for name in dict.fromkeys(name for *_, metrics, _ in cells for name in metrics):
        unknown = [math.nan]
        columns[name] = [v for _, seeds, _, metrics, _ in cells for v in metrics.get(name) or unknown * len(seeds)]
    columns["config_hash"] = [each for _, seeds, *_, each in cells for _ in seeds]
    return pd.DataFrame(columns)
