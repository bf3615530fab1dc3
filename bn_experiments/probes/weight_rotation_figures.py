"""Rotation, drawn: the angle by which a step turns each layer's weight, epoch by epoch."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import Arm, arms_in, joined, points
from bn_experiments.figures.drawing import INTERVALS, Drawing, ends, legend, line, log_axis, panels, plain
from bn_experiments.figures.oracles import ORACLE, of_claims
from bn_experiments.records.quantities import NotMeasured, probes

QUANTITIES = {
    "weight_rotation/angle": "angle of a step, radians",
    "weight_rotation/angle_of_units": "angle of a step by row, radians",
    "weight_rotation/length": "length of the weight",
}
MOST = 3  # layers that are shown, the first ones


def angle_by_epoch(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The angle of a step by epoch, of rows where a claim is about them, a panel for each of the first layers."""
    metric = "weight_rotation/angle_of_units"
    if not any(q.metric == metric for claim in claims for q in claim.quantities.values()):
        metric = "weight_rotation/angle"
    parts: list[pd.DataFrame] = []
    of_arms: list[str] = []
    for arm in arms.values():
        arrays = probes(arm.folder)
        if metric not in arrays or not np.isfinite(arrays[metric]).any():
            continue
        of_arms = of_arms or arm.labels("weight_rotation")
        for layer in [label for label in of_arms[:MOST] if label in arm.labels("weight_rotation")]:
            values = arrays[metric][:, :, arm.labels("weight_rotation").index(layer)].T  # (R, T)
            parts.append(points(values, arm=arm.name, layer=layer, epoch=arrays["weight_rotation/epochs"]))
    if not parts:
        raise NotMeasured("no step was seen")
    data = joined(parts)
    drawn = arms_in(data, arms)
    layers = list(dict.fromkeys(data["layer"]))
    figure, shown = panels(2.9, columns=len(layers), sharey=True)
    theory = [
        (q.labels or [str(q.label)] if q.labels or q.label else layers, oracle)
        for q, oracle in of_claims(arms, claims, metric)
        if oracle.ndim == 0
    ]
    for axes, layer in zip(shown, layers, strict=True):
        for arm in drawn:
            line(axes, arm, data[(data["arm"] == arm.name) & (data["layer"] == layer)], "epoch", markers=False)
        for labels, oracle in theory:
            if layer in labels:
                axes.axhline(float(oracle), color="#111111", linestyle=(0, (1, 1.5)), linewidth=1.6, zorder=5)
        axes.set_title(plain(layer))
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    log_axis(shown[0].yaxis, data)
    shown[0].set_ylabel("angle of a step, radians")
    legend(figure, drawn, [ORACLE] * bool(theory))
    dotted = " Dotted: what theory says." if theory else ""
    what = "rows of the weight" if metric.endswith("units") else "whole weights"
    caption = f"Root mean square over the steps of an epoch, of {what}. {INTERVALS}{dotted}"
    alt = f"Line charts of the angle of a step by epoch: {ends(data[data['layer'] == layers[0]])}, in {layers[0]}."
    return Drawing("weight_rotation", "How far a step turns the weights", caption, alt, data, figure)


DRAWINGS = (angle_by_epoch,)
