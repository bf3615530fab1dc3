"""Largest: the largest value of a setting, such as a learning rate, at which each replica still trains."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from bn_experiments.statistics.evidence import Array
from bn_experiments.statistics.intervals import mean_interval


def largest_that_train(
    accuracies: Mapping[str, Array], values: Mapping[str, ArrayLike], chance: float
) -> dict[str, Array]:
    """The largest value at which each replica of each arm trains (R,); NaN for a replica that trains at none.

    A replica trains where it gains at least half of what the best arm gains over chance at its best value.

    Args:
        accuracies: The accuracies (R, P) of each arm at its P values, by the arm's name; NaN where there is none.
        values: The values (P,) of each arm in ascending order.
        chance: The accuracy that a network without skill does not exceed.

    >>> largest_that_train({"bn": np.array([[0.5, 0.9, 0.8]]), "none": np.array([[0.8, 0.1]])},
    ...                    {"bn": [1, 2, 4], "none": [1, 2]}, chance=0.1)
    {'bn': array([4.]), 'none': array([1.])}
    """
    half = (chance + max(float(np.nanmax(own.mean(0))) for own in accuracies.values())) / 2
    found = {}
    for name, own in accuracies.items():
        largest = np.where(own >= half, np.asarray(values[name], dtype=np.float64), -np.inf).max(1)  # (R,)
        found[name] = np.where(np.isfinite(largest), largest, np.nan)
    return found


def largest_in_words(largest: Array, values: ArrayLike) -> str:
    """Up to which value replicas train: the mean of the largest one with its 99% interval, geometric of rates.

    Where all values are above 0 it is the mean of their logarithms. Where all replicas agree, it is their value.

    Args:
        largest: The largest value of each replica (R,); NaN for a replica that trains at none.
        values: All values that were tried (P,) in ascending order.

    >>> largest_in_words(np.array([1.0, 1.0]), [0.1, 1.0, 10.0]), largest_in_words(np.array([2.0, np.nan]), [1.0, 2.0])
    ('up to 1, and not at 10', 'at no value in 1 of 2 replicas')
    """
    if np.isnan(largest).any():
        lost = int(np.isnan(largest).sum())
        return "at no value" if lost == len(largest) else f"at no value in {lost} of {len(largest)} replicas"
    tried = np.asarray(values, dtype=np.float64)
    bound = "up to at least " if largest.max() == tried[-1] else "up to "
    if np.ptp(largest) == 0:
        beyond = f", and not at {tried[tried > largest[0]][0]:g}" if largest[0] < tried[-1] else ""
        return f"{bound}{largest[0]:g}{beyond}"
    if tried[0] > 0:
        center, low, high = (float(np.exp(end)) for end in mean_interval(np.log(largest).tolist())[:3])
    else:
        center, low, high, _ = mean_interval(largest.tolist())
    return f"{bound}{center:.3g} [{low:.3g}, {high:.3g}]"
