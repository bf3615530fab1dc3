"""Power: how many replicas decide a claim, and the smallest difference that a number of replicas finds.

All counts are for normal numbers and the test of `evidence`: a one-sided Student's test at half of a level. The
standard deviation is not known, so its upper 80% limit stands for it; half of all estimates are too small, and a count
that is planned with one of those would too often be too small as well.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special

from bn_experiments.statistics.evidence import Evidence
from bn_experiments.statistics.intervals import LEAST_REPLICAS, spread

POWER = 0.8  # with which a claim is decided; Cohen 1988, section 2.4
CONFIDENCE = 0.8  # of the upper limit of a standard deviation; Browne 1995
MOST = 1000  # the largest number of replicas that is counted


class Plan(NamedTuple):
    """The number of replicas that decides a claim with 80% power.

    Args:
        replicas: The number of replicas; None if it is above `MOST`.
        effect: The distance of the true mean from the edge of the claim's region for which this holds, in the unit of
            the estimate.
        is_observed: Whether this is the observed distance, and not the smallest effect of interest.
    """

    replicas: int | None
    effect: float
    is_observed: bool


def plan(found: Evidence, level: float, smallest: float | None = None) -> Plan | None:
    """The number of replicas that decides the claim that the mean of a statistic lies in a region.

    In a region with one end, the true mean is taken to lie `smallest` beyond the end, or, if this is None, at the
    observed distance from it. In a region with two ends, such as that of an equivalence, it is taken to lie in the
    middle. Where so many replicas are there already and the claim is yet open, the effect is not the expected one:
    then the observed distance from the nearer end takes its place.

    Args:
        found: The evidence of the claim.
        level: The level at which the claim is decided, in both directions together.
        smallest: The smallest effect of interest, > 0, in the unit of the estimate.

    Returns:
        The plan; None if there is no interval, no spread or no region.

    >>> from bn_experiments.statistics.rules import difference
    >>> plan(difference([0.1, 0.5, 0.3, 0.9, 0.2, 0.4], [0.2] * 6), 0.01).replicas
    54
    """
    sd = upper_limit(spread(found.low, found.high, found.n), found.n)
    if found.region is None or not np.isfinite(found.region).any() or not sd > 0:
        return None
    low, high = found.region
    if np.isfinite([low, high]).all():
        planned = Plan(replicas_for_equivalence((high - low) / 2 / sd, level), (high - low) / 2, False)
    elif smallest is not None:
        planned = Plan(replicas_for_difference(smallest / sd, level), smallest, False)
    else:
        planned = None
    if planned and (planned.replicas is None or planned.replicas > found.n):
        return planned
    observed = min(abs(found.estimate - low), abs(found.estimate - high))
    return Plan(replicas_for_difference(observed / sd, level), observed, True)


def upper_limit(sd: float, n: int) -> float:
    """The upper 80% limit of a standard deviation, s sqrt((n - 1) / q), q the 20% quantile of chi-square with n - 1.

    Args:
        sd: The standard deviation s of the sample, with n - 1 in the denominator.
        n: The size of the sample; below 2 the limit is NaN.

    Source: Browne 1995, doi:10.1002/sim.4780141709, who plans studies with it.

    >>> round(upper_limit(1.0, 10), 3)
    1.293
    """
    return sd * float((n - 1) / special.chdtri(n - 1, CONFIDENCE)) ** 0.5 if n > 1 else float("nan")


def power(effect: float, n: np.ndarray | int, level: float) -> np.ndarray:
    """The power of the test of a mean, 1 - F(t), F the noncentral t with n - 1 and effect sqrt(n), t at 1 - level / 2.

    This equals `statsmodels.stats.power.TTestPower` with alpha = level / 2 and the alternative "larger".

    Args:
        effect: The distance of the true mean from the bound, in standard deviations.
        n: The number of replicas, one or several.
        level: The level of both directions together.

    Returns:
        The probability that the claim holds, in the shape of n.

    Source: Cohen 1988, Statistical Power Analysis, section 2.2.
    """
    t = special.stdtrit(n - 1, 1 - level / 2)
    return 1 - special.nctdtr(n - 1, effect * np.sqrt(n), t)


def replicas_for_difference(effect: float, level: float) -> int | None:
    """The least number of replicas, from six on, with 80% power; None if it is above `MOST`.

    Args:
        effect: The distance of the true mean from the bound, in standard deviations.
        level: The level of both directions together.

    >>> replicas_for_difference(1.0, 0.01), replicas_for_difference(0.01, 0.01)
    (16, None)
    """
    return _first(lambda n: power(effect, n, level))


def replicas_for_equivalence(margin: float, level: float) -> int | None:
    """The least number of replicas, from six on, with which an equivalence holds with 80% power; None above `MOST`.

    The true difference is taken to be 0. The power is at least 2 P - 1, P that of one of the two one-sided tests. This
    bound is taken for the power, for the two tests hardly ever miss together where P is near .9.

    Args:
        margin: The margin, in standard deviations.
        level: The level of both directions together.

    Source: Phillips 1990, doi:10.1007/BF01063556, the power of the two one-sided tests.

    >>> replicas_for_equivalence(1.0, 0.01)
    19
    """
    return _first(lambda n: 2 * power(margin, n, level) - 1)


def smallest_difference(sd: float, n: int, level: float) -> float:
    """The smallest true difference that n replicas find with 80% power; NaN below six, which decide nothing.

    It is d s / sqrt(n), with d the noncentrality at which P(T > t) = .8, and s the upper 80% limit of the deviation.

    Args:
        sd: The standard deviation of the n differences, in any unit, which is that of the result.
        n: The number of pairs.
        level: The level of both directions together.

    >>> round(smallest_difference(1.0, 10, 0.01), 3)
    1.723
    """
    if not n >= LEAST_REPLICAS:
        return float("nan")
    t = special.stdtrit(n - 1, 1 - level / 2)
    return float(special.nctdtrinc(n - 1, 1 - POWER, t)) * upper_limit(sd, n) / n**0.5


def _first(power_of: Callable[[np.ndarray], np.ndarray]) -> int | None:
    """The first number of replicas with enough power."""
    counts = np.arange(LEAST_REPLICAS, MOST + 1)
    enough = counts[power_of(counts) >= POWER]
    return int(enough[0]) if len(enough) else None
