"""Evidence: a mean over replicas, its 95% interval, and p of the null that it lies outside a claim's region.

p = min(1, 2 x the larger one-sided p), so that p <= .05 exactly where the interval lies inside the region.

The interval is Student's, widened to take in Hall's, which corrects t for the sample's skewness. Replicas of arms that
do not differ have symmetric differences, and Student's errs on them in less than its 2.5% a side. Where the differences
are skewed (one arm with a rare bad replica) it does not: 9.6% for ten centred exponential ones, 4.6% for the wider.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bn_experiments.statistics import mean_interval

Array = NDArray[np.float64]

LEVEL = 0.05  # 1 - LEVEL is the confidence of every interval
ROUNDING = 1e-12  # of float64 after a few operations, relative to the largest value


class Evidence(NamedTuple):
    """A mean with its interval over `n` replicas, and `p` of the null that it lies outside the claim's region.

    `excluded` where the interval has no point in common with the region; `at` is the index of the point that decides.
    Interval and p are NaN below two replicas, all numbers where a statistic is not finite.
    """

    estimate: float
    low: float
    high: float
    n: int
    p: float
    excluded: bool
    at: int | None = None


def assess(statistic: Array, low: float, high: float, rounding: float) -> Evidence:
    """The evidence that the mean of the statistic (R,) lies in the open region (low, high)."""
    n, nan = len(statistic), float("nan")
    if not np.isfinite(statistic).all():
        return Evidence(nan, nan, nan, n, nan, excluded=False)
    mean = mean_interval(statistic.tolist()).mean
    if n < 2:
        return Evidence(mean, nan, nan, n, nan, excluded=False)
    left, right = interval(statistic, 1 - LEVEL, rounding)
    p = min(1.0, 2 * one_sided(statistic, low, high, rounding))
    excluded = right <= low + rounding or left >= high - rounding
    return Evidence(mean, left, right, n, p, excluded)


def interval(statistic: Array, confidence: float, rounding: float) -> tuple[float, float]:
    """The hull of Student's and Hall's interval of the mean; the mean alone where the spread is rounding."""
    mean, low, high, n = mean_interval(statistic.tolist(), confidence)
    if np.ptp(statistic) <= rounding:
        return mean, mean
    t = special.stdtrit(n - 1, (1 + confidence) / 2)
    y = np.array([t, -t]) - _skew(statistic) / 2
    root = np.cbrt(1 + 3 * _skew(statistic) * y)
    hall = mean - _standard_error(statistic) * 3 * y / (root**2 + root + 1)  # that is t of y, the inverse of _hall
    return float(min(low, hall[0])), float(max(high, hall[1]))


def one_sided(statistic: Array, low: float, high: float, rounding: float) -> float:
    """The largest one-sided p, Student's and Hall's, that the mean is below `low` or above `high`."""
    mean = float(statistic.mean())
    if np.ptp(statistic) <= rounding:
        return 0.0 if low + rounding < mean < high - rounding else 1.0
    inside = [(sign, sign * (mean - bound)) for sign, bound in ((1, low), (-1, high)) if np.isfinite(bound)]
    t = np.array([distance for _, distance in inside]) / _standard_error(statistic)
    skew = _skew(statistic) * np.array([sign for sign, _ in inside])
    return float(special.stdtr(len(statistic) - 1, -np.minimum(t, _hall(t, skew))).max())


def _standard_error(statistic: Array) -> float:
    return float(statistic.std(ddof=1)) / len(statistic) ** 0.5


def _skew(statistic: Array) -> float:
    """Hall's a = g / (3 sqrt(n)), g the unbiased sample skewness; 0 for two replicas."""
    n, deviation = len(statistic), statistic - statistic.mean()
    if n == 2:
        return 0.0
    g = (n * (n - 1)) ** 0.5 / (n - 2) * float((deviation**3).mean() / (deviation**2).mean() ** 1.5)
    return g / (3 * n**0.5)


def _hall(t: Array, a: Array) -> Array:
    """Student's t corrected for skewness, y = t + a t^2 + a^2 t^3 / 3 + a / 2, monotone in t.

    Source: Hall 1992, On the removal of skewness by transformation, doi:10.1111/j.2517-6161.1992.tb01876.x.
    """
    return t + a * t**2 + a**2 * t**3 / 3 + a / 2
