"""Evidence: a mean over replicas, its 95% interval, and p of the null that it lies outside a claim's region.

p = min(1, 2 x the larger one-sided p). The interval is Student's. If p <= .05, the interval lies inside the region.
The converse holds if the replicas are symmetric about their mean, as the differences of equal arms are. If the replicas
are skewed (one arm with a rare bad replica), Student's test rejects too often: with ten centred exponential differences
its error rate is 9.6%, not 2.5%. So a claim must also pass Hall's test, which corrects t for skewness; the error rate
of both together is 4.6%.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bn_experiments.statistics.intervals import mean_interval

Array = NDArray[np.float64]

LEVEL = 0.05  # 1 - LEVEL is the confidence of every interval
ROUNDING = 1e-12  # rounding error of float64 after a few operations, relative to the largest value


class Evidence(NamedTuple):
    """A mean with its interval over `n` replicas, and `p` of the null that it lies outside the claim's region.

    `excluded` says that the mean is shown to lie outside the region; the interval and the region then have no point in
    common. `at` is the index of the point that decides. Interval and p are NaN below two replicas. All numbers are NaN
    if a statistic is not finite.
    """

    estimate: float
    low: float
    high: float
    n: int
    p: float
    excluded: bool
    at: int | None = None


def assess(statistic: Array, low: float, high: float, rounding: float) -> Evidence:
    """The evidence that the mean of a statistic lies in the open region (low, high).

    Args:
        statistic: One number for each replica (R,).
        low: The lower end of the region, in the statistic's unit; -inf if there is none.
        high: The upper end of the region; inf if there is none.
        rounding: The rounding error of the statistic.
    """
    n, nan = len(statistic), float("nan")
    if not np.isfinite(statistic).all():
        return Evidence(nan, nan, nan, n, nan, excluded=False)
    mean, left, right, _ = mean_interval(statistic.tolist())
    if n < 2:
        return Evidence(mean, nan, nan, n, nan, excluded=False)
    p = min(1.0, 2 * p_outside(statistic, low, high, rounding))
    return Evidence(mean, left, right, n, p, is_excluded(statistic, low, high, rounding, LEVEL))


def p_outside(statistic: Array, low: float, high: float, rounding: float) -> float:
    """The larger one-sided p, for a statistic (R,), of two nulls: mean <= low, and mean >= high (see `assess`)."""
    return max(_p(statistic, low, rounding), _p(-statistic, -high, rounding))


def is_excluded(statistic: Array, low: float, high: float, rounding: float, level: float) -> bool:
    """Whether the mean of a statistic (R,) is shown to be <= low or >= high, with half the level for each side."""
    beyond = min(_p(-statistic, -low, -rounding), _p(statistic, high, -rounding))
    return beyond <= level / 2


def _p(statistic: Array, bound: float, rounding: float) -> float:
    """The one-sided p of the null that the mean of a statistic (R,) is <= bound: the larger of Student's and Hall's."""
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
    """Student's t with a correction for skewness, t + a t^2 + a^2 t^3 / 3 + a / 2, which is monotone in t.

    Args:
        t: The t statistic of Student's test.
        a: The unbiased sample skewness divided by 3 sqrt(n).

    Source: Hall 1992, On the removal of skewness by transformation, Journal of the Royal Statistical Society B 54.
    """
    if not np.isfinite(t):  # the bound of this side is infinite
        return t
    return t + a * t**2 + a**2 * t**3 / 3 + a / 2
