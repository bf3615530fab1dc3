"""Published numbers beside the measured ones, as tables."""

import math
from collections.abc import Mapping
from typing import Any

from bn_experiments.claims.published import Comparison
from bn_experiments.report import words
from bn_experiments.report.contents import Section
from bn_experiments.report.drawings import quantities


def compared(section: Section) -> dict[str, list[dict[str, Any]]]:
    """The published numbers beside the measured ones: curves by quantity, then what is a single number."""
    named = quantities(section.arms.values())
    curves: dict[str, list[dict[str, Any]]] = {}
    single: list[dict[str, Any]] = []
    for comparison in section.comparisons:
        table = _table(comparison, section, named)
        if len(comparison.published.values) == 1 or comparison.reason:
            single.append(table)
        else:
            curves.setdefault(table["quantity"], []).append(table)
    return {**curves, "": single} if single else curves


def _table(comparison: Comparison, section: Section, named: Mapping[str, str]) -> dict[str, Any]:
    published, quantity = comparison.published, words.quantity(comparison.published, named)
    factor = 100 if published.is_of_accuracies else 1
    quantity += ", %" if published.is_of_accuracies else ""
    about = {"arm": published.arm, "quantity": quantity, "note": published.note, "n": comparison.n}
    values = words.as_published([factor * value for value in published.values])
    if comparison.reason:
        return {**about, "reason": comparison.reason, "published": ", ".join(values), "rows": []}
    heading, labels = words.axis(comparison, section.arms)
    estimates = [[factor * value for value in own] for own in (comparison.mean, comparison.low, comparison.high)]
    digits = words.decimals([*estimates[0], *(factor * value for value in published.values)])
    numbers = zip(labels, values, *estimates, comparison.inside, strict=False)
    rows = [
        {
            "label": label,
            "published": value,
            "mean": words.number(mean, digits),
            "interval": words.between(low, high, digits),
            "inside": None if math.isnan(low) else inside,  # NaN below two replicas
        }
        for label, value, mean, low, high, inside in numbers
    ]
    return {**about, "reason": None, "heading": heading, "rows": rows}
