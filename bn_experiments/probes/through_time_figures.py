"""Through time, drawn: the logarithm of the gradient's norm at each time step."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import MOMENTS, Arm, arms_in, by_moment
from bn_experiments.figures.drawing import INTERVALS, Drawing, legend, line, panels
from bn_experiments.figures.oracles import ORACLE, of_claims

QUANTITIES = {
    "through_time/log10_norm": "log10 of the gradient's norm at a time step",
    "through_time/rate": "growth of the squared gradient with every time step backwards",
    "through_time/log10_ratio": "powers of ten of the gradient that are left at an early time step",
}


def through_time(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The norm of the gradient at each time step, with the growth that theory gives it."""
    data, steps = by_moment(arms, "through_time", "log10_norm", "time_step")
    moment = data["moment"].iloc[-1]
    data = data[data["moment"] == moment]
    data = data.assign(number=[int(label) for label in data["time_step"]])
    figure, (axes,) = panels(2.9)
    drawn = arms_in(data, arms)
    for arm in drawn:
        line(axes, arm, data[data["arm"] == arm.name], "number", markers=len(steps) <= 12)
    rates = {
        name: float(rate)
        for quantity, oracle in of_claims(arms, claims, "through_time/rate", moment)
        for name, rate in zip(quantity.arms, oracle.reshape(-1), strict=True)
    }
    for name, rate in rates.items():
        _draw_theory(axes, data[data["arm"] == name], rate)
    axes.set_xlabel("time step t")
    axes.set_ylabel("log10 of the gradient's norm")
    legend(figure, drawn, [ORACLE] * bool(rates))
    dotted = " Dotted: the slope that theory has for wide networks, through the middle of each curve." if rates else ""
    caption = f"{INTERVALS.rstrip('.')}, {MOMENTS[moment]}; the gradient goes from the right to the left.{dotted}"
    firsts = data.groupby("arm", sort=False).head(1).to_dict("records")
    starts = "; ".join(f"{row['arm']} is at {row['mean']:.4g}" for row in firsts)
    alt = f"Line chart over {len(steps)} time steps; at the first one: {starts}."
    return Drawing("through_time", "The gradient through time", caption, alt, data.drop(columns="number"), figure)


def _draw_theory(axes: Axes, own: pd.DataFrame, rate: float) -> None:
    t = own["number"]
    line_of = own["mean"].mean() - rate / (2 * math.log(10)) * (t - t.mean())
    axes.plot(t, line_of, color="#111111", linestyle=(0, (1, 1.5)), linewidth=1.6, zorder=5)


DRAWINGS = (through_time,)
