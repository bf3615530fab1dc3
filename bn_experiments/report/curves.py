"""Curves: the numbers of a figure of learning, from which the page draws those that a reader chooses."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bn_experiments.figures.arms import Arm, arms_in, loss_unit
from bn_experiments.figures.drawing import Drawing
from bn_experiments.records.quantities import STEP_LOSS
from bn_experiments.report import learning

MOST_REPLICAS = 20  # of an arm, whose curves the page holds one by one
DIGITS = 5  # significant ones
DASHES = {"-": (), "--": (5.2, 2.2), "-.": (9.0, 2.2, 1.4, 2.2), ":": (1.4, 2.3)}  # pixels, as in the figures


def curves(drawing: Drawing, arms: Mapping[str, Arm]) -> dict[str, Any] | None:
    """The numbers of a figure of learning, to be written as JSON; None for another figure.

    Args:
        drawing: A figure of the arms.
        arms: The arms by name.

    Returns:
        x: The name of the axis, step or epoch.
        arms: The name, title, colour, dashes, and the seeds of the first replicas of each arm.
        metrics: The key of each metric, its label with the unit, and whether the figure's axis is logarithmic.
        curves: For each metric and arm the index of both, the first x, the distance `by` of two, mean, low, high and n
            of each point, and the values of the first replicas; null where there is none.
        published: The curves that were published, with the index of metric and arm.
    """
    if drawing.name not in learning.NAMES:
        return None
    x = "epoch" if "epoch" in drawing.data else "step"
    data = drawing.data if "metric" in drawing.data else drawing.data.assign(metric=STEP_LOSS)
    metrics, shown = list(dict.fromkeys(data["metric"])), arms_in(data, arms)
    parts = dict(iter(data.groupby(["metric", "arm"])))
    return {
        "x": x,
        "arms": [_look(arm) for arm in shown],
        "metrics": [_metric(metric, data[data["metric"] == metric], shown) for metric in metrics],
        "curves": [
            {"metric": i, "arm": j, **_curve(parts[metric, arm.name], x, arm, metric)}
            for i, metric in enumerate(metrics)
            for j, arm in enumerate(shown)
            if (metric, arm.name) in parts
        ],
        "published": [
            {"metric": i, "arm": j, "x": rounded(at), "y": rounded(values)}
            for i, metric in enumerate(metrics)
            for j, arm in enumerate(shown)
            for at, values in learning.published_curves(arm, metric, by_epoch=x == "epoch")
        ],
    }


def rounded(values: Iterable[float]) -> list[float | int | None]:
    """Numbers with five significant digits, the whole ones without a point; None for what is not finite.

    >>> rounded([0.123456, 1.0, float("nan")])
    [0.12346, 1, None]
    """
    short = [float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in values]
    return [int(value) if value is not None and value.is_integer() else value for value in short]


def _look(arm: Arm) -> dict[str, Any]:
    dash = arm.look.dash
    lengths = DASHES[dash] if isinstance(dash, str) else [1.4 * length for length in dash[1]]
    return {
        "name": arm.name,
        "title": arm.title,
        "color": arm.look.color,
        "dash": rounded(lengths),
        "seeds": arm.result.seeds[:MOST_REPLICAS],
    }


def _metric(metric: str, data: pd.DataFrame, arms: list[Arm]) -> dict[str, Any]:
    label, _ = learning.PANELS[metric]
    unit = loss_unit(arms) if metric.endswith("loss") else ""
    return {
        "key": metric,
        "label": ", ".join(filter(None, (label, unit))),
        "log": metric.endswith("loss") and learning.is_wide(data),
    }


def _curve(data: pd.DataFrame, x: str, arm: Arm, metric: str) -> dict[str, Any]:
    first, count = float(data[x].iloc[0]), len(data)
    by = float(data[x].iloc[1]) - first if count > 1 else 1.0
    each = "epoch" if x == "epoch" else f"{round(2 * first - 1)} steps"  # the first point is the middle of the first N
    _, factor = learning.PANELS[metric]
    values = factor * arm.measured(metric, each=each)[:MOST_REPLICAS]
    start, step = rounded([first, by])
    return {
        "first": start,
        "by": step,
        **{key: rounded(data[key]) for key in ("mean", "low", "high")},
        "n": data["n"].tolist(),
        "replicas": [rounded(own) for own in values],
    }
