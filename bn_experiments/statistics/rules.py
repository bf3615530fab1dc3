"""Rules: each turns measurements into evidence for a claim, which then holds, fails or is inconclusive.

Each rule is a pure function on arrays with a replica axis R. It computes one statistic for each replica, and the claim
says that the mean of this statistic lies in a region. A claim holds if p of the null that the mean lies outside the
region is at most .01 after Holm's correction. It fails if p of the null that the mean lies inside the region is.
Otherwise it is inconclusive.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from bn_experiments.statistics.curves import at_every_point, curves_of, paired, slopes_of
from bn_experiments.statistics.evidence import Evidence, assess
from bn_experiments.statistics.growth import akaike_difference


def difference(left: ArrayLike, right: ArrayLike, *, above: float = 0.0, log: bool = False) -> Evidence:
    """The mean of left_i - right_i over replicas i is above `above`.

    Args:
        left: One value for each replica (R,).
        right: The values of the same replicas (R,), in the same order.
        above: The bound, in the values' unit.
        log: Whether the natural logarithms of the values are compared, so that the bound is one of their ratio.

    Raises:
        ValueError: The arrays differ in shape, or have a second axis.

    >>> [round(x, 3) for x in difference([4.0, 5.0, 6.0], [2.0, 2.0, 2.0])[:5]]
    [3.0, -2.73, 8.73, 3, 0.035]
    """
    values, rounding = paired("difference", left, right, ("R",), log)
    return assess(values, above, np.inf, rounding)


def interaction(
    left: ArrayLike,
    right: ArrayLike,
    other_left: ArrayLike,
    other_right: ArrayLike,
    *,
    above: float = 0.0,
    log: bool = False,
) -> Evidence:
    """The mean of (left_i - right_i) - (other_left_i - other_right_i) over replicas i is above `above`.

    It is a difference of differences: whether the left arm gains more over the right one here than in another setting,
    such as with another optimizer.

    Args:
        left: One value for each replica (R,).
        right: The values of the same replicas (R,), in the same order.
        other_left: The values of the left arm in the other setting (R,).
        other_right: The values of the right arm in the other setting (R,).
        above: The bound, in the values' unit.
        log: Whether the natural logarithms of the values are compared.

    Raises:
        ValueError: The arrays differ in shape, or have a second axis.

    >>> interaction([4.0, 5.0], [1.0, 1.0], [2.0, 3.0], [1.0, 1.0]).estimate
    2.0
    """
    here, rounding = paired("interaction", left, right, ("R",), log)
    there, other_rounding = paired("interaction", other_left, other_right, ("R",), log)
    if len(here) != len(there):
        raise ValueError(f"interaction: {len(here)} replicas against {len(there)}; pair them by seed")
    return assess(here - there, above, np.inf, rounding + other_rounding)


def equivalence(
    left: ArrayLike, right: ArrayLike, *, margin: float, near: ArrayLike = 0.0, log: bool = False
) -> Evidence:
    """The mean of left_i - right_i over replicas i is within (near - margin, near + margin).

    These are the two one-sided tests at 0.5% each, since the whole 99% interval must lie inside. Of curves this is
    judged at every point, as in `agreement`, with the distance of their difference from `near` as the estimate.
    Source: Schuirmann 1987, doi:10.1007/BF01068419.

    Args:
        left: One value for each replica (R,), or one curve (R, P).
        right: The values of the same replicas, in the same order.
        margin: The largest distance that counts as none, > 0, in the values' unit.
        near: The difference that there should be, in the values' unit; of curves one number or one at each point (P,).
        log: Whether the natural logarithms of the values are compared, so that `near` and the margin are those of
            their ratio.

    Raises:
        ValueError: The arrays or `near` differ in shape, or the margin is not positive.

    >>> round(equivalence([1.0, 2.0, 3.0], [1.1, 2.0, 2.9], margin=0.5).p, 3)
    0.013
    >>> equivalence([3.0, 4.0, 5.0], [1.0, 2.0, 3.0], margin=0.5, near=2.0).p
    0.0
    """
    _require_positive("equivalence", margin)
    axes = ("R", "P") if np.ndim(left) == 2 else ("R",)
    values, rounding = paired("equivalence", left, right, axes, log)
    expected = np.asarray(near, dtype=np.float64)
    if expected.shape not in ((), values.shape[1:]):
        raise ValueError(f"equivalence: a difference of the shape {values.shape} near one of {expected.shape}")
    if values.ndim == 2:
        return at_every_point(values - expected, -margin, margin, rounding)
    return assess(values, float(expected) - margin, float(expected) + margin, rounding)


def slope(
    values: ArrayLike,
    *,
    over: ArrayLike | None = None,
    log: bool = False,
    above: float | None = None,
    near: float | None = None,
    margin: float | None = None,
) -> Evidence:
    """The mean least-squares slope is above `above`, or within (near - margin, near + margin).

    The slope of a replica is sum_k (x_k - mean x) y_k / sum_k (x_k - mean x)^2.

    Args:
        values: One curve for each replica (R, P), P >= 2.
        over: Where the points stand, x (P,); None: at 0..P-1.
        log: Whether y is the natural logarithm of the values; the slope is then the rate of growth per unit of x, and
            the exponent where x is a logarithm too.
        above: The bound, in y's unit per unit of x.
        near: The middle of the region, in place of a bound.
        margin: The largest distance from `near` that counts as none, > 0.

    Raises:
        ValueError: The region is not given by either `above` or both `near` and `margin`, the margin is not positive,
            the shape is not (R, P >= 2), or `over` has another number of points, or the same one P times.

    >>> found = slope([[1.0, 2.0, 4.0], [3.0, 6.0, 12.0]], log=True, above=0.5)
    >>> round(found.estimate, 3), found.p
    (0.693, 0.0)
    """
    if (above is None) == (near is None) or (near is None) != (margin is None):
        raise ValueError(f"slope: above={above}, near={near}, margin={margin}; give above, or near and margin")
    slopes, rounding = slopes_of("slope", values, over, log)
    if above is not None:
        return assess(slopes, above, np.inf, rounding)
    assert near is not None
    assert margin is not None
    _require_positive("slope", margin)
    return assess(slopes, near - margin, near + margin, rounding)


def slope_difference(
    left: ArrayLike, right: ArrayLike, *, over: ArrayLike | None = None, log: bool = False, above: float = 0.0
) -> Evidence:
    """The mean of slope(left_i) - slope(right_i) over replicas i is above `above`.

    The slope of a replica is that of `slope`.

    Args:
        left: One curve for each replica (R, P), P >= 2.
        right: The curves of the same replicas (R, P), in the same order.
        over: Where the points of both stand (P,); None: at 0..P-1.
        log: Whether the slopes are those of the natural logarithms.
        above: The bound, in the unit of the curve per unit of `over`.

    Raises:
        ValueError: The arrays differ in shape, their shape is not (R, P >= 2), or `over` is not as for `slope`.

    >>> slope_difference([[1.0, 2.0, 3.0], [1.0, 3.0, 5.0]], [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]).estimate
    1.5
    """
    paired("slope_difference", left, right, ("R", "P"))  # which refuses what differs in shape
    slopes, rounding = slopes_of("slope_difference", left, over, log)
    others, other_rounding = slopes_of("slope_difference", right, over, log)
    return assess(slopes - others, above, np.inf, rounding + other_rounding)


def agreement(values: ArrayLike, oracle: ArrayLike, *, margin: float, log: bool = False) -> Evidence:
    """The mean curve over replicas is within (-margin, margin) of the oracle's at every point.

    At each point j these are the two one-sided tests of `equivalence`, of values_ij - oracle_j; over the points it is
    the intersection-union test: p is the largest p of all points and needs no correction. Estimate, interval and p are
    those of the point with that p, `at`, as a distance from the oracle. Against the claim speaks a single point, which
    is chosen from P points: `p_against` is that point's, times P (Bonferroni).
    Source: Berger 1982, doi:10.1080/00401706.1982.10487790.

    Args:
        values: One curve for each replica (R, P), P >= 1, or one number (R,).
        oracle: The curve that it should be (P,), or one number for all points.
        margin: The largest distance that counts as none, > 0, in the values' unit.
        log: Whether the natural logarithms of values and oracle are compared, so that the margin is one of their ratio.

    Raises:
        ValueError: The oracle has another number of points, the margin is not positive, or the shape is not (R, P >= 1)
            or (R,).

    >>> found = agreement([[1.0, 2.2], [1.1, 2.0], [0.9, 2.1]], [1.0, 2.0], margin=5.0)
    >>> round(found.estimate, 3), found.at, found.p < 0.01
    (0.1, 1, True)
    """
    _require_positive("agreement", margin)
    measured, expected = np.asarray(values, dtype=np.float64), np.asarray(oracle, dtype=np.float64)
    curves = curves_of("agreement", measured[:, None] if measured.ndim == 1 else measured, points=1)
    if expected.shape not in ((), (1,), curves.shape[1:]):
        raise ValueError(f"agreement: {curves.shape[1]} points against an oracle of the shape {expected.shape}")
    distances, rounding = paired("agreement", curves, np.broadcast_to(expected, curves.shape), ("R", "P"), log)
    return at_every_point(distances, -margin, margin, rounding)


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
    values, rounding = akaike_difference(curves_of("linear_over_exponential", values, points=3))
    return assess(values, 0.0, np.inf, rounding)


def exponential_over_linear(values: ArrayLike) -> Evidence:
    """An exponential curve fits better than a linear one: the mean of AIC_linear - AIC_exponential is above 0.

    Arguments and errors are those of `linear_over_exponential`: one curve for each replica (R, P), P >= 3.

    >>> exponential_over_linear([[1.0, 2.0, 4.0, 8.0], [2.0, 6.0, 18.0, 54.0], [3.0, 1.5, 0.75, 0.375]]).p < 0.05
    True
    """
    values, rounding = akaike_difference(curves_of("exponential_over_linear", values, points=3))
    return assess(-values, 0.0, np.inf, rounding)


def ordering(upper: ArrayLike, lower: ArrayLike) -> Evidence:
    """The mean of upper_ij - lower_ij over replicas i is above 0 at every point j.

    This is the intersection-union test: p is the largest p of all points and needs no correction. Estimate, interval
    and p are those of the point with that p, `at`. Against the claim speaks a single point, which is chosen from P
    points: `p_against` is that point's, times P (Bonferroni).
    Source: Berger 1982, doi:10.1080/00401706.1982.10487790.

    Args:
        upper: One curve for each replica (R, P), P >= 1.
        lower: The curves of the same replicas (R, P), in the same order.

    Raises:
        ValueError: The arrays differ in shape, or their shape is not (R, P >= 1).

    >>> ordering([[2.0, 1.0], [2.2, 1.3], [2.1, 1.1]], [[1.0, 1.0], [1.0, 1.2], [1.0, 1.1]]).at
    1
    """
    values, rounding = paired("ordering", upper, lower, ("R", "P"))
    return at_every_point(curves_of("ordering", values, points=1), 0.0, np.inf, rounding)


RULES: dict[str, Callable[..., Evidence]] = {
    rule.__name__: rule
    for rule in (
        difference,
        interaction,
        equivalence,
        agreement,
        slope,
        slope_difference,
        linear_over_exponential,
        exponential_over_linear,
        ordering,
    )
}


def _require_positive(rule: str, margin: float) -> None:
    if not margin > 0:
        raise ValueError(f"{rule}: margin={margin}; give the largest difference that counts as none, above 0")
