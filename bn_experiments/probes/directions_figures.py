"""Directions, drawn: the mean cosine between two examples, and the effective rank of a batch, by layer."""

from collections.abc import Mapping, Sequence

import pandas as pd

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import MOMENTS, Arm, arms_in, by_moment
from bn_experiments.figures.drawing import INTERVALS, Drawing, ends, legend, line, log_axis, panels
from bn_experiments.figures.oracles import ORACLE, of_claims

QUANTITIES = {"directions/cosine": "mean cosine of two examples", "directions/effective_rank": "effective rank"}


def directions(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The mean cosine and the effective rank at each layer, with what theory says of the cosine."""
    figure, shown = panels(2.9, columns=2)
    parts = []
    for axes, (metric, text) in zip(shown, QUANTITIES.items(), strict=True):
        quantity = metric.partition("/")[2]
        data, layers = by_moment(arms, "directions", quantity, "layer")
        moment = data["moment"].iloc[-1]
        data = data[data["moment"] == moment].assign(quantity=quantity)
        data["number"] = [int(label) for label in data["layer"]]
        parts.append(data)
        drawn = arms_in(data, arms)
        for arm in drawn:
            line(axes, arm, data[data["arm"] == arm.name], "number", markers=len(layers) <= 12)
        axes.set_xlabel("layer")
        axes.set_ylabel(text)
    theory = of_claims(arms, claims, "directions/cosine", str(moment))
    for quantity_of, oracle in theory:
        if oracle.ndim == 1 and len(quantity_of.arms) == 1:
            numbers = [int(label) for label in quantity_of.labels or range(1, len(oracle) + 1)]
            color = arms[quantity_of.arms[0]].look.color
            shown[0].plot(numbers, oracle, color="#111111", linestyle=(0, (1, 1.5)), linewidth=1.6, zorder=5)
            shown[0].plot(numbers[-1:], oracle[-1:], "o", color=color, markersize=3)
    log_axis(shown[1].yaxis, parts[1])
    legend(figure, drawn, [ORACLE] * bool(theory))
    data = pd.concat(parts, ignore_index=True).drop(columns="number")
    lost = " Dotted: what theory says of wide networks." if theory else ""
    caption = f"{INTERVALS.rstrip('.')}, {MOMENTS[moment]}; a cosine of 1 means that all examples look alike.{lost}"
    alt = f"Line charts over {len(layers)} layers; the cosine: {ends(parts[0])}, in the last layer."
    return Drawing("directions", "How far apart examples stay", caption, alt, data, figure)


DRAWINGS = (directions,)
