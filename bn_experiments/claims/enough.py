"""Enough: how many replicas would decide an inconclusive claim, and how long they would train."""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from bn_experiments.records.results import Result
from bn_experiments.statistics import power
from bn_experiments.statistics.evidence import Evidence


@dataclass(frozen=True)
class Enough:
    """The replicas that would decide a claim, with 80% power.

    Args:
        replicas: The number of replicas, all seeds together; None if it is above `power.MOST`.
        effect: The effect for which this holds (see `power.Plan`), in the unit of the estimate.
        is_observed: Whether this is the observed effect, for the claim names none.
        level: The level at which the claim is decided.
        minutes: The minutes in which the cells of the claim would train the replicas that they lack, one cell after
            another; None where this is not known.
        anew: Whether these need a folder of their own, for this one is judged at fewer.
    """

    replicas: int | None
    effect: float
    is_observed: bool
    level: float
    minutes: float | None = None
    anew: bool = False

    def __str__(self) -> str:
        if self.replicas is None:
            text = f"more than {power.MOST} replicas would decide it"
        else:
            text = f"about {self.replicas} replicas would decide it"
        if self.is_observed:
            text += " if the observed effect is the true one"
        if self.replicas is None or self.minutes is None:
            return text
        minutes = max(1, math.ceil(self.minutes))
        where = " under another name=" if self.anew else ""
        return f"{text}, {minutes:,} minute{'s' * (minutes > 1)}: replicas={self.replicas}{where}"

    def timed(self, cells: Collection[Result]) -> "Enough":
        """The same with the minutes of the cells that the claim needs, from the time that a replica of each took."""
        if self.replicas is None:
            return self
        further = [max(0, self.replicas - len(cell.seeds)) * cell.timing["train_s"] / len(cell.seeds) for cell in cells]
        return replace(self, minutes=sum(further) / 60)


def enough(found: Evidence, level: float, smallest: float | None) -> Enough | None:
    """What would decide a claim; None if its evidence has no interval, no spread or no region.

    Args:
        found: The evidence of the claim.
        level: The level at which it is decided.
        smallest: The smallest effect of interest that the claim names.
    """
    plan = power.plan(found, level, smallest)
    return Enough(*plan, level) if plan else None
