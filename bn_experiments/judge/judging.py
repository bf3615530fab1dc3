"""Judging: the verdicts on statements about a table, and the table of its arms beside a baseline."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from bn_experiments.claims import summary, tables, verdicts
from bn_experiments.claims.verdicts import Verdict
from bn_experiments.judge.rows import listed
from bn_experiments.judge.statements import Statement, parse
from bn_experiments.judge.table import Table, read
from bn_experiments.records.identity import BASELINE
from bn_experiments.refusal import Refusal, nearest
from bn_experiments.statistics.evidence import Array, Evidence
from bn_experiments.statistics.intervals import mean_interval

PLAIN = {
    "model": "",
    "tuned": "",
    "optimizer": "sgd",
    "settings": "",
    "diverged": 0,
    "arm_at_chance": False,
    "at_chance": False,
    "mixed_code": False,
}


def judge(
    file: Path, claims: Sequence[str], *, metric: str | None = None, arm: str | None = None, seed: str | None = None
) -> list[Verdict]:
    """The verdicts on claims about the runs in a CSV file, which are one family for Holm's correction.

    Args:
        file: The file (see `table.read`).
        claims: The claims, such as `bn > none on test_acc` (see `statements.parse`).
        metric: The metric of the claims that name none.
        arm: The column of arms.
        seed: The column of seeds.

    Raises:
        Refusal: The file or a claim is not as it must be.
    """
    statements = [with_metric(parse(text), metric) for text in claims]
    metrics = dict.fromkeys(str(statement.metric) for statement in statements)
    return judged(read(file, metrics, arm=arm, seed=seed), statements)


def judged(table: Table, statements: Sequence[Statement]) -> list[Verdict]:
    """The verdicts on statements about a table; each names its metric.

    Raises:
        Refusal: A statement names an arm that the table does not have, or two that no seed pairs.
    """
    named = [(table.name, f"paired by {table.paired_by}", each.text, each.rule) for each in statements]
    evidence = [_evidence(table, statement) for statement in statements]
    found = verdicts.decided(named, evidence, [statement.smallest for statement in statements])
    shares = [statement.metric in summary.UNIT for statement in statements]  # under other names they may be in points
    return [replace(one, is_of_accuracies=is_share) for one, is_share in zip(found, shares, strict=True)]


def with_metric(statement: Statement, metric: str | None) -> Statement:
    """The statement, about a given metric if it names none.

    Raises:
        Refusal: No metric is given either.
    """
    if statement.metric is None and metric is None:
        raise Refusal("--claim", "names no metric", f'"{statement.text} on METRIC"', "name it", value=statement.text)
    return replace(statement, metric=statement.metric or metric)


def _evidence(table: Table, statement: Statement) -> list[Evidence | str]:
    """The evidence of a statement, at the one look that there is, or the reason why there is none."""
    metric = str(statement.metric)
    left, right = _paired(table, statement.left, statement.right, metric)
    lost = int((~(np.isfinite(left) & np.isfinite(right))).sum())
    return [f"{lost} of {len(left)} pairs have no {metric}" if lost else statement.evidence(left, right)]


def _paired(table: Table, left: str, right: str, metric: str) -> tuple[Array, Array]:
    """A metric of two arms (R,), for the R seeds that both have.

    Raises:
        Refusal: There is no such arm, or no such seed.
    """
    arms = table.numbers[metric]
    for arm in (left, right):
        if arm not in arms:
            raise Refusal("arm", "no such arm", listed(list(arms)), nearest(arm, arms) or "change it", value=arm)
    own, others = arms[left], arms[right]
    shared = sorted(own.keys() & others.keys())
    if not shared:
        got, allowed = f"arms {left} and {right} have no seed in common", "runs of both arms with the same seeds"
        raise Refusal(f"{table.name} {table.paired_by}", got, allowed, "train them from the same seeds")
    return np.array([own[seed] for seed in shared]), np.array([others[seed] for seed in shared])


def compared(table: Table, baseline: str | None) -> tuple[pd.DataFrame, str]:
    """The mean of each arm, and its paired difference to the baseline, as `summary.summarise` has them.

    Args:
        table: The table.
        baseline: The name of the baseline arm; None: none if there is such an arm, or else the first one.

    Returns:
        The rows, and the name of the baseline arm.

    Raises:
        Refusal: There is no such arm, or an arm has no seed in common with it.
    """
    names = next(iter(table.numbers.values()))
    baseline = baseline or (BASELINE if BASELINE in names else next(iter(names)))
    rows = []
    for metric, arms in table.numbers.items():
        for arm, own in arms.items():
            _paired(table, arm, baseline, metric)  # refuses what cannot be paired
            mean = mean_interval(list(own.values()))._asdict()
            against = None if arm == baseline else arms[baseline]
            found = summary.paired_difference(own, against)
            rows.append(
                {**PLAIN, "arm": arm, "metric": metric, **mean, "baseline": against and baseline, "at": [found]}
            )
    return summary.corrected(rows), baseline


def show(table: Table, baseline: str | None, console: Console) -> None:
    """Prints the arms of a table beside a baseline, in a table for each metric.

    Raises:
        Refusal: There is no such baseline, or an arm has no seed in common with it.
    """
    rows, baseline = compared(table, baseline)
    for metric, own in rows.groupby("metric", sort=False):
        texts = [summary.words(row, baseline)[1:] for row in own.to_dict("records")]
        title = f"{table.name}: {metric}{summary.UNIT.get(str(metric), '')}"
        tables.show(console, title, summary.headings(baseline)[1:], [texts])
    console.print(summary.explanation(rows), style="dim", soft_wrap=not console.is_terminal)
