"""Imports: what a dotted path in a configuration names, or the line that says why it names nothing."""

import sys
from collections.abc import Callable
from typing import Any

from hydra.utils import get_object

from bn_experiments.refusal import Refusal, nearest, one_line


def imported(path: str, key: str, allowed: str) -> Any:
    """What a dotted path names.

    Args:
        path: The path, such as `torch.nn.LayerNorm`.
        key: The key that has it.
        allowed: What the key may name.

    Raises:
        Refusal: It cannot be imported. Where the module can be, the line has the nearest of its names.
    """
    try:
        return get_object(path)
    except (Exception, SystemExit) as error:  # a script without a main guard ends the process
        got, remedy = f"cannot be imported ({one_line(error)})", "check its spelling, or install its package"
        place, _, name = str(path).rpartition(".")
        names = vars(sys.modules[place]) if place in sys.modules else {}  # else the module is what cannot be imported
        if names and name not in names:
            got = f"there is no {name} in {place}"
            remedy = nearest(name, names) or remedy
        raise Refusal(key, got, allowed, remedy, value=path) from error


def function_at(path: str) -> Callable[..., Any] | None:
    """The function or class that a dotted path names; None where it names neither, or cannot be imported."""
    try:
        found = get_object(path)
    except (Exception, SystemExit):
        return None
    return found if callable(found) else None
