"""Growth: whether a curve over depth is linear or exponential."""

import numpy as np

from bn_experiments.statistics.evidence import ROUNDING, Array


def akaike_difference(curves: Array) -> tuple[Array, float]:
    """The difference of Akaike's criterion for each curve, AIC_exponential - AIC_linear, and its rounding error.

    AIC = P log(RSS / P) + 2 x 2, with the least squared residuals of the logarithm, log a + b k or log(a + b k).

    Shapes: curves (R, P) to (R,). A curve with a value <= 0 gives NaN.

    Source: Burnham & Anderson 2002, section 2.2, doi:10.1007/b97636.
    """
    points = curves.shape[1]
    with np.errstate(all="ignore"):
        z = np.log(curves)
        floor = points * (1e-15 * (1 + np.abs(z).max(axis=1))) ** 2  # a perfect fit's RSS is the rounding of z
        z = z - z.mean(axis=1, keepdims=True)
        k = np.arange(points) - (points - 1) / 2
        exponential = ((z - (z @ k / (k @ k))[:, None] * k) ** 2).sum(axis=1)
        values = points * np.log(np.maximum(exponential, floor) / np.maximum(_linear_residual(z), floor))
        return values, ROUNDING * (points + float(np.abs(values).max(initial=0.0)))


def _linear_residual(z: Array) -> Array:
    """The least RSS (R,) of log(a + b k) to each centred curve z (R, P).

    The search is for w = log((a + b (P - 1)) / a) alone: then a + b k is positive, and the mean gives log a. RSS can
    have two minima in w. So the search takes a grid, and narrows it to the neighbours of its best point until float64
    ends. The best |w| is at most ptp z + 1: beyond it the curve is a step at one end, plus a logarithm of mean -1.
    """
    t = np.linspace(0, 1, z.shape[1])
    grid = np.linspace(-1, 1, 33)
    centre, half = np.zeros(len(z)), np.ptp(z, axis=1) + 2
    for _ in range(14):  # 16^14 > 2^53
        w = centre[:, None] + half[:, None] * grid  # (R, 33)
        curve = np.logaddexp(np.log1p(-t), w[:, :, None] + np.log(t))  # (R, 33, P)
        rss = ((z[:, None] - curve + curve.mean(axis=2, keepdims=True)) ** 2).sum(axis=2)  # (R, 33)
        centre, half = w[np.arange(len(w)), rss.argmin(axis=1)], half / 16
    return rss.min(axis=1)
