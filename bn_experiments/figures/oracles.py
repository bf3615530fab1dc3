"""Oracles in figures: what theory says of a quantity, drawn beside what was measured."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from bn_experiments.claims.oracle import numbers
from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import Arm
from bn_experiments.records.quantities import NotMeasured, Quantity

ORACLE = Line2D([], [], color="#111111", linestyle=(0, (1, 1.5)), linewidth=1.6, label="theory")


def of_claims(
    arms: Mapping[str, Arm], claims: Sequence[Claim], metric: str, moment: str | None = None
) -> list[tuple[Quantity, NDArray]]:
    """The quantities of a metric of which a claim has an oracle, each with the oracle's numbers, () or (P,).

    The oracle of a claim with two quantities is of their difference, and no number of either.

    Args:
        arms: The arms by name.
        claims: The claims.
        metric: The metric.
        moment: The moment of the readings that are drawn; None: any.
    """
    found = []
    for claim in claims:
        quantity, *others = claim.quantities.values()
        if moment is not None and quantity.moment != moment:
            continue
        if claim.oracle is None or others or quantity.metric != metric or not set(quantity.arms) <= arms.keys():
            continue
        cells = [(arms[name].folder, arms[name].result) for name in quantity.arms]
        try:
            found.append((quantity, np.asarray(numbers(claim.oracle, quantity, cells))))
        except NotMeasured:
            continue
    return found
