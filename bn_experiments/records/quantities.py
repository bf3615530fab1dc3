"""Quantities: one number or one curve for each replica of a cell, read from the files of its run."""

import math
import re
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from bn_experiments.records import results

Array = NDArray[np.float64]
STRICT = ConfigDict(extra="forbid")
STEP_LOSS = "train/step_loss"  # the one curve with a point for each step, before those by epoch in the file
COLUMNS = {"step": "int64", "epoch": "int64", "replica": "int64", "name": "str", "value": "float64"}


@dataclass(frozen=True)
class Quantity:
    """One number or one curve for each replica of an arm, or a curve with a point for each of several arms.

    Args:
        arm: The name of the arm; or several, such as those of a batch size each, which give one number each.
        metric: A metric of the result (test/acc), a curve of metrics.csv (train/running_loss), or <probe>/<quantity>.
        each: The points of a curve: one for each epoch (epoch), or the mean of each N steps (N steps). None: the final
            number.
        moment: The reading of a probe: the first one, which must be of the initial networks (start), the last (end),
            the mean of those in the later half of the epochs (late), or the standard deviation of all but that of the
            initial networks (spread).
        label: One label on the axis of a probe, such as a layer.
        labels: Several labels on the axis of a probe, which make a curve.
        minus: A label of a probe that is subtracted, such as train for a gap.
    """

    __pydantic_config__ = STRICT

    arm: str | Annotated[list[str], Field(min_length=2)]
    metric: Annotated[str, Field(pattern=r"^[\w.]+/[\w./]+$", description="such as test/acc")]
    each: Annotated[str, Field(pattern=r"^(epoch|[1-9]\d* steps)$", description="epoch or N steps")] | None = None
    moment: Literal["start", "end", "late", "spread"] = "end"
    label: str | None = None
    labels: list[str] | None = None
    minus: str | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of its arms."""
        return (self.arm,) if isinstance(self.arm, str) else tuple(self.arm)

    @property
    def is_of_accuracies(self) -> bool:
        """Whether it is an accuracy, or a gap or a spread of some: a share of 1, which a reader sees in points."""
        return re.search(r"[/_]acc$", self.metric) is not None

    @property
    def is_accuracy(self) -> bool:
        """Whether it is an accuracy, and no gap or spread of them, so that a diverged replica has that of chance."""
        return self.is_of_accuracies and self.minus is None and self.moment != "spread"


class NotMeasured(ValueError):
    """The run did not measure the quantity; the message says what is missing."""


class Damaged(NotMeasured):
    """A file of the run is there and cannot be read."""


def measured(folder: Path, quantity: Quantity) -> Array:
    """The quantity of each replica, in the order of the result's seeds.

    A replica that diverged has, at the end, the accuracy of chance and no other quantity: NaN. Readings of the initial
    networks, and the points of a curve before the loss was lost, are as they were measured.

    Args:
        folder: The folder of a cell with a finished run.
        quantity: The quantity.

    Returns:
        One number for each replica (R,), or one curve for each replica (R, P).

    Raises:
        NotMeasured: The run has no such quantity.
    """
    result = results.read(folder)
    assert result is not None
    probe = quantity.metric.partition("/")[0]
    is_of_probe = quantity.each is None and any(key.startswith(f"{probe}/") for key in probes(folder))
    if not is_of_probe and quantity.moment != "end":
        raise NotMeasured(f"{quantity.metric} has no moment {quantity.moment}, which only readings of probes have")
    if quantity.each is not None:
        return curve(folder, quantity.metric, quantity.each)
    if is_of_probe:
        values = reading(folder, quantity)
        if quantity.moment == "start":
            return values
    elif quantity.metric in result.metrics:
        values = np.array(result.metrics[quantity.metric], dtype=np.float64)
    else:
        raise NotMeasured(f"{quantity.metric} was not measured; add its probe to probes=[...]")
    at_chance = np.array(
        result.metrics["test/acc"] if quantity.is_accuracy else [math.nan] * len(values), dtype=np.float64
    )
    lost = np.array(result.diverged).reshape(-1, *(1,) * (values.ndim - 1))
    return np.where(lost, at_chance.reshape(lost.shape), values)


def curve(folder: Path, name: str, each: str) -> Array:
    """A curve of `metrics.csv` for each replica.

    Args:
        folder: The folder of a finished cell.
        name: The name of the curve, such as train/running_loss.
        each: The points of the curve, epoch or N steps (see `Quantity`).

    Returns:
        One point for each epoch (R, epochs), or the mean of each N steps (R, P), without a last point of fewer steps.

    Raises:
        NotMeasured: There is no such curve, or it has fewer than N steps.
    """
    table = curves(folder)
    rows = table[table["name"] == name]
    if rows.empty:
        raise NotMeasured(f"metrics.csv holds no {name}")
    axis = "epoch" if each == "epoch" else "step"
    values = rows.pivot_table(index="replica", columns=axis, values="value", dropna=False).to_numpy()
    if each == "epoch":
        return values
    size = int(each.split(maxsplit=1)[0])
    if values.shape[1] < size:
        raise NotMeasured(f"{name} has {values.shape[1]} steps, fewer than {size}")
    points = values.shape[1] // size
    return values[:, : points * size].reshape(len(values), points, size).mean(axis=2)  # (R, P)


def curves(folder: Path) -> pd.DataFrame:
    """The table of `metrics.csv`, with the columns step, epoch, replica, name and value, of all runs of a cell.

    Raises:
        NotMeasured: There is no such file, or it is damaged.
    """
    tables, before = [], 0
    for run in results.runs(folder):
        file = run.folder / "metrics.csv"
        if not file.exists():
            raise NotMeasured(f"{file.name} is missing")
        epochs = run.result.config["trainer"]["max_epochs"]
        table = _table(file, file.stat().st_mtime_ns, len(run.result.seeds), epochs)
        if before or len(run.kept) < len(run.result.seeds):
            place = {replica: before + i for i, replica in enumerate(run.kept)}
            table = table[table["replica"].isin(run.kept)]
            table = table.assign(replica=table["replica"].map(place))
        tables.append(table)
        before += len(run.kept)
    return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)


def probes(folder: Path) -> dict[str, NDArray]:
    """The arrays of `probes.npz` by name, of all runs of a cell; empty if there is no such file.

    Readings have the shape (readings, R, ...), labels (L,), and `<probe>/epochs` (readings,).
    """
    found = []
    for run in results.runs(folder):
        file = run.folder / "probes.npz"
        arrays = _arrays(file, file.stat().st_mtime_ns) if file.exists() else {}
        if len(run.kept) < len(run.result.seeds):
            kept = list(run.kept)
            arrays = {key: array[:, kept] if _has_replicas(key, array) else array for key, array in arrays.items()}
        found.append(arrays)
    if len(found) <= 1:
        return found[0] if found else {}
    if any(arrays.keys() != found[0].keys() for arrays in found):
        raise Damaged("probes.npz is missing in a run, or lacks a probe")
    return {
        key: np.concatenate([arrays[key] for arrays in found], axis=1) if _has_replicas(key, array) else array
        for key, array in found[0].items()
    }


def _has_replicas(key: str, array: NDArray) -> bool:
    return array.dtype.kind != "U" and not key.endswith("/epochs")


def axis_labels(arrays: dict[str, NDArray], probe: str) -> list[str]:
    """The L labels of a probe, on the axis after the replicas in its readings (readings, R, L, ...)."""
    (labels,) = [array for key, array in arrays.items() if key.startswith(f"{probe}/") and array.dtype.kind == "U"]
    return [str(label) for label in labels]


def reading(folder: Path, quantity: Quantity) -> Array:
    """The reading of a probe for a quantity: (R,) for one label, (R, P) for several or all labels.

    Raises:
        NotMeasured: The probe has no such quantity, moment or label.
    """
    arrays = probes(folder)
    probe = quantity.metric.partition("/")[0]
    if quantity.metric not in arrays:
        raise NotMeasured(f"{probe} has no {quantity.metric}")
    if quantity.moment == "start" and arrays[f"{probe}/epochs"][0] != 0:
        raise NotMeasured(f"{probe} did not measure the initial networks; set probes.{probe}.at_start=true")
    values = _at(quantity, arrays[f"{probe}/epochs"], arrays[quantity.metric].astype(np.float64))
    if quantity.label is None and quantity.labels is None:
        return values
    labels = axis_labels(arrays, probe)
    wanted = quantity.labels or [] if quantity.label is None else [quantity.label]
    taken_off = [] if quantity.minus is None else [quantity.minus]
    if missing := [label for label in [*wanted, *taken_off] if label not in labels]:
        raise NotMeasured(f"{quantity.metric} has no {', '.join(missing)}; it has {', '.join(labels)}")
    chosen = values[:, [labels.index(label) for label in wanted]]
    if quantity.minus is not None:
        chosen = chosen - values[:, [labels.index(quantity.minus)]]
    return chosen if quantity.label is None else chosen[:, 0]


def _at(quantity: Quantity, epochs: NDArray, readings: Array) -> Array:
    """What is taken of readings (T, R, ...) at epochs (T,), (R, ...)."""
    if quantity.moment in ("start", "end"):
        return readings[0 if quantity.moment == "start" else -1]
    if quantity.moment == "late":
        return readings[epochs > epochs[-1] / 2].mean(axis=0) if epochs[-1] else readings[-1]
    if (epochs > 0).sum() < 2:
        probe = quantity.metric.partition("/")[0]
        raise NotMeasured(f"{probe} took one reading while training; set probes.{probe}.every_n_epochs=1")
    return readings[epochs > 0].std(axis=0, ddof=1)


@lru_cache(maxsize=4)
def _table(file: Path, stamp: int, replicas: int, epochs: int) -> pd.DataFrame:
    try:
        table = pd.read_csv(file, usecols=list(COLUMNS), dtype=COLUMNS)
    except (OSError, ValueError) as error:
        raise Damaged(f"{file.name} cannot be read ({type(error).__name__})") from error
    found = {str(name): rows for name, rows in table.groupby("name", sort=False)}
    if epochs and set(found) == {STEP_LOSS}:
        raise Damaged(f"{file.name} is cut short: it has no curve by epoch")
    for name, rows in found.items():
        axis, least = ("step", 1) if name == STEP_LOSS else ("epoch", epochs)
        last = int(rows[axis].max())
        if last < least:
            raise Damaged(f"{file.name} is cut short: {name} ends at {axis} {last} of {least}")
        if not len(rows) == len(rows.drop_duplicates([axis, "replica"])) == last * replicas:
            raise Damaged(f"{file.name} is damaged: {name} has not one value for each replica and {axis}")
    return table


@lru_cache(maxsize=32)
def _arrays(file: Path, stamp: int) -> dict[str, NDArray]:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Damaged(f"{file.name} cannot be read ({type(error).__name__})") from error
