"""Activations, drawn: how they are spread before and after each norm."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import Arm, arms_in, joined
from bn_experiments.figures.drawing import Drawing, legend, panels, plain
from bn_experiments.records.quantities import probes
from bn_experiments.statistics.histograms import pooled

QUANTITIES = {
    "activations/mean": "mean of the activations",
    "activations/variance": "variance of the activations",
}
POINTS = {"norm_in": "into the norm", "norm_out": "out of the norm", "pre_activation": "into the activation"}
LAYERS = 3  # more would only repeat what three show
TAIL = 0.01  # the share of the values that may lie outside a panel


def at_start(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The activations of the initial networks; not measured where the first reading is a later one."""
    return _drawing(arms, 0)


def at_end(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The activations at the last reading; not measured where that is of the initial networks."""
    return _drawing(arms, -1)


def _drawing(arms: Mapping[str, Arm], moment: Literal[0, -1]) -> Drawing:
    data = joined(part for arm in arms.values() for part in _densities(arm, moment))
    epoch, layers = data["epoch"].max(), _layers(data)
    when = "initial networks" if epoch == 0 else f"after epoch {epoch}"
    return Drawing(
        "activations_start" if epoch == 0 else "activations_end",
        f"Activations, {when}",
        f"{_panels(data)} Densities over units, examples and replicas, each scaled to its peak; the outermost "
        f"{100 * TAIL:g}% of the values may lie outside a panel.",
        f"Histograms of the activations of {', '.join(layers)}, {when}: {_spread(data)}.",
        data,
        _figure(arms_in(data, arms), data, layers),
    )


def _panels(data: pd.DataFrame) -> str:
    """What the panels show, in words."""
    points = {point: text for point, text in POINTS.items() if point in set(data["point"])}
    if "norm_in" in points and "norm_out" not in points:
        points["pre_activation"] += ", as they leave the norm"
    text = f"The values in a layer (a row) on their way {'; '.join(points.values())} (a column)."
    with_norm = set(data[data["point"] == "norm_in"]["arm"])
    without = [arm for arm in dict.fromkeys(data["arm"]) if with_norm and arm not in with_norm]
    return text + (f" Without a norm ({', '.join(without)}) there is the last column alone." if without else "")


def _figure(arms: Sequence[Arm], data: pd.DataFrame, layers: list[str]) -> Figure:
    """A row of panels for each layer, a column for each point of it."""
    columns = [point for point in POINTS if point in set(data["point"])]
    figure, shown = panels(0.7 + 1.45 * len(layers), len(layers), len(columns))
    for i, layer in enumerate(layers):
        row = shown[i * len(columns) : (i + 1) * len(columns)]
        for axes, point in zip(row, columns, strict=True):
            own = data[(data["layer"] == layer) & (data["point"] == point)]
            _draw_densities(axes, arms, own)
            if len(own):
                axes.set_xlim(*_bulk(own))
            else:
                axes.set_visible(False)
            if axes is row[0] or not row[0].get_visible():
                axes.set_ylabel(plain(layer))
            axes.set_title(POINTS[point] if i == 0 else "")
            axes.set_xlabel("value" if i == len(layers) - 1 else "")
    legend(figure, arms)
    return figure


def _draw_densities(axes: Axes, arms: Sequence[Arm], data: pd.DataFrame) -> None:
    for arm in arms:
        own = data[data["arm"] == arm.name]
        if len(own):
            edges = np.append(own["left"], own["right"].iloc[-1])
            height = own["density"] / own["density"].max()
            axes.stairs(height, edges, color=arm.look.color, linestyle=arm.look.dash, linewidth=1.2)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(0, 1.08)


def _densities(arm: Arm, moment: Literal[0, -1]) -> Iterator[pd.DataFrame]:
    """The histogram of each point, summed over replicas.

    There is none where the initial networks were not measured (moment 0), or nothing was after them (moment -1).
    """
    arrays = probes(arm.folder)
    epochs = arrays.get("activations/epochs")
    if epochs is None or (epochs[moment] == 0) != (moment == 0):
        return
    by_replica, own_edges = (arrays[f"activations/{name}"][moment] for name in ("histogram", "edges"))  # (R, L, ...)
    summed = [pooled(by_replica[:, i], own_edges[:, i]) for i in range(by_replica.shape[1])]
    counts, edges = (np.stack(each) for each in zip(*summed, strict=True))  # (L, bins), (L, bins + 1)
    labels = arm.labels("activations")
    for i, label in enumerate(labels):
        layer, _, point = label.rpartition(".")
        if point not in POINTS or not counts[i].any() or _is_repeated(labels, counts, i):
            continue
        density = counts[i] / max(1, counts[i].sum()) / np.diff(edges[i])
        columns = {"left": edges[i][:-1], "right": edges[i][1:], "count": counts[i], "density": density}
        yield pd.DataFrame({"epoch": epochs[moment], "layer": layer, "point": point, "arm": arm.name, **columns})


def _is_repeated(labels: list[str], counts: NDArray, i: int) -> bool:
    """Whether what leaves the norm is what enters the activation, which is shown."""
    layer, _, point = labels[i].rpartition(".")
    other = f"{layer}.pre_activation"
    return point == "norm_out" and other in labels and bool((counts[i] == counts[labels.index(other)]).all())


def _layers(data: pd.DataFrame) -> list[str]:
    """The first layer, the one in the middle and the last."""
    layers = list(dict.fromkeys(data["layer"]))
    chosen = np.linspace(0, len(layers) - 1, min(LAYERS, len(layers))).round()
    return [layers[int(i)] for i in chosen]


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


DRAWINGS = (at_start, at_end)
