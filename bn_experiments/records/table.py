"""Tables of results, with one row for each cell and replica."""

from pathlib import Path

import pandas as pd

from bn_experiments.records.identity import arm_name
from bn_experiments.records.results import done_below
from bn_experiments.records.tuning import where


def collect(folder: str | Path) -> pd.DataFrame:
    """The table of all finished cells below a folder, with one row for each cell and replica.

    The columns are folder, sweep (the folder above it), the groups (data, model, norm, optimizer, scheduler, trainer),
    arm (the norm with the keys that were set, or the class of one's own), settings (the overrides of other keys), tuned
    (the values that were chosen of tuned keys), seed, diverged, each metric by name, and config_hash.

    Args:
        folder: The folder, such as "outputs" or "outputs/grid".

    Returns:
        The table, which is empty if there is no result.
    """
    rows = []
    for cell, result in done_below(Path(folder)).items():
        groups = {key: value for key, value in result.cell.items() if key != "overrides"}
        settings = " ".join(result.cell["overrides"])
        shared = {"folder": str(cell), "sweep": str(cell.parent), **groups, "arm": arm_name(result.cell, result.config)}
        shared |= {"settings": settings, "tuned": where(result.tuned)}
        for i, seed in enumerate(result.seeds):
            metrics = {name: values[i] for name, values in result.metrics.items()}
            own = {"seed": seed, "diverged": result.diverged[i], **metrics, "config_hash": result.config_hash}
            rows.append({**shared, **own})
    return pd.DataFrame(rows)
