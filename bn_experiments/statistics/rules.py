"""Rules: each turns measurements into evidence for a claim, which then holds, fails or is inconclusive.

Each rule is a pure function on arrays with a replica axis R. It computes one statistic for each replica, and the claim
says that the mean of this statistic lies in a region. A claim holds if p <= .05 after Holm's correction, where p
belongs to the null that the mean lies outside the region. It fails if the mean is shown to lie outside the region.
Otherwise it is inconclusive.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.stats.multitest import multipletests

from bn_experiments.statistics.evidence import LEVEL, ROUNDING, Array, Evidence, assess, is_excluded, p_outside
from bn_experiments.statistics.growth import akaike_difference

Outcome = Literal["holds", "fails", "inconclusive"]


def difference(left: ArrayLike, right: ArrayLike, *, above: float = 0.0) -> Evidence:
    """The mean of left_i - right_i over replicas i is above `above`.

    Args:
        left: One value for each replica (R,).
        right: The values of the same replicas (R,), in the same order.
        above: The bound, in the values' unit.

    Raises:
        ValueError: The arrays differ in shape, or have a second axis.

    >>> [round(x, 3) for x in difference([4.0, 5.0, 6.0], [2.0, 2.0, 2.0])[:5]]
    [3.0, 0.516, 5.484, 3, 0.035]
    """
    values, rounding = _paired("difference", left, right, ("R",))
    return assess(values, above, np.inf, rounding)


def equivalence(left: ArrayLike, right: ArrayLike, *, margin: float) -> Evidence:
    """The mean of left_i - right_i over replicas i is within (-margin, margin).

    These are the two one-sided tests at 2.5% each, since the 95% interval (not the usual 90% interval) must lie inside.
    Source: Schuirmann 1987, doi:10.1007/BF01068419.

    Args:
        left: One value for each replica (R,).
        right: The values of the same replicas (R,), in the same order.
        margin: The largest difference that counts as none, > 0, in the values' unit.

    Raises:
        ValueError: The arrays differ in shape or have a second axis, or the margin is not positive.

    >>> equivalence([1.0, 2.0, 3.0], [1.1, 2.0, 2.9], margin=0.5).excluded
    False
    """
    values, rounding = _paired("equivalence", left, right, ("R",))
    _require_positive("equivalence", margin)
    return assess(values, -margin, margin, rounding)


def slope(
    values: ArrayLike,
    *,
    log: bool = False,
    above: float | None = None,
    near: float | None = None,
    margin: float | None = None,
) -> Evidence:
    """The mean least-squares slope against 0..P-1 is above `above`, or within (near - margin, near + margin).

    The slope of a replica is sum_k (k - mean k) y_k / sum_k (k - mean k)^2.

    Args:
        values: One curve for each replica (R, P), P >= 2.
        log: Whether y is the natural logarithm of the values; the slope is then the rate of growth per point.
        above: The bound, in y's unit per point.
        near: The middle of the region, in place of a bound.
        margin: The largest distance from `near` that counts as none, > 0.

    Raises:
        ValueError: The region is not given by either `above` or both `near` and `margin`, the margin is not positive,
            or the shape is not (R, P >= 2).

    >>> found = slope([[1.0, 2.0, 4.0], [3.0, 6.0, 12.0]], log=True, above=0.5)
    >>> round(found.estimate, 3), found.p
    (0.693, 0.0)
    """
    curves = _curves("slope", values, points=2)
    if (above is None) == (near is None) or (near is None) != (margin is None):
        raise ValueError(f"slope: above={above}, near={near}, margin={margin}; give above, or near and margin")
    k = np.arange(curves.shape[1]) - (curves.shape[1] - 1) / 2
    weights = k / (k @ k)
    with np.errstate(all="ignore"):  # values that are not finite give NaN evidence
        y = np.log(curves) if log else curves
        slopes = (y * weights).sum(axis=1)
    rounding = ROUNDING * _largest(y) * float(np.abs(weights).sum())
    if above is not None:
        return assess(slopes, above, np.inf, rounding)
    assert near is not None
    assert margin is not None
    _require_positive("slope", margin)
    return assess(slopes, near - margin, near + margin, rounding)


def linear_over_exponential(values: ArrayLike) -> Evidence:
    """A linear curve fits better than an exponential one: the mean of AIC_exponential - AIC_linear is above 0.

    Both are fitted by least squares on the logarithm, log(a + b k) and log a + b k, k = 0..P-1, since estimated
    variances have relative errors. AIC = P log(RSS / P) + 2 x 2, so the difference is P log(RSS_exponential /
    RSS_linear). Source: Burnham & Anderson 2002, section 2.2, doi:10.1007/b97636.

    Args:
        values: One positive curve for each replica (R, P), P >= 3. A value <= 0 makes NaN evidence.

    Raises:
        ValueError: The shape is not (R, P >= 3). Two points lie on a curve of either kind.

    >>> linear_over_exponential([[1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0], [1.0, 3.0, 5.0, 7.0]]).p < 0.05
    True
    """
    values, rounding = akaike_difference(_curves("linear_over_exponential", values, points=3))
    return assess(values, 0.0, np.inf, rounding)


def exponential_over_linear(values: ArrayLike) -> Evidence:
    """An exponential curve fits better than a linear one: the mean of AIC_linear - AIC_exponential is above 0.

    Arguments and errors are those of `linear_over_exponential`: one curve for each replica (R, P), P >= 3.

    >>> exponential_over_linear([[1.0, 2.0, 4.0, 8.0], [2.0, 6.0, 18.0, 54.0], [3.0, 1.5, 0.75, 0.375]]).p < 0.05
    True
    """
    values, rounding = akaike_difference(_curves("exponential_over_linear", values, points=3))
    return assess(-values, 0.0, np.inf, rounding)


def ordering(upper: ArrayLike, lower: ArrayLike) -> Evidence:
    """The mean of upper_ij - lower_ij over replicas i is above 0 at every point j.

    This is the intersection-union test: p is the largest p of all points and needs no correction. Estimate and interval
    are those of the point with that p, `at`. The claim is excluded if the interval of that point at 1 - .05 / P
    (Bonferroni) has nothing above 0: one point is enough to refute the claim, and it is chosen from P points.
    Source: Berger 1982, doi:10.1080/00401706.1982.10487790.

    Args:
        upper: One curve for each replica (R, P), P >= 1.
        lower: The curves of the same replicas (R, P), in the same order.

    Raises:
        ValueError: The arrays differ in shape, or their shape is not (R, P >= 1).

    >>> ordering([[2.0, 1.0], [2.2, 1.3], [2.1, 1.1]], [[1.0, 1.0], [1.0, 1.2], [1.0, 1.1]]).at
    1
    """
    values, rounding = _paired("ordering", upper, lower, ("R", "P"))
    replicas, points = _curves("ordering", values, points=1).shape
    if not np.isfinite(values).all():
        return assess(np.full(replicas, np.nan), 0.0, np.inf, rounding)
    if replicas < 2:
        return assess(values.min(axis=1), 0.0, np.inf, rounding)
    # one-sided p rank the points; two-sided p would be 1 at several of them
    at = int(np.argmax([p_outside(values[:, j], 0.0, np.inf, rounding) for j in range(points)]))
    excluded = is_excluded(values[:, at], 0.0, np.inf, rounding, LEVEL / points)
    return assess(values[:, at], 0.0, np.inf, rounding)._replace(excluded=excluded, at=at)


RULES: dict[str, Callable[..., Evidence]] = {
    rule.__name__: rule
    for rule in (difference, equivalence, slope, linear_over_exponential, exponential_over_linear, ordering)
}


def decide(evidence: Sequence[Evidence]) -> list[tuple[Outcome, float]]:
    """The outcome of each claim of one experiment, and its p after the correction for the number of claims.

    Holm's step-down: p_(i) of m in ascending order becomes max_{j <= i} min(1, (m - j + 1) p_(j)). Evidence without a p
    is inconclusive and does not count in m. Source: Holm 1979, https://www.jstor.org/stable/4615733.

    >>> decide([Evidence(1.0, 0.5, 1.5, 10, 0.01, False), Evidence(-1.0, -2.0, -0.5, 10, 1.0, True)])
    [('holds', 0.02), ('fails', 1.0)]
    """
    adjusted = np.array([e.p for e in evidence], dtype=np.float64)
    tested = ~np.isnan(adjusted)
    if tested.any():
        adjusted[tested] = multipletests(adjusted[tested], method="holm")[1]
    return [(_outcome(e, p), p) for e, p in zip(evidence, adjusted.tolist(), strict=True)]


def _outcome(evidence: Evidence, p: float) -> Outcome:
    if p <= LEVEL:
        return "holds"
    return "fails" if evidence.excluded else "inconclusive"


def _paired(rule: str, left: ArrayLike, right: ArrayLike, axes: tuple[str, ...]) -> tuple[Array, float]:
    """The difference left - right, (R,) or (R, P), and its rounding error."""
    a, b = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if a.ndim != len(axes) or b.ndim != len(axes):
        raise ValueError(f"{rule}: arrays of shape {a.shape} and {b.shape}; give ({', '.join(axes)})")
    if len(a) != len(b):
        raise ValueError(f"{rule}: {len(a)} replicas against {len(b)}; pair them by seed")
    if a.shape != b.shape:
        raise ValueError(f"{rule}: {a.shape[1]} points against {b.shape[1]}; measure both at the same points")
    with np.errstate(all="ignore"):
        return a - b, ROUNDING * max(_largest(a), _largest(b))


def _curves(rule: str, values: ArrayLike, points: int) -> Array:
    curves = np.asarray(values, dtype=np.float64)
    if curves.ndim != 2 or curves.shape[1] < points:
        raise ValueError(f"{rule}: an array of shape {curves.shape}; give (replicas, points), {points} points or more")
    return curves


def _require_positive(rule: str, margin: float) -> None:
    if not margin > 0:
        raise ValueError(f"{rule}: margin={margin}; give the largest difference that counts as none, above 0")


def _largest(values: Array) -> float:
    return float(np.abs(values).max(initial=1e-80))  # above 0, so that the cube of the rounding does not underflow
