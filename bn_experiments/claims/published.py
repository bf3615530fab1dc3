"""Comparisons: published numbers beside the measured ones."""

from dataclasses import dataclass, replace

from bn_experiments.claims.protocol import Published
from bn_experiments.claims.verdicts import Group
from bn_experiments.records.quantities import measured
from bn_experiments.statistics.intervals import prediction_interval


@dataclass(frozen=True)
class Comparison:
    """Published numbers beside the measured ones.

    Args:
        published: The numbers, and what they belong to.
        mean: Of the replicas, a number a point.
        low: Of the 95% prediction interval: where a single further run would lie.
        high: The same.
        n: Replicas behind it.
        inside: Whether the published number lies in that interval, a point each.
        reason: Why there is no comparison.
    """

    published: Published
    mean: list[float]
    low: list[float]
    high: list[float]
    n: int
    inside: list[bool]
    reason: str | None = None


def compare(published: Published, group: Group) -> Comparison:
    """Published numbers beside those of the arm that they belong to, as far as both go."""
    nothing = Comparison(published, [], [], [], 0, [])
    if published.arm not in group.arms:
        return replace(nothing, reason=f"arm {published.arm} was not trained")
    try:
        values = measured(group.arms[published.arm], published)
    except ValueError as error:
        return replace(nothing, reason=str(error))
    values = values[:, None] if values.ndim == 1 else values
    points = min(values.shape[1], len(published.values))
    found = [prediction_interval(values[:, i].tolist()) for i in range(points)]
    inside = [e.low <= number <= e.high for e, number in zip(found, published.values, strict=False)]
    means, lows, highs, _ = (list(column) for column in zip(*found, strict=True))
    return Comparison(published, means, lows, highs, len(values), inside)
