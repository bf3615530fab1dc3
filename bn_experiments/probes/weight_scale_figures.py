"""Scale, drawn: how far each arm's layers are from invariance under a scaling of their weights."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import MOMENTS, Arm, arms_in, joined, measured_in, points
from bn_experiments.figures.drawing import INTERVALS, Drawing, dots, panels, plain

QUANTITIES = {
    "weight_scale/loss_change": "change of the loss by a scaled weight",
    "weight_scale/gradient_change": "change of a |g(a w)| / |g(w)|",
    "weight_scale/radial": "cosine of weight and gradient",
    "weight_scale/radial_of_units": "cosine of weight and gradient, by row",
    "weight_scale/step_growth": "growth of |w|^2 beside that of a step at right angles",
}
SHOWN = {
    "gradient_change": "|a |g(a w)| / |g(w)| - 1|",
    "radial": "|cos(w, g)|",
    "radial_of_units": "|cos(w, g)| of rows",
}
SMALLEST = 1e-16  # drawn; what is smaller is a rounding error
KEY = [
    Line2D([], [], color="#333333", linestyle="", marker="o", markerfacecolor=face, label=label)
    for face, label in (("#333333", "layer"), ("white", "the last layer, which no norm follows"))
]


def scale_by_arm(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The distances from invariance of every layer, a row for each arm, at the first reading."""
    moment = "start" if any(True for _ in measured_in(arms, "weight_scale/radial", moment="start")) else "end"
    data = joined(
        points(
            np.maximum(np.abs(values), SMALLEST),
            within=(SMALLEST, np.inf),
            quantity=quantity,
            arm=arm.name,
            layer=arm.labels("weight_scale"),
            is_last=[*[False] * (values.shape[1] - 1), True],
        )
        for quantity in SHOWN
        for arm, values in measured_in(arms, f"weight_scale/{quantity}", moment=moment)
    )
    drawn = arms_in(data, arms)
    figure, shown = panels(1.3 + 0.26 * len(drawn), columns=len(SHOWN), sharey=True)
    for axes, (quantity, text) in zip(shown, SHOWN.items(), strict=True):
        own = data[data["quantity"] == quantity]
        for i, arm in enumerate(drawn):
            for is_last in (False, True):
                rows = own[(own["arm"] == arm.name) & (own["is_last"] == is_last)]
                dots(axes, arm, rows, [i] * len(rows), hollow=is_last, sideways=True)
        axes.set_xscale("log")
        axes.set_xlim(SMALLEST / 5, max(10.0, own["mean"].max() * 5))
        axes.set_xticks([1e-15, 1e-10, 1e-5, 1], ["1e-15", "1e-10", "1e-5", "1"])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(text)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
    shown[0].set_yticks(range(len(drawn)), [plain(arm.title, longest=40) for arm in drawn])
    shown[0].set_ylim(len(drawn) - 0.5, -0.5)
    figure.legend(KEY, [str(each.get_label()) for each in KEY], loc="outside upper left", ncols=2)
    largest = data[~data["is_last"] & (data["quantity"] == "gradient_change")].groupby("arm", sort=False)["mean"].max()
    found = "; ".join(f"{name} {value:.2g}" for name, value in largest.items())
    caption = f"{INTERVALS.rstrip('.')}, {MOMENTS[moment]}; theory says 0 for every layer that a norm follows."
    alt = f"Dot plot of distances from invariance. The gradient's, at most: {found}."
    return Drawing("weight_scale", "Invariance under a scaling of the weights", caption, alt, data, figure)


DRAWINGS = (scale_by_arm,)
