"""Families: what claims say of several arms at once, such as of one for each batch size, in one figure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import Arm, joined, looks, points
from bn_experiments.figures.drawing import INTERVALS, Drawing, dots, ends, legend, log_scale, panels, plain
from bn_experiments.figures.oracles import ORACLE, of_claims
from bn_experiments.records.identity import flat
from bn_experiments.records.quantities import NotMeasured, Quantity, measured

MOST = 3  # metrics that are shown
WIDE = 8  # times, from which on an axis is logarithmic


def family(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """What claims say of several arms at once, against what tells these apart, a panel for each metric."""
    families = [q for claim in claims for q in claim.quantities.values() if len(q.arms) > 1 and {*q.arms} <= {*arms}]
    metrics = list(dict.fromkeys(q.metric for q in families))[:MOST]
    shown = {metric: found for metric in metrics if (found := _family(metric, families, arms))}
    if not shown:
        raise NotMeasured("no claim is about a family that a number tells apart")
    norms = {
        name: str(arms[q.arms[0]].result.cell["norm"]) for each in shown.values() for name, q in each.series.items()
    }
    look = looks(norms)
    figure, panes = panels(3.1, columns=len(shown))
    parts, legends, has_theory = [], {}, False
    for axes, (metric, each) in zip(panes, shown.items(), strict=True):
        factor = 100 if next(iter(each.series.values())).is_of_accuracies else 1
        data = joined(
            points(factor * _values(q, arms), arm=name, value=each.at[name]) for name, q in each.series.items()
        )
        for i, (name, q) in enumerate(each.series.items()):
            legends[name] = arm = replace(arms[q.arms[0]], name=name, look=look[name])
            own, shift = data[data["arm"] == name], 1.02 ** (i - (len(each.series) - 1) / 2)
            dots(axes, arm, own, [value * shift for value in own["value"]], sideways=False)
        for q, oracle in of_claims(arms, claims, metric):
            if q in each.series.values():
                name, has_theory = _named(q, arms), True
                line = factor * np.broadcast_to(oracle, len(each.at[name]))
                axes.plot(each.at[name], line, color=look[name].color, linestyle=(0, (1, 1.5)))
        low, high = data["value"].min(), data["value"].max()
        if low > 0 and high >= WIDE * low:
            log_scale(axes.xaxis, low, high)
            axes.set_xticks(sorted(set(data["value"])))
        axes.set_xlabel(plain(each.key, longest=60))
        axes.set_ylabel(plain(f"{metric}, %" if factor > 1 else metric, longest=60))
        parts.append(data.assign(metric=metric))
    legend(figure, list(legends.values()), [ORACLE] * has_theory, lines=False)
    theory = " Dotted: what theory says." if has_theory else ""
    first, key = next(iter(shown)), next(iter(shown.values())).key
    alt = f"Dots of {' and '.join(shown)} against {key}: {ends(parts[0])}, at the last value, of {first}."
    title = f"{', '.join(shown)} by {key}"
    return Drawing("family", title, f"{INTERVALS}{theory}", alt, joined(parts), figure)


class _Family(NamedTuple):
    """The families of a metric, the arms of each of which one key tells apart.

    Args:
        key: The key.
        series: The quantity of each family, by its name.
        at: The values of the key in the arms of each family, by its name.
    """

    key: str
    series: dict[str, Quantity]
    at: dict[str, list[float]]


def _family(metric: str, families: Sequence[Quantity], arms: Mapping[str, Arm]) -> _Family | None:
    """The families of a metric that the key of the first one tells apart; None where no number does."""
    by_size = sorted(families, key=lambda q: len(q.arms))  # so that the largest family of a name stays
    series = {_named(q, arms): q for q in by_size if q.metric == metric}
    keys = {name: _key([arms[arm] for arm in q.arms]) for name, q in series.items()}
    key = next(iter(keys.values()))
    if key is None:
        return None
    series = {name: q for name, q in series.items() if keys[name] == key}
    at = {name: [_value(arms[arm], key) for arm in q.arms] for name, q in series.items()}
    return _Family(key, series, at)


def _named(quantity: Quantity, arms: Mapping[str, Arm]) -> str:
    """The name of a family: what the names of its arms begin with, or their norm, with the label where it has one."""
    words = zip(*(arm.split("_") for arm in quantity.arms), strict=False)
    shared = [each[0] for each in takewhile(lambda each: len(set(each)) == 1, words)]
    name = "_".join(shared) or str(arms[quantity.arms[0]].result.cell["norm"])
    return f"{name}, {quantity.label}" if quantity.label else name


def _key(arms: Sequence[Arm]) -> str | None:
    """The key that tells the arms of a family apart by numbers; that of the data or the model, where several do."""
    configs = [flat(arm.result.config) for arm in arms]
    keys = [key for key in configs[0] if len({repr(config.get(key)) for config in configs}) == len(arms)]
    keys = [key for key in keys if all(type(config[key]) in (int, float) for config in configs)]
    return min(keys, key=lambda key: (key.startswith("probes."), key), default=None)


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
