"""What is known before anything trains of the quantities and oracles of an experiment."""

import traceback
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from bn_experiments.claims.arms import is_of
from bn_experiments.claims.protocol import CURVES, FINAL, Claim, Protocol
from bn_experiments.imports import function_at
from bn_experiments.records.quantities import Quantity
from bn_experiments.refusal import Refusal, nearest, one_line

Cells = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]  # the choices of groups and the configuration of each


def unreadable(protocol: Protocol, cells: Cells, typed: Collection[str]) -> list[Refusal]:
    """A refusal for each quantity that the probes of its arm will not measure.

    Args:
        protocol: The protocol of the experiment.
        cells: The choices of groups and the configuration of each cell.
        typed: The keys that the command line sets: where it sets the probes or the epochs, the claims that need others
            are not judged, and give the reason.
    """
    found = [
        refusal
        for quantity in protocol.quantities
        if quantity.each is None and quantity.metric not in (*FINAL, *CURVES)
        for config in _configs(protocol, quantity, cells)
        if (refusal := _unreadable(quantity, config, typed))
    ]
    return list(dict.fromkeys(found))


def unanswered(protocol: Protocol, cells: Cells) -> tuple[list[Refusal], list[str]]:
    """A refusal for each oracle that fails on its arm, and a line for each claim that its theory does not cover.

    An oracle that raises a `Refusal` says that its theory does not cover an arm: the others may be judged nevertheless.
    """
    refusals, lines = [], []
    for i, claim in enumerate(protocol.claims):
        if not isinstance(claim.oracle, str):
            continue
        for config in _configs(protocol, next(iter(claim.quantities.values())), cells):
            try:
                _ask(claim, config)
            except Refusal as refusal:
                lines.append(f"not judged will be: {claim.claim} ({refusal})")
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                got = f"raises {type(error).__name__} in line {place.lineno} of {place.name} ({one_line(error)})"
                allowed = "a function of the configuration that gives a number, or a number for each label"
                key = f"experiment.claims[{i}].oracle"
                refusals.append(Refusal(key, got, allowed, "change it", value=claim.oracle))
    return list(dict.fromkeys(refusals)), list(dict.fromkeys(lines))


def _ask(claim: Claim, config: Mapping[str, Any]) -> None:
    """Asks the oracle of a claim, and raises what it raises, or a TypeError where it gives no numbers."""
    function = function_at(str(claim.oracle))
    assert function is not None
    answer = function(config)
    values = list(answer.values()) if isinstance(answer, Mapping) else answer
    if np.asarray(values).dtype.kind not in "iuf":
        raise TypeError(f"it gives {type(answer).__name__}, no numbers")


def _configs(protocol: Protocol, quantity: Quantity, cells: Cells) -> list[Mapping[str, Any]]:
    """The configurations of the cells of a quantity's arms."""
    selectors = [protocol.arms[arm] for arm in quantity.arms]
    return [config for choices, config in cells if any(is_of(each, choices, config) for each in selectors)]


def _unreadable(quantity: Quantity, config: Mapping[str, Any], typed: Collection[str]) -> Refusal | None:
    """Why the probes of one cell will not measure a quantity, where that is known."""
    probe, _, name = quantity.metric.partition("/")
    if probe not in config["probes"]:
        if any(key.split(".")[0] == "probes" for key in typed):
            return None
        got, allowed = f"no probe of it measures {quantity.metric}", ", ".join(config["probes"]) or "none: probes=[]"
        return Refusal("experiment", got, allowed, f"add {probe} to its probes")
    kind = function_at(config["probes"][probe]["_target_"])
    known = getattr(kind, "quantities", ())
    if known and name not in known:
        metrics = [f"{probe}/{each}" for each in known]
        remedy = nearest(quantity.metric, metrics) or "change it"
        return Refusal("experiment", f"{probe} has no quantity {name}", ", ".join(metrics), remedy)
    is_trained = config["trainer"]["max_epochs"] > 0 or "trainer.max_epochs" in typed
    if quantity.moment in ("late", "spread") and not is_trained:
        got = f"{quantity.metric} has no moment {quantity.moment} with trainer.max_epochs=0"
        return Refusal("experiment", got, "start or end, of networks that are not trained", "change the moment")
    return None
