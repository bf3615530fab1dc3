"""Intervals: means and paired differences over replicas, each with its interval."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special, stats


class Estimate(NamedTuple):
    """A mean over `n` replicas with its interval, which is NaN if there are fewer than two."""

    mean: float
    low: float
    high: float
    n: int


class Difference(NamedTuple):
    """A mean paired difference over `n` replicas with its interval, and `p` of the two-sided test that it is zero."""

    mean: float
    low: float
    high: float
    n: int
    p: float


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The mean of n values and Student's interval, mean -+ t_{n-1} s / sqrt(n).

    Source: Student 1908, doi:10.1093/biomet/6.1.1.

    >>> [round(x, 3) for x in mean_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484, 3]
    """
    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean()) if len(x) else float("nan")
    if len(x) < 2:
        return Estimate(mean, float("nan"), float("nan"), len(x))
    half = _quantile((1 + confidence) / 2, len(x) - 1) * float(x.std(ddof=1)) / len(x) ** 0.5
    return Estimate(mean, mean - half, mean + half, len(x))


@cache
def _quantile(p: float, degrees_of_freedom: int) -> float:
    """The quantile of Student's t, cached because a curve needs the same one at every epoch."""
    return float(stats.t.ppf(p, degrees_of_freedom))


def prediction_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The mean of n values and the interval for one further value, mean -+ t_{n-1} s sqrt(1 + 1 / n).

    The published number of a single run is compared with this interval, not with the interval of the mean.

    Source: Hahn & Meeker 1991, Statistical Intervals, section 4.7.

    >>> [round(x, 3) for x in prediction_interval([1.0, 2.0, 3.0])]
    [2.0, -2.968, 6.968, 3]
    """
    mean, low, high, n = mean_interval(values, confidence)
    half = (high - low) / 2 * (n + 1) ** 0.5
    return Estimate(mean, mean - half, mean + half, n)


def paired_difference(arm: Sequence[float], baseline: Sequence[float], confidence: float = 0.95) -> Difference:
    """The mean of arm_i - baseline_i over replicas i, with Student's interval and the paired t test.

    The pairs remove the variance that the two arms share, from initial weights and mini-batches.

    Args:
        arm: One value for each replica (R,).
        baseline: The values of the same replicas (R,), in the same order.
        confidence: The confidence of the interval, in (0, 1).

    Raises:
        ValueError: The two arms differ in length.

    >>> paired_difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    Difference(mean=0.0, low=0.0, high=0.0, n=3, p=1.0)
    """
    if len(arm) != len(baseline):
        raise ValueError(f"paired_difference: {len(arm)} replicas against {len(baseline)}; pair them by seed")
    differences = np.asarray(arm, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    estimate = mean_interval(differences.tolist(), confidence)
    if len(differences) < 2:
        return Difference(*estimate, p=float("nan"))
    if np.ptp(differences) <= 1e-12 * np.abs(differences).max():  # rounding: the t statistic is 0 / 0, or infinite
        return Difference(*estimate, p=float(differences[0] == 0))
    t = estimate.mean / (differences.std(ddof=1) / len(differences) ** 0.5)
    return Difference(*estimate, p=2 * float(special.stdtr(len(differences) - 1, -abs(t))))  # stdtr: P(T < t)
