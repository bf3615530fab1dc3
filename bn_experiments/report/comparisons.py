"""Comparisons: every difference of a sweep as a row of a table, by any arm as the baseline and for all pairs."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bn_experiments.claims.contexts import ALL, texts_of
from bn_experiments.claims.summary import CONTEXT, summarise
from bn_experiments.claims.tables import MIXED
from bn_experiments.figures.arms import loss_unit
from bn_experiments.report import words
from bn_experiments.report.contents import SweepContents
from bn_experiments.report.forest import Axis, axis_of

METRICS = {"test/acc": ("test accuracy", 100, 2), "test/loss": ("test loss", 1, 4)}
MOST_ROWS = 1500  # of a sweep, by all baselines; with more, its page shows those by its own baseline alone

Numbers = Mapping[Hashable, Any]  # a row of `summary.summarise`


@dataclass(frozen=True)
class Row:
    """An arm beside another one, or alone where there is none to compare it with.

    Args:
        baseline: The baseline by which it stands in the table, or all.
        setting: What tells its setting from the others of the table.
        arm: The name of the arm.
        title: The name with what was tuned, and a dagger where code changed.
        other: The name of the arm that it is compared with.
        numbers: The numbers of the row, as in `summary.csv`.
        text: The numbers as text, by column.
        replicas: The number of the arm's replicas, those that diverged too.
    """

    baseline: str
    setting: str
    arm: str
    title: str
    other: str
    numbers: Numbers
    text: dict[str, str]
    replicas: int

    @property
    def sorts(self) -> dict[str, str | None]:
        """The numbers by which the table is sorted, by column; None where there is none."""
        return {key: None if math.isnan(self.numbers[key]) else f"{self.numbers[key]:.6g}" for key in self.text}


@dataclass(frozen=True)
class Table:
    """The comparisons of a metric on a data set.

    Args:
        data: The name of the data set.
        metric: The key of the metric, such as test/acc.
        heading: The metric in words, with its unit.
        shared: The settings that all rows share.
        factor: The factor from the numbers of `summary.csv` to those that are shown.
        rows: The rows, those by the sweep's own baseline first.
        axis: The axis on which the intervals of all rows are drawn.
    """

    data: str
    metric: str
    heading: str
    shared: list[str]
    factor: float
    rows: list[Row]
    axis: Axis

    @property
    def has_settings(self) -> bool:
        """Whether its rows are of several settings."""
        return any(row.setting for row in self.rows)


def baselines(sweep: SweepContents) -> list[str]:
    """The baselines by which the page can show a sweep: its own, then each of its arms, then all pairs.

    Its own alone where the rows would be more than `MOST_ROWS`, or where there is one arm.
    """
    shown = sweep.summary[sweep.summary["metric"].isin(METRICS)]
    names = list(dict.fromkeys([sweep.baseline, *shown["arm"], ALL]))
    arms = [own["arm"].nunique() for _, own in shown.groupby([*CONTEXT, "metric"])]
    rows = sum(count * (len(names) - 1) + count * (count - 1) // 2 + 1 for count in arms)
    return names if rows <= MOST_ROWS and shown["arm"].nunique() > 1 else names[:1]


def arms_of(tables: Sequence[Table]) -> list[str]:
    """The names of the arms that have rows."""
    return list(dict.fromkeys(row.arm for table in tables for row in table.rows))


def tables(sweep: SweepContents) -> list[Table]:
    """A table for each data set and metric of a sweep, of the cells that were trained."""
    if sweep.summary.empty:
        return []
    named = _arm_names(sweep)
    rows = [
        (baseline, row)
        for baseline in baselines(sweep)
        for row in _summary(sweep, baseline).to_dict("records")
        if row["folder"] in named and row["metric"] in METRICS
    ]
    found = []
    for data in dict.fromkeys(row["data"] for _, row in rows):
        for metric in METRICS:
            own = [(baseline, row) for baseline, row in rows if (row["data"], row["metric"]) == (data, metric)]
            if own:
                found.append(_table(sweep, own, named))
    return found


def _summary(sweep: SweepContents, baseline: str) -> pd.DataFrame:
    return sweep.summary if baseline == sweep.baseline else summarise(sweep.compared, baseline, sweep.looks)


def _arm_names(sweep: SweepContents) -> dict[str, str]:
    """The name of the arm of each trained cell, by the name of its folder."""
    sections = [section for section in sweep.sections if section.is_trained]
    return {arm.folder.name: arm.name for section in sections for arm in section.arms.values()}


def _table(sweep: SweepContents, rows: Sequence[tuple[str, Numbers]], named: Mapping[str, str]) -> Table:
    metric, data = rows[0][1]["metric"], rows[0][1]["data"]
    word, factor, digits = METRICS[metric]
    arms = [arm for section in sweep.sections for arm in section.arms.values()]
    unit = loss_unit(arms) if metric.endswith("loss") else "%"
    settings = {_place(row): _settings(row) for _, row in rows}
    shared = [text for text in next(iter(settings.values())) if all(text in other for other in settings.values())]
    folders = {(*_place(row), row["arm"]): row["folder"] for _, row in rows}
    replicas = {folder.name: len(cell.seeds) for folder, cell in sweep.compared.items()}
    found = []
    for baseline, row in rows:
        other: str = "" if pd.isna(row["baseline"]) else row["baseline"]
        arm = named[row["folder"]]
        found.append(
            Row(
                baseline,
                " ".join(_brief(text) for text in settings[_place(row)] if text not in shared),
                arm,
                " at ".join(filter(None, (arm, row["tuned"]))) + MIXED * row["mixed_code"],
                named.get(folders.get((*_place(row), other), ""), other),
                row,
                {key: text.replace(", ", ",\N{NO-BREAK SPACE}") for key, text in _texts(row, factor, digits)},
                replicas[row["folder"]],
            )
        )
    heading = ", ".join(filter(None, (word, unit)))
    axis = axis_of([row.numbers for row in found], factor)
    return Table(data, metric, heading, [_brief(text) for text in shared], factor, found, axis)


def _place(row: Numbers) -> tuple[Any, ...]:
    return tuple(row[column] for column in CONTEXT)


def _settings(row: Numbers) -> list[str]:
    return [f"model={row['model']}", f"optimizer={row['optimizer']}", *texts_of(row["settings"])]


def _brief(text: str) -> str:
    """A setting without the name of its group where the option says what it is."""
    return text.removeprefix("model=").removeprefix("optimizer=")


def _texts(row: Numbers, factor: float, digits: int) -> Iterator[tuple[str, str]]:
    """The numbers of a row as text, by column."""
    yield "difference", words.difference(row, factor, digits)
    yield "p", words.p_value(row["p"])
    yield "detectable", words.with_interval([row["detectable"], math.nan, math.nan], factor, digits)
    yield "pairs", "" if math.isnan(row["pairs"]) else f"{row['pairs']:.0f}"
    yield "mean", words.with_interval([row[key] for key in ("mean", "low", "high")], factor, digits)
    yield "n", str(row["n"])
