"""Statements: claims as one types them on a command line, such as `bn > none by 0.01 on test_acc`."""

import re
from dataclasses import dataclass

from bn_experiments.refusal import Refusal
from bn_experiments.statistics.evidence import Array, Evidence
from bn_experiments.statistics.rules import difference, equivalence

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
GRAMMAR = re.compile(
    r"(?P<left>.+?)\s+(?P<sign>[<>=])\s+(?P<right>.+?)"
    rf"(?:\s+(?P<word>by|within)\s+(?P<number>{NUMBER}))?"
    r"(?:\s+on\s+(?P<metric>.+?))?"
    rf"(?:\s+smallest\s+(?P<smallest>{NUMBER}))?"
)
EXAMPLES = ("bn > none on test_acc", "bn < none by 0.01 on test_loss", "bn = none within 0.01 on test_acc")


@dataclass(frozen=True)
class Statement:
    """A claim about two arms and a metric.

    Args:
        text: The claim as it was typed.
        left: The name of the arm that is claimed to have the larger mean.
        right: The name of the other arm.
        metric: The name of the metric; None if the claim names none.
        rule: The name of the rule, difference or equivalence.
        number: The bound of a difference, or the margin of an equivalence, in the metric's unit.
        smallest: The smallest effect of interest beyond the bound; None if the claim names none.
    """

    text: str
    left: str
    right: str
    metric: str | None
    rule: str
    number: float
    smallest: float | None = None

    def evidence(self, left: Array, right: Array) -> Evidence:
        """The evidence of the rule on the paired numbers (R,) of both arms."""
        if self.rule == "equivalence":
            return equivalence(left, right, margin=self.number)
        return difference(left, right, above=self.number)


def parse(text: str) -> Statement:
    """The claim that a text states.

    `a > b` says that the mean of a - b is above 0, and `a > b by 0.01` that it is above .01; `a < b` is `b > a`;
    `a = b within 0.01` says that the mean of a - b lies within .01 of 0. Behind these, `on metric`, and behind that
    `smallest 0.02`, the smallest effect of interest.

    Raises:
        Refusal: It states none.

    >>> found = parse("bn < none by 0.01 on test_loss")
    >>> found.left, found.right, found.metric, found.rule, found.number
    ('none', 'bn', 'test_loss', 'difference', 0.01)
    """
    found = GRAMMAR.fullmatch(text.strip())
    if found is None:
        raise _refusal(text, "is no claim")
    left, sign, right, word, number, metric, smallest = found.groups()
    value, effect = float(number or 0), float(smallest) if smallest else None
    if (sign == "=") != (word == "within"):
        raise _refusal(text, "has no margin after within" if sign == "=" else "has within beside > or <, not by")
    if sign == "=" and not value > 0:
        raise _refusal(text, "has a margin that is not above 0")
    if effect is not None and (sign == "=" or not effect > 0):
        raise _refusal(
            text, "has a margin and smallest" if sign == "=" else "has a smallest effect that is not above 0"
        )
    if sign == "<":
        left, right = right, left
    return Statement(text, left, right, metric, "equivalence" if sign == "=" else "difference", value, effect)


def _refusal(text: str, got: str) -> Refusal:
    allowed = ", or ".join(f'"{example}"' for example in EXAMPLES)
    return Refusal("--claim", got, allowed, "change it", value=text)
