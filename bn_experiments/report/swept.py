"""Swept: what the report shows of a number that a grid varies, as a figure and tables over its values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from bn_experiments.claims import summary, swept_tables
from bn_experiments.claims.swept import Swept, trains_up_to
from bn_experiments.figures.arms import PERCENT, Arm, arms_in, joined, loss_unit, points
from bn_experiments.figures.drawing import STYLE, Drawing, legend, line, log_scale, panels, plain
from bn_experiments.report.contents import SweepContents

PANELS = {"test/acc": ("test accuracy, %", 100), "test/loss": ("test loss", 1)}
WIDE = 8  # times, from which on two values are apart by a factor
MOST_NAMED = 9  # values that stand on an axis
DIVERGED = Line2D([], [], color="#333333", linestyle="", marker="x", label="some diverged")
DOTTED: dict[str, Any] = {"color": "#777777", "linestyle": (0, (1, 1.5))}
CHANCE = Line2D([], [], **DOTTED, label="chance")
Row = Sequence[str]


@dataclass(frozen=True)
class Block:
    """What the page shows of a swept number.

    Args:
        found: The number.
        line: Up to which value each arm trains; empty where all do at every value.
        drawing: The figure.
        headings: The headings of the table over its values.
        rows: Its rows, in groups of one value each.
        question: What the table of changes answers.
        change_headings: The headings of the table of changes.
        changes: Its rows; none where no two arms are compared.
    """

    found: Swept
    line: str
    drawing: Drawing
    headings: Row
    rows: list[list[Row]]
    question: str
    change_headings: Row
    changes: list[Row]


def blocks(sweep: SweepContents) -> list[Block]:
    """A block for each number that a grid sweeps and whose arms were trained."""
    arms = {arm.folder: arm for section in sweep.sections for arm in section.arms.values()}
    numbers = {
        arm.folder.name: section.summary[name] for section in sweep.sections for name, arm in section.arms.items()
    }
    cells = {folder: arm.result for folder, arm in arms.items()}
    found = []
    for one in sweep.swept:
        at = {name: {value: arms[folder] for value, folder in own.items()} for name, own in one.arms.items()}
        if not any(arm.result.metrics for own in at.values() for arm in own.values()):
            continue
        rows: list[list[Row]] = []
        for value in one.contexts:
            own = [numbers[by[value].folder.name].get("test/acc", []) for by in at.values() if value in by]
            texts = [summary.words(row, sweep.baseline) for rows_of in own for row in rows_of]
            rows.append([[f"{value:g}", *text[1:]] for text in texts])
        changes = swept_tables.rows_of(sweep.changes, one, "test/acc")
        with matplotlib.rc_context(STYLE):
            drawing = by_value(one.key, at)
        found.append(
            Block(
                one,
                trains_up_to(one, cells),
                drawing,
                (one.key, *summary.headings(sweep.baseline)[1:]),
                rows,
                swept_tables.question(one, "test/acc", sweep.baseline),
                swept_tables.headings(one.key, sweep.baseline),
                [swept_tables.words(row, sweep.baseline) for row in changes],
            )
        )
    return found


def by_value(key: str, arms: Mapping[str, Mapping[float, Arm]]) -> Drawing:
    """Test accuracy and loss of each arm against a key, with a band, and marks where replicas diverged.

    Args:
        key: The key.
        arms: The arms by name, and by value in ascending order.

    Raises:
        NotMeasured: No arm was trained.
    """
    data = joined(_points(name, metric, own) for metric in PANELS for name, own in arms.items())
    looks = {name: _without_losses(next(iter(own.values()))) for name, own in arms.items()}
    metrics = [metric for metric in PANELS if metric in set(data["metric"])]
    figure, axes = panels(3.2, columns=len(metrics))
    chance = _chance_to_mark(data, [each for own in arms.values() for each in own.values()])
    for panel, metric in zip(axes, metrics, strict=True):
        shown = data[data["metric"] == metric]
        label, _ = PANELS[metric]
        for i, (name, arm) in enumerate(looks.items()):
            own = shown[shown["arm"] == name]
            line(panel, arm, own, "value", markers=True)
            lost = own[own["diverged"] > 0]["value"]
            at = panel.get_xaxis_transform()
            panel.plot(lost, [0.98 - 0.045 * i] * len(lost), "x", color=arm.look.color, markersize=6, transform=at)
        _value_axis(panel, key, sorted(set(shown["value"])))
        unit = loss_unit(looks.values()) if metric.endswith("loss") else ""
        panel.set_ylabel(", ".join(filter(None, (label, unit))))
        if metric == "test/acc" and chance:
            panel.axhline(chance, linewidth=1, **DOTTED)
        means = shown["mean"].dropna()
        if metric.endswith("loss") and len(means) and means.min() > 0 and means.max() >= WIDE * means.min():
            log_scale(panel.yaxis, means.min(), means.max())
    has_lost = bool((data["diverged"] > 0).any())
    legend(figure, arms_in(data, looks), [DIVERGED] * has_lost + [CHANCE] * bool(chance))
    caption = f"What each arm makes of {key} after the last epoch: means over replicas with 99% intervals."
    if chance:
        caption += " Dotted: the accuracy that a network without skill does not exceed."
    if has_lost:
        caption += " A cross at the upper edge: replicas diverged there; they count at chance, and the arm has no loss."
    best = (
        data[data["metric"] == "test/acc"].dropna(subset="mean").sort_values("mean").groupby("arm", sort=False).tail(1)
    )
    alt = "; ".join(
        f"{row['arm']} is best at {row['value']:g} with {row['mean']:.4g}%" for row in best.to_dict("records")
    )
    return Drawing(
        f"by_{key.replace('.', '_')}", f"Each arm by {key}", caption, f"Line charts against {key}: {alt}.", data, figure
    )


def _points(name: str, metric: str, own: Mapping[float, Arm]) -> pd.DataFrame:
    """The estimates of a metric of an arm at its values; the mean is NaN where a replica has no such number."""
    parts = []
    for value, arm in own.items():
        if metric not in arm.result.metrics:
            continue
        numbers = PANELS[metric][1] * np.array(arm.result.metrics[metric], dtype=np.float64)[:, None]  # (R, 1)
        within = PERCENT if metric.endswith("acc") else (0.0 if loss_unit([arm]) else -np.inf, np.inf)
        one = points(numbers, within=within, metric=metric, arm=name, value=value, diverged=sum(arm.result.diverged))
        one.loc[len(numbers) > one["n"], ["mean", "low", "high"]] = np.nan
        parts.append(one)
    return joined(parts) if parts else pd.DataFrame()


def _chance_to_mark(data: pd.DataFrame, arms: Sequence[Arm]) -> float:
    """The accuracy in % that a network without skill does not exceed; 0 where no arm comes near it."""
    chance = 100 * max((arm.result.chance.get("test/acc", 0.0) for arm in arms), default=0.0)
    means = data[data["metric"] == "test/acc"]["mean"].dropna()
    return chance if len(means) and means.min() < (chance + means.max()) / 2 else 0.0


def _without_losses(arm: Arm) -> Arm:
    """The arm with a name for the legend that says nothing of who diverged in one of its cells."""
    return replace(arm, result=replace(arm.result, diverged=[]))


def _value_axis(panel: Axes, key: str, values: Sequence[float]) -> None:
    """The axis of a key, with its values on it; it is logarithmic where they are apart by factors rather than steps."""
    if scales_by_factors([value for value in values if value > 0]) and values[0] >= 0:
        if values[0] > 0:
            panel.set_xscale("log")
        else:
            panel.set_xscale("symlog", linthresh=values[1])
    if len(values) <= MOST_NAMED:
        panel.set_xticks(values)
        panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.set_xlabel(plain(key, longest=40))


def scales_by_factors(values: Sequence[float]) -> bool:
    """Whether values above 0 in ascending order are more evenly apart by their factors than by their steps.

    >>> scales_by_factors([0.01, 0.1, 1.0]), scales_by_factors([1, 2, 3]), scales_by_factors([1, 10])
    (True, False, True)
    """
    if len(values) < 3:
        return len(values) == 2 and values[1] >= WIDE * values[0]
    steps, factors = np.diff(values), np.diff(np.log(values))
    return bool(factors.max() / factors.min() < steps.max() / steps.min())
