"""Forest: the intervals of a table's rows drawn in the rows, on one axis."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from bn_experiments.report.words import MINUS
from bn_experiments.statistics.intervals import LEVEL


@dataclass(frozen=True)
class Mark:
    """An interval as it is drawn; places are shares of the axis, in per cent.

    Args:
        at: Where the estimate lies.
        start: Where the interval starts; None where there is no interval.
        width: How wide it is.
        is_cut: Whether it starts before the axis, and whether it ends behind it.
        decided: Whether the difference is decided, p <= .01.
    """

    at: float
    start: float | None
    width: float
    is_cut: tuple[bool, bool]
    decided: bool


@dataclass(frozen=True)
class Axis:
    """The axis of a table's differences.

    Args:
        low: Its left end, < 0.
        high: Its right end, > 0.
        factor: The factor of the numbers, 100 for per cent.
    """

    low: float
    high: float
    factor: float

    def place(self, value: float) -> float:
        """Where a value lies, in per cent of the axis.

        >>> Axis(-1.0, 3.0, 1).place(0.0)
        25.0
        """
        return round(100 * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """The place and the text of each tick that is not at an end of the axis, and of 0.

        >>> Axis(-0.005, 0.045, 100).ticks
        [(10.0, '0'), (50.0, '+2'), (90.0, '+4')]
        """
        values = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(self.factor * self.low, self.factor * self.high)
        texts = {
            self.place(value / self.factor): f"{value:+g}".replace("-", MINUS) for value in map(float, values) if value
        }
        return sorted([(self.place(0.0), "0"), *((at, text) for at, text in texts.items() if 5 < at < 95)])

    def mark(self, row: Mapping[Hashable, Any]) -> Mark | None:
        """The interval of a row of `summary.summarise`; None where it has no difference."""
        at, low, high = (row[key] for key in ("difference", "difference_low", "difference_high"))
        if math.isnan(at) or row["at_chance"]:
            return None
        start = None if math.isnan(low) else self.place(low)
        width = 0.0 if start is None else round(self.place(high) - start, 2)
        return Mark(self.place(at), start, width, (low < self.low, high > self.high), bool(row["p"] <= LEVEL))


def axis_of(rows: Sequence[Mapping[Hashable, Any]], factor: float) -> Axis:
    """An axis on which the differences of all rows lie, and 0, and their intervals.

    An interval that reaches further beyond all differences than one of the usual width is long is cut, so that an arm
    with two seeds, or with replicas that diverged, does not squeeze all others.

    Args:
        rows: Rows of `summary.summarise`.
        factor: The factor of the numbers, 100 for per cent.

    >>> row = {"difference": 1.0, "difference_low": 0.5, "difference_high": 1.5}
    >>> axis_of([row, row, {**row, "difference_low": -49.0, "difference_high": 51.0}], 1)
    Axis(low=-1.12, high=2.12, factor=1)
    """
    values, lows, highs = (
        np.array([row[key] for row in rows], dtype=np.float64)
        for key in ("difference", "difference_low", "difference_high")
    )
    if not np.isfinite(values).any():
        return Axis(-1.0, 1.0, factor)
    least, most = min(0.0, float(np.nanmin(values))), max(0.0, float(np.nanmax(values)))
    halves = (highs - lows)[np.isfinite(highs)] / 2
    reach = max(0.1 * (most - least), 2 * float(np.median(halves)) if len(halves) else 0.0)
    low = max(least - reach, float(np.nanmin([*lows, least])))
    high = min(most + reach, float(np.nanmax([*highs, most])))
    margin = 0.04 * (high - low) or 1.0
    return Axis(low - margin, high + margin, factor)
