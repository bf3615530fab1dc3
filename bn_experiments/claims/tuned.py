"""Tuned arms in words: where each arm is judged, and whether its best value lies at the edge of what was tried."""

from collections.abc import Mapping
from typing import Any

from bn_experiments.refusal import shown

WIDER = {"low": ("lower", "down"), "high": ("upper", "up")}
EXPLANATION = (
    " An arm stands at the values that were best on validation, among those that were tried with other seeds than the "
    "ones that are judged."
)


def at_edges(arm: str, tuned: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A clause for each value of an arm that lies at an end of what was tried, or could be.

    >>> at_edges("none", {"optimizer.lr": {"value": 10.0, "edge": "high", "of": 9}})
    ['none is best at the upper end of what was tried of optimizer.lr, 10.0: widen tune.optimizer.lr upwards']
    """
    return [
        f"{arm} is best at the {WIDER[one['edge']][0]} end of what was tried of {key}, {shown(one['value'])}: "
        f"widen tune.{key} {WIDER[one['edge']][1]}wards"
        for key, one in tuned.items()
        if one["edge"]
    ]
