"""Looks: a claim that is judged at several sample sizes, as replicas are added, and may be decided at any of them.

Who tests at 5% after 10, 20, 40 and 80 replicas, and stops at the first p below .05, errs in 14% of all cases. Here the
number K of looks is fixed before the first one, and each look is judged at 1 / K of the level (Bonferroni).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bn_experiments.statistics.decisions import Outcome, holm, outcome_of
from bn_experiments.statistics.evidence import Array
from bn_experiments.statistics.intervals import LEVEL


def p_over_looks(ps: ArrayLike, looks: int) -> Array:
    """The p of a claim over its looks so far, min_k min(1, K p_k).

    The looks share replicas, so their p depend on each other; the bound holds under any dependence. It is at most the
    level with no larger probability than the level where the null is true, at whichever look one stops.

    Shapes: ps (..., k) to (...), the looks so far on the last axis, k <= K. A NaN is a look without a p.

    Args:
        ps: The p of each look.
        looks: The number K of looks, fixed before the first one.

    Raises:
        ValueError: There are more p than looks, or none.

    Source: Dunn 1961, doi:10.1080/01621459.1961.10482090, for K looks; Jennison & Turnbull 2000, section 2.1.

    >>> float(p_over_looks([0.2, 0.004], looks=4)), float(p_over_looks([0.9], looks=4))
    (0.016, 1.0)
    """
    adjusted = _adjusted(ps, looks)
    return np.fmin.reduce(adjusted, axis=-1)


class Stop(NamedTuple):
    """Where a claim stands among others after the looks so far.

    Args:
        look: The index of the look that decided it; of the last one that was taken, if none did.
        outcome: Whether it holds or fails, or is inconclusive.
        p: The p of the outcome over the looks up to there, after Holm's correction; of an inconclusive claim the
            smaller one of p for and p against it.
    """

    look: int
    outcome: Outcome
    p: float


def stops(ps: Sequence[Sequence[tuple[float, float]]], looks: int) -> list[Stop]:
    """Takes the looks of the claims of one family one after another, and stops each claim where it is decided.

    A claim holds if its p is at most the level, and fails if the p against it is; without a p it is inconclusive, and
    does not count. At each look the p of every claim is that over its looks so far (see `p_over_looks`), and Holm's
    correction goes over all claims. A claim that is decided stays so: what its arms show at a later look is not asked.
    So the outcome is the same whether the replicas came in one command or in several.

    Args:
        ps: For each claim the p for it and against it at each look so far.
        looks: The number K of looks, fixed before the first one.

    >>> [stop.look for stop in stops([[(0.001, 1.0), (0.9, 1.0)], [(0.2, 1.0), (0.002, 1.0)]], looks=2)]
    [0, 1]
    """
    at = [0] * len(ps)
    found = np.full((2, len(ps)), np.nan)
    undecided = set(range(len(ps)))
    holds, fails = found.tolist()
    for k in range(max(map(len, ps), default=0)):
        for i in undecided:
            if k < len(ps[i]):
                at[i] = k
                found[:, i] = p_over_looks(np.transpose(ps[i][: k + 1]), looks)
        holds, fails = (holm(row.tolist()) for row in found)
        undecided = {i for i in undecided if outcome_of(holds[i], fails[i]) == "inconclusive"}
    reached = []
    for i, (p, against) in enumerate(zip(holds, fails, strict=True)):
        outcome = outcome_of(p, against)
        if outcome == "inconclusive":
            reached.append(Stop(at[i], outcome, float(np.fmin(p, against))))
            continue
        side = 0 if outcome == "holds" else 1  # by the look with the least p; Holm's factor may have come later
        look = int(np.nanargmin([both[side] for both in ps[i][: at[i] + 1]]))
        reached.append(Stop(look, outcome, p if outcome == "holds" else against))
    return reached


def first_decided(ps: ArrayLike, looks: int, level: float = LEVEL) -> NDArray[np.int64]:
    """The index of the first look at which K p_k is at most the level; -1 if there is none.

    Shapes: ps (..., k) to (...), the looks so far on the last axis, k <= K. A NaN is a look without a p.

    Args:
        ps: The p of each look.
        looks: The number K of looks, fixed before the first one.
        level: The level over all looks together.

    Raises:
        ValueError: There are more p than looks, or none.

    >>> int(first_decided([0.2, 0.002, 0.0001], looks=4)), int(first_decided([0.2, 0.004], looks=4))
    (1, -1)
    """
    decided = _adjusted(ps, looks) <= level
    return np.where(decided.any(axis=-1), decided.argmax(axis=-1), -1)


def _adjusted(ps: ArrayLike, looks: int) -> Array:
    """K p_k of each look, at most 1."""
    each = np.asarray(ps, dtype=np.float64)
    if not 1 <= each.shape[-1] <= looks:
        raise ValueError(f"looks: {each.shape[-1]} p for {looks} looks; give one for each look so far")
    return np.minimum(1.0, looks * each)
