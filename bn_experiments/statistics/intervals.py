"""Intervals: the mean of replicas with its interval, and the interval for one further replica."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special

LEVEL = 0.01  # of every test; 1 - LEVEL is the confidence of every interval of a mean
LEAST_REPLICAS = 6  # fewer do not show their distribution; the calibration of the test begins there
FURTHER_RUN = 0.05  # 1 - FURTHER_RUN is the confidence of the interval for one further replica


class Estimate(NamedTuple):
    """A mean over `n` replicas with its interval, which is NaN if there are fewer than two."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """The mean of n values and Student's interval of confidence 1 - level, mean -+ t_{n-1} s / sqrt(n).

    Source: Student 1908, doi:10.1093/biomet/6.1.1.

    >>> [round(x, 3) for x in mean_interval([1.0, 2.0, 3.0])]
    [2.0, -3.73, 7.73, 3]
    """
    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean()) if len(x) else float("nan")
    if len(x) < 2:
        return Estimate(mean, float("nan"), float("nan"), len(x))
    half = _quantile(1 - level / 2, len(x) - 1) * float(x.std(ddof=1)) / len(x) ** 0.5
    return Estimate(mean, mean - half, mean + half, len(x))


def spread(low: float, high: float, n: int) -> float:
    """The standard deviation of n values whose 99% interval is given, s = (high - low) / 2 sqrt(n) / t_{n-1}.

    >>> round(spread(*mean_interval([1.0, 2.0, 3.0])[1:]), 6)
    1.0
    """
    return (high - low) / 2 * n**0.5 / _quantile(1 - LEVEL / 2, n - 1) if n > 1 else float("nan")


def widened(low: float, high: float, n: int, level: float) -> tuple[float, float]:
    """The ends of the interval of confidence 1 - level of n values whose 99% interval is given.

    >>> [round(x, 3) for x in widened(*mean_interval([1.0, 2.0, 3.0])[1:], level=0.05)]
    [-0.484, 4.484]
    """
    if n < 2 or level == LEVEL:
        return low, high
    middle, half = (low + high) / 2, (high - low) / 2
    half *= _quantile(1 - level / 2, n - 1) / _quantile(1 - LEVEL / 2, n - 1)
    return middle - half, middle + half


@cache
def _quantile(p: float, degrees_of_freedom: int) -> float:
    """The quantile of Student's t, cached because a curve needs the same one at every epoch."""
    return float(special.stdtrit(degrees_of_freedom, p))


def prediction_interval(values: Sequence[float]) -> Estimate:
    """The mean of n values and the 95% interval for one further value, mean -+ t_{n-1} s sqrt(1 + 1 / n).

    The published number of a single run is compared with this interval, not with the interval of the mean. Such a
    comparison accuses, so its level is the wider one of 5%: a number that lies outside is shown as not reproduced.

    Source: Hahn & Meeker 1991, Statistical Intervals, section 4.7.

    >>> [round(x, 3) for x in prediction_interval([1.0, 2.0, 3.0])]
    [2.0, -2.968, 6.968, 3]
    """
    mean, low, high, n = mean_interval(values, FURTHER_RUN)
    half = (high - low) / 2 * (n + 1) ** 0.5
    return Estimate(mean, mean - half, mean + half, n)


def rarest_failure(n: int) -> float:
    """The largest probability of a failure that n replicas without one cannot exclude: 1 - .05^(1 / n), 95% confidence.

    Source: Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404, the upper bound for no event of n.

    >>> round(rarest_failure(10), 3)
    0.259
    """
    return 1 - 0.05 ** (1 / n)
