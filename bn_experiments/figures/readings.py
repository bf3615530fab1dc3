"""Readings: what a probe measured of each arm, as a table of estimates at the start and at the end."""

from collections.abc import Mapping

import pandas as pd

from bn_experiments.figures.arms import Arm, points
from bn_experiments.records.quantities import NotMeasured, axis_labels, probes

MOMENTS = {"start": "initial networks", "end": "after the last epoch"}


def by_moment(arms: Mapping[str, Arm], probe: str, quantity: str, axis: str) -> tuple[pd.DataFrame, list[str]]:
    """The estimates of a quantity at every moment, and the labels of its axis.

    Args:
        arms: The arms by name.
        probe: The name of the probe.
        quantity: A quantity (R, L) that the probe measured.
        axis: The name of the axis L, such as layer.

    Returns:
        Rows of moment, arm, label (under the name of the axis), mean, low, high and n; and the labels of the arm that
        has most of them, followed by those that only other arms have.

    Raises:
        NotMeasured: No arm has the quantity.
    """
    parts, labels = [], []
    for moment in MOMENTS:
        for arm in arms.values():
            arrays = probes(arm.folder)
            try:
                values = arm.measured(f"{probe}/{quantity}", moment=moment)
            except NotMeasured:
                continue
            if moment == "end" and len(arrays[f"{probe}/epochs"]) == 1 and arrays[f"{probe}/epochs"][0] == 0:
                continue  # the only reading is the start's
            labels.append(axis_labels(arrays, probe))
            parts.append(points(values, moment=moment, arm=arm.name, **{axis: labels[-1]}))
    if not parts:
        raise NotMeasured(f"{probe} was not measured")
    labels.sort(key=len, reverse=True)
    return pd.concat(parts, ignore_index=True), list(dict.fromkeys(label for each in labels for label in each))
