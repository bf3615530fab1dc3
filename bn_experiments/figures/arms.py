"""Arms: the cells that are compared, how the figures tell them apart, and estimates of what was measured of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bn_experiments.claims.protocol import Published
from bn_experiments.records.identity import BASELINE
from bn_experiments.records.quantities import NotMeasured, Quantity, axis_labels, measured, probes
from bn_experiments.records.results import Result
from bn_experiments.statistics.intervals import mean_interval

# Okabe & Ito 2008, safe for the colour-blind
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES: tuple[Any, ...] = ("-", "-.", (0, (7, 2)), (0, (4, 1, 1, 1, 1, 1)), (0, (2, 1)), (0, (9, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
GREYS, GREY_MARKERS, GREY_DASHES = (
    ("#444444", "#8a8a8a", "#666666", "#b0b0b0"),
    ("X", "x", "P", "+"),
    ("--", ":", "-.", "-"),
)
CROSS_ENTROPY = "bn_experiments.training.losses.cross_entropy"
PERCENT = (0.0, 100.0)  # between which an accuracy lies
MOMENTS = {"start": "initial networks", "end": "after the last epoch"}


@dataclass(frozen=True)
class Look:
    """Colour, line style and marker."""

    color: str
    dash: Any
    marker: str


@dataclass(frozen=True)
class Arm:
    """A finished cell under the name that it has among those it is compared with.

    Args:
        name: The name of the arm.
        folder: The folder of the cell.
        result: The record of the cell.
        look: The colour, line style and marker of the arm in every figure.
        published: The numbers that were published of the arm.
    """

    name: str
    folder: Path
    result: Result
    look: Look
    published: Sequence[Published] = ()

    @property
    def title(self) -> str:
        """The name for a reader, with the number of replicas that diverged, which a figure may not show."""
        diverged = sum(self.result.diverged)
        return f"{self.name} ({diverged} of {len(self.result.seeds)} diverged)" if diverged else self.name

    def measured(self, metric: str, **of: Any) -> NDArray[np.float64]:
        """A quantity of each replica (see `records.quantities.measured`)."""
        return measured(self.folder, Quantity(self.name, metric, **of))

    def labels(self, probe: str) -> list[str]:
        """The labels of a probe's axis."""
        return axis_labels(probes(self.folder), probe)


def loss_unit(arms: Iterable[Arm]) -> str:
    """The unit of the losses of arms: nats where all are cross-entropies, and else none."""
    targets = {arm.result.config.get("loss", {}).get("_target_", CROSS_ENTROPY) for arm in arms}
    return "nats" if targets <= {CROSS_ENTROPY} else ""


def looks(norms: Mapping[str, str]) -> dict[str, Look]:
    """A look for each arm, by name: dark grey and dashed without a norm, a colour each with one.

    >>> looks({"bn": "bn", "none": "none"})["none"]
    Look(color='#444444', dash='--', marker='X')
    """
    found, plain, coloured = {}, 0, 0
    for name, norm in norms.items():
        if norm == BASELINE:
            found[name] = Look(*(each[plain % 4] for each in (GREYS, GREY_DASHES, GREY_MARKERS)))
            plain += 1
        else:
            i, turn = coloured % len(PALETTE), coloured // len(PALETTE)
            found[name] = Look(PALETTE[i], DASHES[(i + turn) % 6], MARKERS[(i + turn) % 6])
            coloured += 1
    return found


def points(values: NDArray[np.float64], *, within: tuple[float, float] = (-np.inf, np.inf), **of: Any) -> pd.DataFrame:
    """The mean and 99% interval of each of P points.

    Args:
        values: The measurements (R, P); what is not finite is left out.
        within: The least and the largest value that there can be, at which intervals end.
        of: Further columns, each one value or P of them.

    Returns:
        P rows with the further columns, mean, low, high and n.
    """
    found = [mean_interval(column[np.isfinite(column)].tolist()) for column in values.T]
    estimates = pd.DataFrame(found, columns=["mean", "low", "high", "n"])
    estimates[["low", "high"]] = estimates[["low", "high"]].clip(*within)
    return pd.concat([pd.DataFrame(of, index=estimates.index), estimates], axis=1)


def arms_in(data: pd.DataFrame, arms: Mapping[str, Arm]) -> list[Arm]:
    """The arms that have rows in a table of estimates, in the order of the arms."""
    names = set(data["arm"])
    return [arm for arm in arms.values() if arm.name in names]


def measured_in(arms: Mapping[str, Arm], metric: str, **of: Any) -> Iterator[tuple[Arm, NDArray[np.float64]]]:
    """The arms of which a quantity was measured, each with its values."""
    for arm in arms.values():
        with suppress(NotMeasured):
            yield arm, arm.measured(metric, **of)


def joined(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all parts.

    Raises:
        NotMeasured: There are no parts.
    """
    parts = list(parts)
    if not parts:
        raise NotMeasured("nothing of it was measured")
    return pd.concat(parts, ignore_index=True)


def by_moment(arms: Mapping[str, Arm], probe: str, quantity: str, axis: str) -> tuple[pd.DataFrame, list[str]]:
    """The estimates of a quantity at every moment, and the labels of its axis.

    Args:
        arms: The arms by name.
        probe: The name of the probe.
        quantity: A quantity (R, L) that the probe measured.
        axis: The name of the axis L, such as layer.

    Returns:
        Rows of moment, arm, label (under the name of the axis), mean, low, high and n; and the labels of the arm that
        has most of them, followed by those that only other arms have.

    Raises:
        NotMeasured: No arm has the quantity.
    """
    parts, labels = [], []
    for moment in MOMENTS:
        for arm, values in measured_in(arms, f"{probe}/{quantity}", moment=moment):
            if moment == "end" and probes(arm.folder)[f"{probe}/epochs"].tolist() == [0]:
                continue  # the only reading is the start's
            labels.append(arm.labels(probe))
            own: dict[str, Any] = {"moment": moment, "arm": arm.name, axis: labels[-1]}
            parts.append(points(values, **own))
    labels.sort(key=len, reverse=True)
    return joined(parts), list(dict.fromkeys(label for each in labels for label in each))
