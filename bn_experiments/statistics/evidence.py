"""Evidence: a mean over replicas with its 99% interval, and p for and against a claim about the mean.

A claim says that the mean lies in a region. The one test is Student's, and the one interval is its inversion: p is at
most .01 just where the whole interval lies inside the region, and `p_against` just where no point of it does.

The level is .01, not .05, because replicas are often skewed: one arm has a rare bad replica. With ten centred negative
exponential differences Student's test at 5% says "holds" in 9.9% of the cases in which nothing holds, at 1% in 4.8%
(docs/statistics.md). A correction for skewness does not do better, and its interval is no interval of the mean.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bn_experiments.statistics.intervals import mean_interval

Array = NDArray[np.float64]

ROUNDING = 1e-12  # rounding error of float64 after a few operations, relative to the largest value


class Evidence(NamedTuple):
    """A mean with its interval over `n` replicas, and two p for a claim that the mean lies in a region.

    `p` belongs to the null that the mean lies outside the region, `p_against` to the null that it lies inside. `at` is
    the index of the point that decides, and `region` has the ends of the region, infinite where it has none. Interval
    and p are NaN below two replicas. All numbers are NaN if a statistic is not finite.
    """

    estimate: float
    low: float
    high: float
    n: int
    p: float
    p_against: float
    at: int | None = None
    region: tuple[float, float] | None = None


def assess(statistic: Array, low: float, high: float, rounding: float) -> Evidence:
    """The evidence that the mean of a statistic lies in the open region (low, high).

    Each p is twice a one-sided p, at most 1. A claim needs the larger one-sided p of the nulls mean <= low and mean >=
    high; against it speaks the smaller one of the nulls mean > low and mean < high.

    Args:
        statistic: One number for each replica (R,).
        low: The lower end of the region, in the statistic's unit; -inf if there is none.
        high: The upper end of the region; inf if there is none.
        rounding: The rounding error of the statistic.

    Source: Student 1908, doi:10.1093/biomet/6.1.1.
    """
    n, nan = len(statistic), float("nan")
    if not np.isfinite(statistic).all():
        return Evidence(nan, nan, nan, n, nan, nan, region=(low, high))
    mean, left, right, _ = mean_interval(statistic.tolist())
    if n < 2:
        return Evidence(mean, nan, nan, n, nan, nan, region=(low, high))
    p = 2 * max(_p(statistic, low, rounding), _p(-statistic, -high, rounding))
    against = 2 * min(_p(-statistic, -low, -rounding), _p(statistic, high, -rounding))
    return Evidence(mean, left, right, n, min(p, 1.0), min(against, 1.0), region=(low, high))


def _p(statistic: Array, bound: float, rounding: float) -> float:
    """The one-sided p of Student's test of the null that the mean of a statistic (R,) is <= bound."""
    distance = float(statistic.mean()) - bound
    if np.ptp(statistic) <= abs(rounding):
        return 0.0 if distance > rounding else 1.0
    n = len(statistic)
    t = distance / (float(statistic.std(ddof=1)) / n**0.5)
    return float(special.stdtr(n - 1, -t))  # P(T < -t)
