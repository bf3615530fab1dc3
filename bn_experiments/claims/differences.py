"""Differences: those of a summary after each epoch, with their intervals, as curves in TensorBoard."""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tensorboard.compat.proto.event_pb2 import Event

from bn_experiments.claims.contexts import GROUPS, in_short
from bn_experiments.claims.summary import CONTEXT, DIFFERENCE, paired_difference
from bn_experiments.records import events, results
from bn_experiments.records.quantities import NotMeasured, curve
from bn_experiments.records.results import Result

FOLDER = "differences"
CHARTS = "paired difference of two arms, with its 99% interval"
ABOUT = (
    "The {} of the first arm in the run's name minus that of the second, paired by seed: the mean over n pairs, and "
    "Student's 99% interval. A replica that diverged has the accuracy of chance and no loss: there the difference of "
    "the losses ends."
)


def write(folder: Path, summary: pd.DataFrame, cells: Mapping[Path, Result]) -> list[str]:
    """Writes a run of TensorBoard for each two arms that a summary compares, in place of all that lay there.

    The run `differences/<settings>, <arm> - <baseline> (n=<pairs>)` has the paired difference of each metric with its
    interval: after each epoch or, where the metric is of the test set, after the last one. There is none of a metric
    in which all arms are at chance, and none of networks that were not trained.

    Args:
        folder: The folder of the sweep.
        summary: The summary of the sweep (see `summary.summarise`).
        cells: The finished cells of the sweep, by folder.

    Returns:
        A line for each difference that has no curve, with the reason.
    """
    events.remove(folder / FOLDER)
    runs: dict[str, tuple[float, list[Event]]] = {}
    lines = []
    for settings, pair, metrics in _compared(summary):
        arm, baseline = (folder / cell for cell in pair.values())
        shared = {*cells[arm].seeds} & {*cells[baseline].seeds}
        if not shared or not cells[arm].config["trainer"]["max_epochs"]:
            continue
        named = f"{' - '.join(pair)} (n={len(shared)})"
        name = ", ".join(events.as_folder(text) for text in (settings, named) if text)
        points: list[Event] = []
        for metric in metrics:
            try:
                points += _points(metric, *(_by_epoch(cell, cells[cell], metric) for cell in (arm, baseline)))
            except NotMeasured as error:
                lines.append(f"{name}: no curve of the difference in {metric} for TensorBoard: {error}")
        if points:
            runs[name] = max(map(results.written_ns, (arm, baseline))) / 1e9, points
    charts = _charts(point for _, points in runs.values() for point in points)
    for name, (written_s, points) in runs.items():
        events.write(folder / FOLDER / name, [*charts, *points], written_s)
    return lines


def _charts(points: Iterable[Event]) -> list[Event]:
    """What Custom Scalars shows: of each run all charts, for TensorBoard takes those of the first run alone."""
    tags = dict.fromkeys(point.summary.value[0].tag for point in points)
    charts = {tag.partition("/")[2]: tag for tag in tags if events.interval_tags(tag)[0] in tags}
    return [events.margins(CHARTS, charts)] if charts else []


def _compared(summary: pd.DataFrame) -> Iterator[tuple[str, dict[str, str], list[str]]]:
    """Each two arms that are compared: their settings in short, their cells by name of the arm, and the metrics."""
    cells = {(_context(row), row["arm"]): row["folder"] for row in summary.to_dict("records")}
    settings = in_short([context for context, _ in cells])
    rows = summary[summary["baseline"].notna() & ~summary["at_chance"].astype(bool)]
    for _, own in rows.groupby([*CONTEXT, "arm", "baseline"], sort=False):
        row = own.to_dict("records")[0]
        context = _context(row)
        yield (
            settings[context],
            {row[key]: cells[context, row[key]] for key in ("arm", "baseline")},
            list(own["metric"]),
        )


def _context(row: Mapping[Any, Any]) -> str:
    """What the arms of a row of the summary share, as text."""
    return " ".join([*(f"{group}={row[group]}" for group in GROUPS), row["settings"]]).strip()


def _by_epoch(cell: Path, result: Result, metric: str) -> dict[int, dict[int, float]]:
    """A metric by epoch and seed; of the test set, after the last epoch alone.

    A replica that diverged has the accuracy of chance where its loss is not finite.
    """
    final = np.array(result.metrics[metric], dtype=np.float64)[:, np.newaxis]  # (R, 1)
    if metric.startswith("test/"):
        values = final
    else:
        values = curve(cell, metric, "epoch")  # (R, epochs)
        if metric.endswith("/acc") and any(result.diverged):
            losses = curve(cell, metric.replace("/acc", "/loss"), "epoch")
            values = np.where(~np.isfinite(losses) & np.array(result.diverged)[:, np.newaxis], final, values)
        values = np.concatenate([values[:, :-1], final], axis=1)  # which the file holds rounded
    first = result.config["trainer"]["max_epochs"] + 1 - values.shape[1]
    return {first + i: dict(zip(result.seeds, numbers, strict=True)) for i, numbers in enumerate(values.T.tolist())}


def _points(
    metric: str, own: Mapping[int, Mapping[int, float]], baseline: Mapping[int, Mapping[int, float]]
) -> Iterator[Event]:
    """The points of a metric's difference, and of the ends of its interval, after each epoch that has them.

    Args:
        metric: The name of the metric.
        own: The numbers of the arm by epoch and seed.
        baseline: The numbers of its baseline by epoch and seed.
    """
    for epoch in sorted(own.keys() & baseline.keys()):
        found = paired_difference(own[epoch], baseline[epoch])
        tag = f"difference/{metric}"
        for each, key in zip((tag, *events.interval_tags(tag)), DIFFERENCE, strict=False):
            if math.isfinite(found[key]):
                yield events.scalar(each, epoch, found[key], ABOUT.format(f"`{metric}`"))
