"""Evidence: a mean over replicas, its 95% interval, and p of the null that it lies outside a claim's region.

p = min(1, 2 x the larger one-sided p). The interval is Student's; p <= .05 means that it lies inside the region, and
the converse holds where the replicas are spread evenly about their mean, as those of arms that do not differ are. Where
they are skewed (one arm with a rare bad replica), Student's test finds too much: with ten centred exponential
differences it errs in 9.6%, not 2.5%. So a claim must also pass Hall's, which corrects t for skewness; together they
err in 4.6%.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bn_experiments.statistics.intervals import mean_interval

Array = NDArray[np.float64]

LEVEL = 0.05  # 1 - LEVEL is the confidence of every interval
ROUNDING = 1e-12  # of float64 after a few operations, relative to the largest value


class Evidence(NamedTuple):
    """A mean with its interval over `n` replicas, and `p` of the null that it lies outside the claim's region.

    `excluded` where the mean is shown to lie outside the region; the interval then has no point in common with it. `at`
    is the index of the point that decides. Interval and p are NaN below two replicas, all numbers where a statistic is
    not finite.
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
    mean, left, right, _ = mean_interval(statistic.tolist())
    if n < 2:
        return Evidence(mean, nan, nan, n, nan, excluded=False)
    p = min(1.0, 2 * p_outside(statistic, low, high, rounding))
    return Evidence(mean, left, right, n, p, is_excluded(statistic, low, high, rounding, LEVEL))


def p_outside(statistic: Array, low: float, high: float, rounding: float) -> float:
    """The larger one-sided p of the nulls that the mean is `low` or below, and that it is `high` or above."""
    return max(_p(statistic, low, rounding), _p(-statistic, -high, rounding))


def is_excluded(statistic: Array, low: float, high: float, rounding: float, level: float) -> bool:
    """Whether the mean is shown to be `low` or below, or `high` or above, at half the level a side."""
    beyond = min(_p(-statistic, -low, -rounding), _p(statistic, high, -rounding))
    return beyond <= level / 2


def _p(statistic: Array, bound: float, rounding: float) -> float:
    """One-sided p of the null that the mean is `bound` or below: the larger of Student's and Hall's."""
    n, distance = len(statistic), float(statistic.mean()) - bound
    if np.ptp(statistic) <= abs(rounding):
        return 0.0 if distance > rounding else 1.0
    deviation = statistic - statistic.mean()
    t = distance / (float(statistic.std(ddof=1)) / n**0.5)
    skewness = 0.0
    if n > 2:
        skewness = (n * (n - 1)) ** 0.5 / (n - 2) * float((deviation**3).mean() / (deviation**2).mean() ** 1.5)
    return float(special.stdtr(n - 1, -min(t, _hall(t, skewness / (3 * n**0.5)))))


def _hall(t: float, a: float) -> float:
    """Student's t corrected for skewness, t + a t^2 + a^2 t^3 / 3 + a / 2, monotone in t.

    Args:
        t: Student's.
        a: The unbiased sample skewness over 3 sqrt(n).

    Source: Hall 1992, On the removal of skewness by transformation, Journal of the Royal Statistical Society B 54.
    """
    if not np.isfinite(t):  # the side that is open
        return t
    return t + a * t**2 + a**2 * t**3 / 3 + a / 2
