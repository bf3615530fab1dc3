"""Rates: what each arm makes of the values that were tried of a tuned key, and where it is best."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import PERCENT, Arm, arms_in, joined, loss_unit, points
from bn_experiments.figures.drawing import Drawing, dots, legend, line, log_scale, panels, plain
from bn_experiments.records import tuning
from bn_experiments.records.identity import BASELINE, is_number
from bn_experiments.records.quantities import NotMeasured
from bn_experiments.records.tuning import Tuning
from bn_experiments.statistics.largest import largest_in_words, largest_that_train

PANELS = {"val/acc": ("validation accuracy, %", 100), "val/loss": ("validation loss", 1)}
CHOSEN = Line2D([], [], color="#333333", linestyle="", marker="o", markersize=9, markerfacecolor="none", label="chosen")
WIDE = 8  # times, from which on an axis is logarithmic

# the tried values of a key with their points, the other keys at what was chosen; all points where they were searched
Slice = list[tuple[float, int]]


def by_value(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """Validation accuracy and loss of each arm against the tuned key, with the chosen value."""
    key, tuned = _tuned(arms)
    searched = _is_searched(arms, tuned)
    parts = []
    for metric, (_, factor) in PANELS.items():
        for name, (record, tried) in tuned.items():
            values = factor * _numbers(record, metric, tried)
            within = PERCENT if metric.endswith("acc") else (0.0, np.inf)
            at = [value for value, _ in tried]
            parts.append(points(values, within=within, key=key, metric=metric, arm=name, value=at))
    data = joined(parts)
    drawn = arms_in(data, arms)
    figure, axes = panels(3.1, columns=2)
    for panel, (metric, (label, _)) in zip(axes, PANELS.items(), strict=True):
        shown = data[(data["metric"] == metric)]
        for arm in drawn:
            own = shown[shown["arm"] == arm.name]
            if searched:
                dots(panel, arm, own, own["value"].tolist(), sideways=False)
            else:
                line(panel, arm, own, "value", markers=True)
            record, tried = tuned[arm.name]
            best = own.iloc[[[i for _, i in tried].index(record.chosen)]]
            panel.plot(best["value"], best["mean"], "o", markersize=9, markerfacecolor="none", color=arm.look.color)
        _value_axis(panel, key, shown)
        unit = loss_unit(drawn) if metric.endswith("loss") else ""
        panel.set_ylabel(", ".join(filter(None, (label, unit))))
        if metric.endswith("loss") and (shown["mean"] > 0).all():
            log_scale(panel.yaxis, shown["mean"].min(), shown["mean"].max())
    legend(figure, drawn, [CHOSEN])
    caption = (
        f"What was tried of {key}: means over {_seeds(tuned)} with 99% intervals, after the last epoch. A replica that "
        "diverged counts at chance, and has no loss. The circles are what was chosen, by validation accuracy. "
    )
    if searched:
        others = [other for other in next(iter(tuned.values()))[0].point if other != key]
        caption += "Each point was proposed by a search from those before it, as many in every arm"
        caption += f"; they differ in {', '.join(others)} too." if others else "."
    else:
        trained = "; ".join(f"{name} {text}" for name, text in _largest_that_train(arms, key, tuned).items())
        caption += (
            f"A replica trains, with the 99% interval of the largest value: {trained}; it trains where it gains "
            "at least half of what the best arm gains over chance."
        )
    best_of = "; ".join(f"{name} is best at {record.point[key]:g}" for name, (record, _) in tuned.items())
    return Drawing("by_tuned_value", f"Each arm by {key}", caption, f"Line charts: {best_of}.", data, figure)


def difference_by_value(arms: Mapping[str, Arm], claims: Sequence[Claim]) -> Drawing:
    """The paired difference in validation accuracy at the same value, beside that of each arm at its best."""
    key, tuned = _tuned(arms)
    if _is_searched(arms, tuned):
        raise NotMeasured("a search tries other values in every arm")
    baseline = BASELINE if BASELINE in tuned else next(iter(tuned))
    parts = []
    for name in tuned:
        if name == baseline:
            continue
        at_same = _at_same_values(tuned[name], tuned[baseline])
        parts.append(points(100 * at_same.to_numpy(), at="the same value", arm=name, value=at_same.columns))
        if pairs := _judged(arms[name], arms[baseline]):
            at_best = 100 * np.array([[one - two] for one, two in pairs])
            parts.append(points(at_best, at="each arm's best", arm=name, value=np.nan))
    data = joined(parts)
    drawn = arms_in(data, arms)
    figure, (left, right) = panels(2.9, columns=2, sharey=True)
    for i, arm in enumerate(drawn):
        for place, rows in data[data["arm"] == arm.name].groupby("at"):
            if place == "the same value":
                line(left, arm, rows, "value", markers=True)
            else:
                dots(right, arm, rows, [i] * len(rows), sideways=False)
    for panel in (left, right):
        panel.axhline(0, color="#333333", linewidth=0.8)
    _value_axis(left, key, data.dropna(subset="value"))
    left.set_ylabel(f"difference to {plain(baseline)}, points")
    right.set_xticks(range(len(drawn)), [plain(arm.name) for arm in drawn])
    right.set_xlim(-0.7, len(drawn) - 0.3)
    right.set_xlabel("each arm at its best")
    legend(figure, drawn)
    caption = (
        f"Paired differences in validation accuracy to {baseline}, with 99% intervals, not corrected for their number. "
        f"Left: at the same {key}, {_seeds(tuned)} that tune. Right: each arm at the value that was chosen for it, "
        "with the seeds that are judged."
    )
    alt = "; ".join(
        f"{row['arm']} at its best {row['mean']:+.3g} points" for row in data[data["value"].isna()].to_dict("records")
    )
    title = f"The difference at the same {key}, and at each arm's best"
    return Drawing("difference_by_tuned_value", title, caption, f"Line chart and dots: {alt}.", data, figure)


def _tuned(arms: Mapping[str, Arm]) -> tuple[str, dict[str, tuple[Tuning, Slice]]]:
    """The first numeric key that was tuned, and for each arm its record with the points that differ in it alone.

    Raises:
        NotMeasured: No arm was tuned so.
    """
    records = {name: record for name, arm in arms.items() if arm.result.tuned and (record := tuning.read(arm.folder))}
    for key in dict.fromkeys(key for record in records.values() for key in record.point):
        whole = _is_searched(arms, records)
        found = {name: (record, _slice(record, key, whole)) for name, record in records.items()}
        found = {name: (record, tried) for name, (record, tried) in found.items() if len(tried) > 1}
        if found:
            return key, found
    raise NotMeasured("no number was tuned")


def _is_searched(arms: Mapping[str, Arm], tuned: Collection[str]) -> bool:
    """Whether the points of the arms were proposed one after another (see `config.search`)."""
    return any("trials" in (arms[name].result.config.get("tune") or {}) for name in tuned)


def _slice(record: Tuning, key: str, whole: bool) -> Slice:
    def others(point: Mapping[str, Any]) -> dict[str, Any] | None:
        return None if whole else {name: value for name, value in point.items() if name != key}

    rest = others(record.point)
    numbers = [(i, point) for i, point in enumerate(record.points) if is_number(point.get(key))]
    return sorted((point[key], i) for i, point in numbers if others(point) == rest)


def _numbers(record: Tuning, metric: str, tried: Slice) -> NDArray[np.float64]:
    """A metric (R, P) at the tried values; NaN where a replica has none."""
    return np.array([record.metrics[metric][i] for _, i in tried], dtype=np.float64).T


def _at_same_values(own: tuple[Tuning, Slice], other: tuple[Tuning, Slice]) -> pd.DataFrame:
    """The paired differences in validation accuracy, a row for each seed and a column for each value of both arms."""
    one, two = (
        pd.DataFrame(_numbers(record, "val/acc", tried), index=record.seeds, columns=[value for value, _ in tried])
        for record, tried in (own, other)
    )
    return (one - two).dropna(axis="columns", how="all").dropna()


def _judged(own: Arm, other: Arm) -> list[tuple[float, float]]:
    """The final validation accuracies of the seeds that both arms were judged with."""
    one, two = (dict(zip(arm.result.seeds, arm.result.metrics["val/acc"], strict=True)) for arm in (own, other))
    return [(float(one[seed] or 0), float(two[seed] or 0)) for seed in sorted(one.keys() & two.keys())]


def _largest_that_train(arms: Mapping[str, Arm], key: str, tuned: Mapping[str, tuple[Tuning, Slice]]) -> dict[str, str]:
    """The largest value at which each arm's replicas train, as text."""
    chance = max(arms[name].result.chance["val/acc"] for name in tuned)
    accuracies = {name: _numbers(record, "val/acc", tried) for name, (record, tried) in tuned.items()}
    values = {name: [value for value, _ in tried] for name, (_, tried) in tuned.items()}
    found = largest_that_train(accuracies, values, chance)
    return {name: largest_in_words(largest, values[name]) for name, largest in found.items()}


def _value_axis(panel: Axes, key: str, data: pd.DataFrame) -> None:
    low, high = data["value"].min(), data["value"].max()
    if low > 0 and high >= WIDE * low:
        log_scale(panel.xaxis, low, high)
    panel.set_xlabel(plain(key))


def _seeds(tuned: Mapping[str, tuple[Tuning, Slice]]) -> str:
    counts = sorted({len(record.seeds) for record, _ in tuned.values()})
    return f"the {' or '.join(map(str, counts))} seeds"


DRAWINGS = (by_value, difference_by_value)
