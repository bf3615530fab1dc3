"""Oracles of claims, what theory says that a quantity is, and the places of a family of arms on an axis."""

import inspect
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from bn_experiments.imports import function_at
from bn_experiments.records.identity import flat, is_number
from bn_experiments.records.quantities import Array, NotMeasured, Quantity, axis_labels, probes
from bn_experiments.records.results import Result
from bn_experiments.refusal import nearest, one_line, shown

PLACE_FORMS = "a key whose value is a number in each arm, such as model.depth, or log(model.depth)"
ORACLE_FORMS = "a number, a list of numbers, or the dotted path of a function of the configuration"


def unusable(oracle: Any) -> str | None:
    """Why an oracle is none of `ORACLE_FORMS`; None if it is one."""
    if isinstance(oracle, str):
        return None if function_at(oracle) is not None else _missing(oracle)
    numbers = oracle if isinstance(oracle, list) else [oracle]
    is_one = numbers and all(map(is_number, numbers))
    return None if is_one else "wrong value"


def numbers(oracle: float | list[float] | str, quantity: Quantity, cells: Sequence[tuple[Any, Result]]) -> Array:
    """The numbers of an oracle for a quantity, () or (P,).

    A function gets the resolved configuration of the quantity's arm, and gives one number, or a number by label of the
    probe's axis; where the quantity has several arms, it is asked once for each.

    Args:
        oracle: The oracle.
        quantity: The quantity that it is of.
        cells: The folder and the result of each arm of the quantity.

    Raises:
        NotMeasured: The function cannot be imported or called, or has no number for a label.
    """
    if not isinstance(oracle, str):
        return np.asarray(oracle, dtype=np.float64)
    function = function_at(oracle)
    if function is None:
        raise NotMeasured(f"the oracle {oracle} cannot be imported")
    found = []
    for folder, result in cells:
        try:
            answer = function(result.config)
            if isinstance(answer, Mapping):
                wanted = [quantity.label] if quantity.label else quantity.labels
                wanted = wanted or axis_labels(probes(folder), quantity.metric.partition("/")[0])
                answer = [answer[label] for label in wanted]
                answer = answer[0] if quantity.label else answer
            found.append(np.asarray(answer, dtype=np.float64))
        except Exception as error:
            raise NotMeasured(f"the oracle {oracle} has no number here ({one_line(error)})") from error
    return found[0] if len(found) == 1 else np.stack(found)


def places(over: str, cells: Sequence[Result]) -> Array:
    """Where the points of a curve over arms stand (P,): the value of a key in each arm, or its natural logarithm.

    Args:
        over: The key, such as `model.depth`, or `log(model.depth)`.
        cells: The result of each arm of the curve.

    Raises:
        NotMeasured: An arm has no such number.
    """
    logarithm = re.fullmatch(r"log\((.+)\)", over)
    key = logarithm[1] if logarithm else over
    found = []
    for result in cells:
        value = flat(result.config).get(key)
        if not is_number(value) or (logarithm and value <= 0):
            raise NotMeasured(f"{over} is no number where {key}={shown(value)}")
        found.append(value)
    return np.log(found) if logarithm else np.asarray(found, dtype=np.float64)


def _missing(path: str) -> str:
    """Which part of a dotted path cannot be imported, its module or its function, and the functions of the module."""
    place, _, name = path.rpartition(".")
    try:
        module = import_module(place)
    except (Exception, SystemExit) as error:
        return f"its module {place or path} cannot be imported ({one_line(error)})"
    own = [
        key for key, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__
    ]
    functions = [key for key in own if not key.startswith("_")]
    found = ", ".join([*functions, nearest(name, functions)]).removesuffix(", ")
    return f"there is no function {name} in {place}, which has {found or 'none'}"
