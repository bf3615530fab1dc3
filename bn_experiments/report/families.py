"""Families: what claims say of several arms at once, such as of one for each batch size, in one figure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

import numpy as np
import pandas as pd

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import Arm, joined, looks, points
from bn_experiments.figures.drawing import INTERVALS, Drawing, dots, ends, legend, log_scale, panels, plain
from bn_experiments.figures.oracles import ORACLE, of_claims
from bn_experiments.records.identity import flat
from bn_experiments.records.quantities import NotMeasured, Quantity, measured

WIDE = 8  # times, from which on an axis is logarithmic


def family(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The first quantity of which the claims name several arms at once, against what tells these apart."""
    quantities = [q for claim in claims for q in claim.quantities.values() if len(q.arms) > 1 and {*q.arms} <= {*arms}]
    if not quantities:
        raise NotMeasured("no claim is about a family")
    metric = quantities[0].metric
    by_size = sorted(quantities, key=lambda q: len(q.arms))  # so that the largest family of a name stays
    series = {_named(q, arms): q for q in by_size if q.metric == metric}
    keys = {name: _key([arms[arm] for arm in q.arms]) for name, q in series.items()}
    key = next(iter(keys.values()))
    series = {name: q for name, q in series.items() if keys[name] == key}
    look = looks({name: str(arms[q.arms[0]].result.cell["norm"]) for name, q in series.items()})
    shown = {name: replace(arms[q.arms[0]], name=name, look=look[name]) for name, q in series.items()}
    at = {name: [_value(arms[arm], key) for arm in q.arms] for name, q in series.items()}
    parts = [points(_values(q, arms), arm=name, value=at[name]) for name, q in series.items()]
    data = joined(parts)
    figure, (axes,) = panels(3.1)
    for i, (name, arm) in enumerate(shown.items()):
        own = data[data["arm"] == name]
        shift = 1.02 ** (i - (len(shown) - 1) / 2)
        dots(axes, arm, own, [value * shift for value in own["value"]], sideways=False)
    drawn = [(_named(q, arms), oracle) for q, oracle in of_claims(arms, claims, metric) if q in series.values()]
    for name, oracle in drawn:
        axes.plot(at[name], np.broadcast_to(oracle, len(at[name])), color=look[name].color, linestyle=(0, (1, 1.5)))
    low, high = data["value"].min(), data["value"].max()
    if low > 0 and high >= WIDE * low:
        log_scale(axes.xaxis, low, high)
        axes.set_xticks(sorted(set(data["value"])))
    axes.set_xlabel(plain(key, longest=60))
    axes.set_ylabel(plain(metric, longest=60))
    legend(figure, list(shown.values()), [ORACLE] * bool(drawn), lines=False)
    theory = " Dotted: what theory says." if drawn else ""
    alt = f"Dots of {metric} against {key}: {ends(data)}, at the last value."
    return Drawing("family", f"{metric} by {key}", f"{INTERVALS}{theory}", alt, data, figure)


def _named(quantity: Quantity, arms: Mapping[str, Arm]) -> str:
    """The name of a family: what the names of its arms begin with, or their norm, with the label where it has one."""
    words = zip(*(arm.split("_") for arm in quantity.arms), strict=False)
    shared = [each[0] for each in takewhile(lambda each: len(set(each)) == 1, words)]
    name = "_".join(shared) or str(arms[quantity.arms[0]].result.cell["norm"])
    return f"{name}, {quantity.label}" if quantity.label else name


def _key(arms: Sequence[Arm]) -> str:
    """The key that tells the arms of a family apart by numbers; that of the data or the model, where several do.

    Raises:
        NotMeasured: There is none.
    """
    configs = [flat(arm.result.config) for arm in arms]
    keys = [key for key in configs[0] if len({repr(config.get(key)) for config in configs}) == len(arms)]
    keys = [key for key in keys if all(type(config[key]) in (int, float) for config in configs)]
    if not keys:
        raise NotMeasured("no number tells the arms apart")
    return min(keys, key=lambda key: (key.startswith("probes."), key))


def _value(arm: Arm, key: str) -> float:
    return float(flat(arm.result.config)[key])


def _values(quantity: Quantity, arms: Mapping[str, Arm]) -> np.ndarray[Any, Any]:
    """The values (R, P) of the seeds that all arms have."""
    tables = [
        pd.Series(measured(arms[arm].folder, quantity), index=arms[arm].result.seeds, name=i)
        for i, arm in enumerate(quantity.arms)
    ]
    return pd.concat(tables, axis=1, join="inner").to_numpy(dtype=np.float64)


DRAWINGS = (family,)
