"""Swept numbers in words: up to which value each arm trains, and whether a number helps an arm more than another."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from bn_experiments.claims import summary, tables
from bn_experiments.claims.contexts import ALL
from bn_experiments.claims.swept import Swept, trains_up_to
from bn_experiments.records.results import Result

UNITS = {"test/acc": "test accuracy, points", "test/loss": "test loss"}
TRAINS = (
    "A replica trains at a value where it gains at least half of what the best arm gains over chance at its best "
    "value. Where replicas differ, their mean stands with its 99% interval, of rates and the like the geometric one."
)
CHANGES = (
    "A change is that of an arm from the smallest value to another, paired by seed; what it is more than another arm's "
    "is an interaction, with p after Holm's correction over all interactions of the metric."
)


def headings(key: str, baseline: str) -> tuple[str, ...]:
    """The headings of the columns that `words` fills."""
    return (key, "arm", "change", "n", "more than" if baseline == ALL else f"more than {baseline}", "p", "detectable")


def words(row: Mapping[Any, Any], baseline: str) -> list[str]:
    """The cells of a row of `swept.changes` as text."""
    return [f"{row['start']:g} to {row['end']:g}", *summary.words(row, baseline, sign="+")[1:]]


def rows_of(changes: pd.DataFrame, found: Swept, metric: str) -> list[dict[Any, Any]]:
    """The rows of a swept number for a metric, where two arms or more have it."""
    if not len(changes):
        return []
    is_own = (changes["by"] == found.key) & (changes["metric"] == metric) & (changes["settings"] == found.settings)
    for group, option in found.groups.items():
        is_own &= changes[group] == option
    rows = changes[is_own]
    return rows.to_dict("records") if rows["baseline"].notna().any() else []


def question(found: Swept, metric: str, baseline: str) -> str:
    """What the table of changes answers."""
    whom = "another" if baseline == ALL else baseline
    return f"{found.name}: does {found.key} help an arm more than {whom}? {UNITS[metric]}"


def show(
    sweeps: Sequence[Swept],
    changes: pd.DataFrame,
    cells: Mapping[Path, Result],
    baseline: str,
    folders: Collection[Path],
    console: Console,
) -> None:
    """Prints what is said of the numbers that a command sweeps.

    Args:
        sweeps: The numbers that are swept in the sweep's folder.
        changes: Their rows (see `swept.changes`).
        cells: The finished cells, by folder.
        baseline: The name of the baseline arm, or all.
        folders: The folders of the command's cells.
        console: The console.
    """
    notes: dict[str, None] = {}
    for found in sweeps:
        own = [value for value, context in found.contexts.items() if {*folders} & {*context.arms.values()}]
        if len(own) < 2:
            continue
        if line := trains_up_to(found, cells):
            console.print(f"{found.name}: {line}", soft_wrap=True)
            notes[TRAINS] = None
        if rows := rows_of(changes, found, "test/acc"):
            by_end = [[words(row, baseline) for row in rows if row["end"] == end] for end in own]
            texts = [group for group in by_end if group]
            tables.show(console, question(found, "test/acc", baseline), headings(found.key, baseline), texts)
            notes[CHANGES] = None
    for note in notes:
        console.print(note, style="dim", soft_wrap=not console.is_terminal)


def markdown(sweeps: Sequence[Swept], changes: pd.DataFrame, cells: Mapping[Path, Result], baseline: str) -> list[str]:
    """The same of all numbers that are swept in a folder, as lines of Markdown."""
    lines: list[str] = []
    for found in sweeps:
        line = trains_up_to(found, cells)
        lines += ["", f"## {found.key} ({found.name})", "", f"{line}. {TRAINS}"] if line else []
        for metric in UNITS:
            if rows := rows_of(changes, found, metric):
                head = headings(found.key, baseline)
                lines += ["", f"## {question(found, metric, baseline)}", "", CHANGES, ""]
                lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
                lines += ["| " + " | ".join(words(row, baseline)) + " |" for row in rows]
    return lines
