"""Curves: the replicas' numbers and curves that rules take, checked, paired, and judged at every point."""

import numpy as np
from numpy.typing import ArrayLike

from bn_experiments.statistics.evidence import ROUNDING, Array, Evidence, assess


def paired(
    rule: str, left: ArrayLike, right: ArrayLike, axes: tuple[str, ...], log: bool = False
) -> tuple[Array, float]:
    """The difference left - right, or that of their logarithms, (R,) or (R, P), and its rounding error."""
    a, b = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if a.ndim != len(axes) or b.ndim != len(axes):
        raise ValueError(f"{rule}: arrays of shape {a.shape} and {b.shape}; give ({', '.join(axes)})")
    if len(a) != len(b):
        raise ValueError(f"{rule}: {len(a)} replicas against {len(b)}; pair them by seed")
    if a.shape != b.shape:
        raise ValueError(f"{rule}: {a.shape[1]} points against {b.shape[1]}; measure both at the same points")
    with np.errstate(all="ignore"):  # values that are not finite, or have no logarithm, give NaN evidence
        if log:
            a, b = np.log(a), np.log(b)
        return a - b, ROUNDING * max(_largest(a), _largest(b))


def curves_of(rule: str, values: ArrayLike, points: int) -> Array:
    """The values as curves (R, P), of which a rule needs so many points at least."""
    curves = np.asarray(values, dtype=np.float64)
    if curves.ndim != 2 or curves.shape[1] < points:
        raise ValueError(f"{rule}: an array of shape {curves.shape}; give (replicas, points), {points} points or more")
    return curves


def slopes_of(rule: str, values: ArrayLike, over: ArrayLike | None, log: bool) -> tuple[Array, float]:
    """The slope of each replica's curve (R,) against `over` (P,), or else 0..P-1, and its rounding error."""
    curves = curves_of(rule, values, points=2)
    x = np.arange(curves.shape[1]) if over is None else np.asarray(over, dtype=np.float64)
    if x.shape != curves.shape[1:] or not np.isfinite(x).all() or np.ptp(x) == 0:
        raise ValueError(
            f"{rule}: over={x.tolist()}; give a number for each of {curves.shape[1]} points, not all equal"
        )
    centred = x - x.mean()
    weights = centred / (centred @ centred)
    with np.errstate(all="ignore"):  # values that are not finite give NaN evidence
        y = np.log(curves) if log else curves
        return (y * weights).sum(axis=1), ROUNDING * _largest(y) * float(np.abs(weights).sum())


def at_every_point(values: Array, low: float, high: float, rounding: float) -> Evidence:
    """The evidence that the mean of a curve (R, P) lies in the region (low, high) at every point.

    It is that of the point with the largest p. Where p is 1 at several points, their p against the claim rank them;
    where there is no p, the place of their estimates does, the one deepest outside the region first.
    """
    points = values.shape[1]
    if not np.isfinite(values).all():
        return assess(np.full(len(values), np.nan), low, high, rounding)
    found = [assess(values[:, j], low, high, rounding) for j in range(points)]

    def rank(j: int) -> tuple[float, ...]:
        inside = min(found[j].estimate - low, high - found[j].estimate)
        return (*np.nan_to_num([-found[j].p, found[j].p_against]), inside)

    at = min(range(points), key=rank)
    return found[at]._replace(p_against=float(np.minimum(1.0, points * found[at].p_against)), at=at)


def _largest(values: Array) -> float:
    return float(np.abs(values).max(initial=1e-80))  # above 0, so that the cube of the rounding does not underflow
