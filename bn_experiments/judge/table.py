"""The table: runs of several arms and seeds with their metrics, read from a CSV file that another tool wrote.

A wide table has a row for each run and a column for each metric, as Weights & Biases and MLflow export them; a long one
has the columns `metric` and `value`, and a row for each metric of a run.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bn_experiments.judge.rows import Rows, finished, listed, read_rows
from bn_experiments.refusal import Refusal, nearest

ARMS, SEEDS = ("arm", "norm"), ("seed",)  # the columns of arm and seed, the first that is there
METRIC, VALUE = "metric", "value"  # the columns of a long table
OF_PARAMETERS, OF_METRICS = "params.", "metrics."  # with which MLflow's columns begin
ABSENT = ("", "nan", "none", "null")  # a run that has no such number

Seed = int | str


@dataclass(frozen=True)
class Table:
    """The finished runs of a table.

    Args:
        name: The name of the file.
        paired_by: The name of the column of seeds.
        numbers: The number of each run by metric, arm and seed; NaN where the run has none.
        left_out: A line for the runs that are not finished, and for the seeds that an arm lacks.
    """

    name: str
    paired_by: str
    numbers: dict[str, dict[str, dict[Seed, float]]]
    left_out: list[str]


def read(file: Path, metrics: Collection[str], *, arm: str | None = None, seed: str | None = None) -> Table:
    """The finished runs of a CSV file.

    Args:
        file: The file.
        metrics: The metrics to read; none for all. A wide table says which of its columns these are only if they begin
            with `metrics.`, as MLflow's do.
        arm: The column of arms; by default arm, or else norm. Any column may be named without MLflow's `params.` or
            `metrics.` before it.
        seed: The column of seeds; by default seed.

    Raises:
        Refusal: The file is no table of at least two arms with one finished run for each seed, or a metric is not in it
            or holds what is no number.
    """
    rows, left_out = finished(read_rows(file))
    columns = list(next(iter(rows.values())))
    arm = _column(columns, "--arm", [arm] if arm else ARMS, OF_PARAMETERS)
    seed = _column(columns, "--seed", [seed] if seed else SEEDS, OF_PARAMETERS)
    arms, seeds = _cells(rows, arm), _seeds(_cells(rows, seed))
    if len(set(arms.values())) < 2:
        raise Refusal(arm, f"has one arm, {next(iter(arms.values()))}", "two or more arms", "add runs of another")
    texts = _texts(rows, columns, metrics)
    numbers: dict[str, dict[str, dict[Seed, float]]] = {}
    for metric, own in texts.items():
        by_arm = numbers[metric] = {name: {} for name in dict.fromkeys(arms.values())}
        for number, text in own.items():
            by_seed = by_arm[arms[number]]
            if seeds[number] in by_seed:
                got = f"arm {arms[number]} has seed {seeds[number]} twice"
                remedy = "delete one of them; each model and setting is judged in a table of its own"
                raise Refusal(f"row {number}", got, "one run for each arm and seed", remedy)
            by_seed[seeds[number]] = _number(text, f"row {number}, {metric}")
    return Table(file.name, seed, numbers, [*left_out, *_lacking(arms, seeds)])


def _column(columns: Sequence[str], key: str, names: Iterable[str], prefix: str) -> str:
    """The first of some columns that a table has, by its name or by its name behind a prefix.

    Raises:
        Refusal: There is none.
    """
    wanted = list(names)
    for column in (prefix + name if is_prefixed else name for name in wanted for is_prefixed in (False, True)):
        if column in columns:
            return column
    remedy = nearest(wanted[0], [name.removeprefix(prefix) for name in columns]) or f"name a column by {key}"
    raise Refusal(key, "no such column", listed(columns), remedy, value=wanted[0])


def _cells(rows: Rows, column: str) -> dict[int, str]:
    """The cells of a column by row.

    Raises:
        Refusal: A cell is empty.
    """
    for number, row in rows.items():
        if not row[column]:
            raise Refusal(f"row {number}, {column}", "is empty", "a name in every row", "fill it in, or delete the row")
    return {number: row[column] for number, row in rows.items()}


def _seeds(texts: Mapping[int, str]) -> dict[int, Seed]:
    """Seeds as whole numbers if all are, also where they are written as 1.0; else as text."""
    if all(re.fullmatch(r"-?\d+(\.0*)?", text) for text in texts.values()):
        return {number: int(text.partition(".")[0]) for number, text in texts.items()}
    return dict(texts)


def _texts(rows: Rows, columns: Sequence[str], metrics: Collection[str]) -> dict[str, dict[int, str]]:
    """The cells of each metric by row, of all metrics if none is given.

    Raises:
        Refusal: There is no such metric, or none is given in a wide table that does not say which columns are metrics.
    """
    if {METRIC, VALUE} <= set(columns):
        known = list(dict.fromkeys(_cells(rows, METRIC).values()))
        for metric in metrics:
            if metric not in known:
                remedy = nearest(metric, known) or "change it"
                raise Refusal("--metric", "no such metric", listed(known), remedy, value=metric)
        return {
            metric: {number: row[VALUE] for number, row in rows.items() if row[METRIC] == metric}
            for metric in metrics or known
        }
    all_metrics = [name.removeprefix(OF_METRICS) for name in columns if name.startswith(OF_METRICS)]
    if not metrics and not all_metrics:
        raise Refusal("--metric", "no metric is named", listed(columns), "name one of these columns")
    found = {metric: _column(columns, "--metric", [metric], OF_METRICS) for metric in metrics or all_metrics}
    return {metric: {number: row[column] for number, row in rows.items()} for metric, column in found.items()}


def _number(text: str, place: str) -> float:
    """The number in a cell, NaN if there is none or it is not finite, as of a run that diverged.

    Raises:
        Refusal: It holds something else.
    """
    if text.lower() in ABSENT:
        return float("nan")
    try:
        number = float(text)
    except ValueError:
        allowed = "a number, or nothing where the run has none"
        raise Refusal(place, "is no number", allowed, "correct it", value=text) from None
    return number if math.isfinite(number) else float("nan")


def _lacking(arms: Mapping[int, str], seeds: Mapping[int, Seed]) -> list[str]:
    """A line for each arm that lacks seeds of other arms."""
    lines = []
    for arm in dict.fromkeys(arms.values()):
        own = {seeds[number] for number in arms if arms[number] == arm}
        if others := [str(seed) for seed in dict.fromkeys(seeds.values()) if seed not in own]:
            lines.append(f"arm {arm} has no finished run of seed {listed(others)}, of which there is then no pair")
    return lines
