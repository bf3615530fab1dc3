"""Comparisons of published numbers with measured numbers."""

from dataclasses import dataclass, replace

import numpy as np

from bn_experiments.claims.contexts import Context
from bn_experiments.claims.protocol import Published
from bn_experiments.records.quantities import measured
from bn_experiments.statistics.intervals import prediction_interval


@dataclass(frozen=True)
class Comparison:
    """Published numbers with the measured numbers of the same quantity.

    Args:
        published: The published numbers with their quantity.
        mean: The mean over replicas at each point.
        low: The lower end, at each point, of the 95% prediction interval for a single further run.
        high: The upper end of that interval at each point.
        n: The number of replicas.
        inside: Whether the published number lies in that interval, at each point.
        reason: The reason why there is no comparison; None if there is one.
    """

    published: Published
    mean: list[float]
    low: list[float]
    high: list[float]
    n: int
    inside: list[bool]
    reason: str | None = None


def compare(published: Published, context: Context) -> Comparison:
    """Compares published numbers with those of their arm, at the points that both have."""
    nothing = Comparison(published, [], [], [], 0, [])
    if published.arm not in context.arms:
        return replace(nothing, reason=context.absent[published.arm])
    try:
        values = measured(context.arms[published.arm], published)
    except ValueError as error:
        return replace(nothing, reason=str(error))
    values = values[:, None] if values.ndim == 1 else values  # (R, P)
    if lost := int((~np.isfinite(values)).any(axis=1).sum()):
        return replace(nothing, reason=f"{lost} of {len(values)} replicas have no such number")
    points = min(values.shape[1], len(published.values))
    found = [prediction_interval(values[:, i].tolist()) for i in range(points)]
    inside = [e.low <= number <= e.high for e, number in zip(found, published.values, strict=False)]
    means, lows, highs, _ = (list(column) for column in zip(*found, strict=True))
    return Comparison(published, means, lows, highs, len(values), inside)
