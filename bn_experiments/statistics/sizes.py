"""Sample sizes: the numbers of replicas at which one looks whether a claim is decided (see `looks`)."""

import re
from itertools import pairwise
from typing import Any


def parsed(text: Any) -> tuple[int, ...] | None:
    """The sample sizes that a text, or a list, stands for; None where it stands for none.

    >>> parsed("10..80"), parsed([6, 12, 30]), parsed("80..10"), parsed([10, 10]), parsed(10)
    ((10, 20, 40, 80), (6, 12, 30), None, None, None)
    """
    if isinstance(text, str) and (found := re.fullmatch(r"\s*(\d+)\s*\.\.\s*(\d+)\s*", text)):
        first, last = map(int, found.groups())
        return doubling(first, last) if 1 <= first < last else None
    if not isinstance(text, list | tuple) or not all(type(size) is int for size in text):
        return None
    rises = len(text) > 1 and text[0] >= 1 and all(one < other for one, other in pairwise(text))
    return tuple(text) if rises else None


def doubling(first: int, last: int) -> tuple[int, ...]:
    """The sample sizes at which one looks: each is twice the one before it, and the last ends them.

    Args:
        first: The number of replicas at the first look, at least 1.
        last: The number at the last look, at least `first`.

    Raises:
        ValueError: The numbers are not in this order.

    >>> doubling(10, 80), doubling(10, 50), doubling(6, 6)
    ((10, 20, 40, 80), (10, 20, 40, 50), (6,))
    """
    if not 1 <= first <= last:
        raise ValueError(f"doubling: from {first} to {last} replicas; give 1 <= first <= last")
    sizes = [first]
    while sizes[-1] < last:
        sizes.append(min(2 * sizes[-1], last))
    return tuple(sizes)
