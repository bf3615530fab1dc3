"""Decisions: the outcome of a claim by its p, and Holm's correction over the claims of a family."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from bn_experiments.statistics.intervals import LEVEL

Outcome = Literal["holds", "fails", "inconclusive"]


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's p of each p, the step-down; a NaN stays one and does not count.

    p_(i) of m in ascending order becomes max_{j <= i} min(1, (m - j + 1) p_(j)). Source: Holm 1979,
    https://www.jstor.org/stable/4615733.

    >>> holm([0.01, float("nan"), 0.04])
    [0.02, nan, 0.04]
    """
    adjusted = np.array(ps, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(adjusted))
    ascending = tested[np.argsort(adjusted[tested])]
    factors = np.arange(len(tested), 0, -1)
    adjusted[ascending] = np.maximum.accumulate(np.minimum(1.0, factors * adjusted[ascending]))
    return adjusted.tolist()


def outcome_of(p: float, p_against: float) -> Outcome:
    """The outcome of a claim by the p for it and the p against it."""
    if p <= LEVEL:
        return "holds"
    return "fails" if p_against <= LEVEL else "inconclusive"
