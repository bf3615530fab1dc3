"""Activity: how the activations are spread before and after each norm."""

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bn_experiments.records.quantities import NotMeasured, axis_labels, probes
from bn_experiments.report.arms import Arm
from bn_experiments.report.contents import Section
from bn_experiments.report.figures import WIDTH, Drawing, legend, plain

POINTS = {"norm_in": "into the norm", "norm_out": "out of the norm", "pre_activation": "into the activation"}
COLUMNS = ["epoch", "layer", "point", "arm", "left", "right", "count", "density"]
LAYERS = 3  # more would say the same again
TAIL = 0.01  # of the values may lie outside a panel


def at_start(section: Section) -> Drawing:
    """Of the initial networks; not measured where the last reading is theirs."""
    return _drawing(section, 0)


def at_end(section: Section) -> Drawing:
    """At the last reading."""
    return _drawing(section, -1)


def _drawing(section: Section, moment: Literal[0, -1]) -> Drawing:
    parts = [part for arm in section.arms.values() if len(part := _densities(arm, moment))]
    if not parts:
        raise NotMeasured("activations were not measured then")
    data = pd.concat(parts, ignore_index=True)
    rows, columns = _layers(data), [point for point in POINTS if point in set(data["point"])]
    figure = Figure(figsize=(WIDTH, 0.7 + 1.45 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    arms = [arm for arm in section.arms.values() if arm.name in set(data["arm"])]
    for i, layer in enumerate(rows):
        for j, point in enumerate(columns):
            axes = panels[i, j]
            own = data[(data["layer"] == layer) & (data["point"] == point)]
            for arm in arms:
                one = own[own["arm"] == arm.name]
                if len(one):
                    edges = np.append(one["left"], one["right"].iloc[-1])
                    height = one["density"] / one["density"].max()
                    axes.stairs(height, edges, color=arm.look.color, linestyle=arm.look.dash, linewidth=1.2)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.set_ylim(0, 1.08)
            if len(own):
                axes.set_xlim(*_bulk(own))
            else:
                axes.set_visible(False)
            if j == 0 or not panels[i, 0].get_visible():
                axes.set_ylabel(plain(layer))
            axes.set_title(POINTS[point] if i == 0 else "")
            axes.set_xlabel("value" if i == len(rows) - 1 else "")
    legend(figure, arms)
    epoch = data["epoch"].max()
    when = "initial networks" if epoch == 0 else f"after epoch {epoch}"
    return Drawing(
        "activations_start" if epoch == 0 else "activations_end",
        f"Activations, {when}",
        "Densities over units, examples and replicas, each scaled to its peak; the outermost "
        f"{100 * TAIL:g}% of the values may lie outside a panel.",
        f"Histograms of the activations of {', '.join(rows)}, {when}: {_spread(data)}.",
        data,
        figure,
    )


def _densities(arm: Arm, moment: Literal[0, -1]) -> pd.DataFrame:
    """Each point's histogram, summed over replicas; none where this moment was not measured, or is told elsewhere."""
    arrays = probes(arm.folder)
    epochs = arrays.get("activations/epochs", np.array([]))
    if not len(epochs) or (moment == 0 and epochs[0] != 0) or (moment == -1 and epochs[-1] == 0):
        return pd.DataFrame(columns=COLUMNS)
    counts = arrays["activations/histogram"][moment].sum(axis=0)  # (L, bins)
    edges = arrays["activations/edges"][moment][0]  # (L, bins + 1), the same for all replicas
    labels = axis_labels(arrays, "activations")
    parts = []
    for i, label in enumerate(labels):
        layer, _, point = label.rpartition(".")
        if point not in POINTS or not counts[i].any() or _is_repeated(labels, counts, i):
            continue
        density = counts[i] / max(1, counts[i].sum()) / np.diff(edges[i])
        columns = {"left": edges[i][:-1], "right": edges[i][1:], "count": counts[i], "density": density}
        parts.append(
            pd.DataFrame({"epoch": epochs[moment], "layer": layer, "point": point, "arm": arm.name, **columns})
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def _is_repeated(labels: list[str], counts: np.ndarray, i: int) -> bool:
    """Whether what leaves the norm is what enters the activation, which is shown."""
    layer, _, point = labels[i].rpartition(".")
    other = f"{layer}.pre_activation"
    return point == "norm_out" and other in labels and bool((counts[i] == counts[labels.index(other)]).all())


def _layers(data: pd.DataFrame) -> list[str]:
    """The first layer, the one in the middle and the last."""
    layers = list(dict.fromkeys(data["layer"]))
    chosen = (
        {round(i * (len(layers) - 1) / (LAYERS - 1)) for i in range(LAYERS)}
        if len(layers) > LAYERS
        else range(len(layers))
    )
    return [layers[i] for i in sorted(chosen)]


def _bulk(own: pd.DataFrame) -> tuple[float, float]:
    """The range that holds all but `TAIL` of each arm's values."""
    bounds = []
    for _, rows in own.groupby("arm", sort=False):
        share = rows["count"].cumsum() / max(1, rows["count"].sum())
        inside = rows[(share > TAIL / 2) & (share.shift(fill_value=0) < 1 - TAIL / 2)]
        bounds += [inside["left"].min(), inside["right"].max()]
    low, high = np.nanmin(bounds), np.nanmax(bounds)
    return float(low - 0.02 * (high - low)), float(high + 0.02 * (high - low))


def _spread(data: pd.DataFrame) -> str:
    """Each arm's standard deviation into the last layer's activation, from the histogram."""
    found = []
    layer = data["layer"].iloc[-1]
    for arm, rows in data[(data["layer"] == layer) & (data["point"] == "pre_activation")].groupby("arm", sort=False):
        middle, weight = (rows["left"] + rows["right"]) / 2, rows["count"] / max(1, rows["count"].sum())
        deviation = float((weight * (middle - (weight * middle).sum()) ** 2).sum()) ** 0.5
        found.append(f"{arm} has a standard deviation of {deviation:.3g} into the activation of {layer}")
    return "; ".join(found) or "see the data"
