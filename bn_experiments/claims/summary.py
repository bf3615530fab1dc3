"""Summaries: the mean of each arm of a sweep with its interval, and its difference to the baseline arm."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from bn_experiments.claims import tables, tuned
from bn_experiments.claims.contexts import ALL, Context, of_grid, texts_of
from bn_experiments.claims.tables import MIXED, MIXED_CODE
from bn_experiments.records import comparison
from bn_experiments.records.origin import is_mixed
from bn_experiments.records.results import Result
from bn_experiments.records.tuning import where
from bn_experiments.statistics.evidence import Evidence
from bn_experiments.statistics.intervals import LEAST_REPLICAS, LEVEL, mean_interval, rarest_failure, spread, widened
from bn_experiments.statistics.looks import stops
from bn_experiments.statistics.power import smallest_difference
from bn_experiments.statistics.rules import difference
from bn_experiments.system.files import write_whole

CONTEXT = ["data", "model", "optimizer", "settings"]
NOTHING = pd.DataFrame()
AT_CHANCE = (
    " At chance: no replica exceeds a network without skill; where that is so of all arms, no difference stands."
)
DIFFERENCE = ("difference", "difference_low", "difference_high", "pairs", "p")


def summarise(cells: Mapping[Path, Result], baseline: str, looks: Sequence[int] = ()) -> pd.DataFrame:
    """The mean of each arm with its 99% interval, and its paired difference to the baseline arm.

    Arms are compared within a context (see `contexts`). The pairs are the replicas with the seeds that both arms have.
    A replica that diverged has the accuracy of chance and no loss; where an arm has such a replica, the arm has no mean
    loss and no difference in it.

    Args:
        cells: The finished cells of a sweep, by folder.
        baseline: The name of the baseline arm, or all: every arm is compared with each arm before it.
        looks: The numbers of replicas at which differences are judged until they are decided; none: all at once.

    Returns:
        Rows of data, model, optimizer, settings, arm, tuned (where it is judged), folder (of the cell), metric, mean,
        low, high, n, diverged, arm_at_chance, at_chance (whether every arm of the context is), mixed_code, baseline,
        then difference, difference_low, difference_high, pairs, p and detectable. There is a row for each arm, metric
        and baseline that the arm is compared with. The numbers of a difference are NaN if there is none. p is adjusted
        by Holm's method over all differences of a metric; detectable is the smallest true difference that so many
        pairs find with 80% power at the least favourable of Holm's levels.
    """
    return corrected([row for context in of_grid(cells) for row in _rows(context, cells, baseline, looks)], looks)


def corrected(rows: Sequence[dict[str, Any]], looks: Sequence[int] = ()) -> pd.DataFrame:
    """A summary with p adjusted over all differences of a metric, and with the smallest difference that each can find.

    Args:
        rows: Rows of metric and, under `at`, the numbers of `paired_difference` at each look so far.
        looks: The numbers of replicas at all looks; none: one look, at all replicas.
    """
    by_metric: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_metric.setdefault(row["metric"], []).append(row)
    found = {id(row): one for own in by_metric.values() for row, one in zip(own, _corrected(own, looks), strict=True)}
    return pd.DataFrame([{**{key: row[key] for key in row if key != "at"}, **found[id(row)]} for row in rows])


def _corrected(rows: Sequence[dict[str, Any]], looks: Sequence[int]) -> Iterator[dict[str, float]]:
    """The numbers of the differences of one metric, each at the look that decided it, or at the last one so far."""
    count, first, nan = max(1, len(looks)), min(looks, default=0), float("nan")
    reached = stops([[(at["p"] if at["pairs"] >= first else nan, nan) for at in row["at"]] for row in rows], count)
    level = LEVEL / count / max(1, sum(not math.isnan(row["at"][-1]["p"]) for row in rows))
    for row, stop in zip(rows, reached, strict=True):
        at = row["at"][stop.look]
        low, high, n = at["difference_low"], at["difference_high"], at["pairs"]
        ends = widened(low, high, int(n), LEVEL / count) if high > low else (low, high)
        detectable = smallest_difference(spread(low, high, int(n)), int(n), level) if high > low else nan
        yield {**at, "difference_low": ends[0], "difference_high": ends[1], "p": stop.p, "detectable": detectable}


def _rows(
    context: Context, cells: Mapping[Path, Result], baseline: str, looks: Sequence[int]
) -> Iterator[dict[str, Any]]:
    results = {arm: cells[folder] for arm, folder in context.arms.items()}
    for metric in dict.fromkeys(metric for result in results.values() for metric in result.metrics):
        measured = {arm: result for arm, result in results.items() if metric in result.metrics}
        at_chance = {arm: is_at_chance(result, metric) for arm, result in measured.items()}
        lost = all(at_chance.values())
        for i, (arm, result) in enumerate(measured.items()):
            own = {
                **context.groups,
                "settings": context.settings,
                "arm": arm,
                "tuned": where(result.tuned),
                "folder": context.arms[arm].name,
                "metric": metric,
                **mean_interval(_numbers(result, metric).tolist())._asdict(),
                "diverged": sum(result.diverged),
                "arm_at_chance": at_chance[arm],
                "at_chance": lost,
            }
            others = list(measured)[:i] if baseline == ALL else [baseline] if baseline in measured else []
            against_whom: list[str | None] = [other for other in others if other != arm] or [None]
            for other in against_whom:
                against = measured[other] if other else None
                mixed = is_mixed([*result.origins, *(against.origins if against else [])])
                numbers = None if lost or against is None else by_seed(against, metric)
                found = _at_looks(by_seed(result, metric), numbers, looks)
                yield {**own, "mixed_code": mixed, "baseline": other, "at": found}


def _at_looks(
    own: Mapping[int, float], baseline: Mapping[int, float] | None, looks: Sequence[int]
) -> list[dict[str, float]]:
    """The paired difference at each look so far, of the first seeds that both arms have; without looks, of all."""
    shared = sorted(own.keys() & baseline.keys()) if baseline is not None else []
    sizes = [size for size in looks if size <= len(shared)] or [len(shared)]
    return [paired_difference({seed: own[seed] for seed in shared[:size]}, baseline) for size in sizes]


def _numbers(result: Result, metric: str) -> np.ndarray:
    """A metric of each replica (R,); NaN where it diverged and has none."""
    return np.array(result.metrics[metric], dtype=np.float64)


def is_at_chance(result: Result, metric: str) -> bool:
    """Whether a metric is an accuracy, and no replica exceeds the accuracy of a network without skill."""
    return metric in result.chance and bool(_numbers(result, metric).max() <= result.chance[metric])


def paired_difference(own: Mapping[Any, float], baseline: Mapping[Any, float] | None) -> dict[str, float]:
    """The paired difference of an arm to its baseline: its mean, interval, number of pairs and p, by `DIFFERENCE`.

    p is that of both directions, before any correction; all numbers are NaN if there is no baseline.

    Args:
        own: The number of each replica of the arm, by seed.
        baseline: The number of each replica of the baseline, by seed.
    """
    if baseline is None:
        return dict.fromkeys(DIFFERENCE, float("nan"))
    shared = sorted(own.keys() & baseline.keys())
    pairs = [np.array([by_seed[seed] for seed in shared], dtype=np.float64) for by_seed in (own, baseline)]
    return two_sided(difference(*pairs), difference(*reversed(pairs)))


def two_sided(found: Evidence, turned: Evidence) -> dict[str, float]:
    """The numbers of a difference by `DIFFERENCE`, with p of both directions.

    Args:
        found: The evidence that it is above 0.
        turned: The evidence that it is below 0.
    """
    p = min(found.p, turned.p)  # 1 where all are equal
    return dict(zip(DIFFERENCE, (found.estimate, found.low, found.high, found.n, p), strict=True))


def by_seed(result: Result, metric: str) -> dict[int, float]:
    """A metric of each replica by its seed; NaN where it diverged and has none."""
    return dict(zip(result.seeds, _numbers(result, metric).tolist(), strict=True))


def is_in(folder: Path) -> bool:
    """Whether an earlier command wrote a summary into a sweep's folder."""
    return (folder / "summary.md").exists()


def write(
    summary: pd.DataFrame,
    baseline: str,
    folder: Path,
    claims: Sequence[str] = (),
    looks: Sequence[int] = (),
    changes: pd.DataFrame = NOTHING,
    answers: Sequence[str] = (),
) -> None:
    """Writes `summary.csv`, `summary.md` and, for the report, the name of the baseline into a sweep's folder.

    Args:
        summary: The summary of the sweep.
        baseline: The name of the baseline arm, or all.
        folder: The folder of the sweep.
        claims: A line for each verdict on an experiment's claims.
        looks: The numbers of replicas at which differences and claims are judged.
        changes: The rows of numbers that are swept (see `swept.changes`), which follow the others in `summary.csv`.
        answers: The lines of Markdown on these numbers.
    """
    rows = pd.concat([summary, changes]) if len(changes) else summary
    write_whole(folder / "summary.csv", rows.to_csv(index=False))
    write_whole(
        folder / "summary.md", markdown(summary, baseline, claims, looks) + "".join(f"{line}\n" for line in answers)
    )
    comparison.write(folder, baseline, looks)


def markdown(summary: pd.DataFrame, baseline: str, claims: Sequence[str] = (), looks: Sequence[int] = ()) -> str:
    """The summary as a Markdown document with a table for each metric, after the lines on claims if there are any."""
    lines = ["# Summary", "", explanation(summary, looks)]
    if claims:
        lines += ["", "## Claims", "", *(f"- {line}" for line in claims)]
    for metric, rows in summary.groupby("metric", sort=False):
        lines += ["", f"## {metric}{UNIT.get(str(metric), '')}", ""]
        lines += ["| data | " + " | ".join(headings(baseline)) + " |", "|" + "---|" * (len(headings(baseline)) + 1)]
        lines += [f"| {row['data']} | " + " | ".join(words(row, baseline)) + " |" for row in rows.to_dict("records")]
    return "\n".join(lines) + "\n"


def undecided(summary: pd.DataFrame) -> set[str]:
    """The names of the folders of the cells whose difference in test accuracy is not decided, and of its baseline."""
    found: set[str] = set()
    for _, rows in summary[summary["metric"] == "test/acc"].groupby(CONTEXT, sort=False):
        of_arm = dict(zip(rows["arm"], rows["folder"], strict=True))
        still_open = rows[(rows["p"] > LEVEL) & ~rows["at_chance"]]
        found |= {*still_open["folder"], *(of_arm[other] for other in still_open["baseline"])}
    return found


def show(
    summary: pd.DataFrame, baseline: str, folders: Collection[str], console: Console, looks: Sequence[int] = ()
) -> int:
    """Prints the test accuracies of some cells, in a table for each data set.

    Args:
        summary: The summary of the sweep.
        baseline: The name of the baseline arm, or all.
        folders: The names of the folders of the cells, whose baseline is shown too.
        console: The console.
        looks: The numbers of replicas at which differences are judged.

    Returns:
        The number of cells of the summary that the tables do not show.
    """
    accuracies = summary[summary["metric"] == "test/acc"]
    chosen = []
    for _, rows in accuracies.groupby(CONTEXT, sort=False):
        own = rows["folder"].isin(folders)
        if own.any():
            chosen.append(rows[own | (rows["arm"] == baseline)])
    shown = pd.concat(chosen) if chosen else accuracies[:0]
    for data, rows in shown.groupby("data", sort=False):
        settings = [set(texts_of(text)) for text in rows["settings"]]
        shared = set.intersection(*settings)
        groups = []
        for _, arms in rows.groupby(CONTEXT, sort=False):
            named = arms.to_dict("records")
            for row in named:
                row["settings"] = " ".join(text for text in texts_of(row["settings"]) if text not in shared)
            groups.append([words(row, baseline) for row in named])
        tables.show(console, " ".join([f"{data}: test accuracy, %", *sorted(shared)]), headings(baseline), groups)
    console.print(explanation(shown, looks), style="dim", soft_wrap=not console.is_terminal)
    return len(set(accuracies["folder"]) - set(shown["folder"]))


def headings(baseline: str) -> tuple[str, ...]:
    """The headings of the columns that `words` fills."""
    difference = "difference" if baseline == ALL else f"difference to {baseline}"
    return ("model", "arm", "mean", "n", difference, "p", "detectable")


UNIT = {"test/acc": ", %", "val/acc": ", %"}


def explanation(summary: pd.DataFrame, looks: Sequence[int] = ()) -> str:
    """What the numbers of a summary are, in words."""
    text = (
        "Means over n replicas with their 99% intervals (Student's t); differences are paired by seed, p is the paired "
        "t test's after Holm's correction over all differences of the metric that lie together; the level is 1%."
    )
    if looks:
        text += (
            f" Differences are judged at {', '.join(map(str, looks))} pairs until they are decided: p is {len(looks)} "
            f"times the least so far, and their intervals have the confidence 1 - 1% / {len(looks)}."
        )
    pairs = summary["pairs"].dropna().tolist() if len(summary) else []
    if pairs and (least := int(min(pairs))):
        text += " Detectable is the smallest true difference that these pairs find with 80% power."
        text += f" A failure that befalls fewer than {rarest_failure(least):.0%} of all seeds may not be among {least}."
    if pairs and min(pairs) < LEAST_REPLICAS:
        text += f" Fewer than {LEAST_REPLICAS} pairs decide nothing."
    if len(summary) and summary["tuned"].any():
        text += tuned.EXPLANATION
    if len(summary) and summary["arm_at_chance"].any():
        text += AT_CHANCE
    if len(summary) and summary["diverged"].any():
        text += " A replica whose loss is not finite has diverged: it counts at chance, and has no loss."
    if len(summary) and summary["mixed_code"].any():
        text += MIXED_CODE
    return text


def words(row: Mapping[Any, Any], baseline: str, sign: str = "") -> list[str]:
    """The cells of a row of the summary as text, accuracies in per cent; among all pairs, with the other arm's name.

    Args:
        row: The row.
        baseline: The name of the baseline arm, or all.
        sign: The sign that a mean above 0 has, + or none.
    """
    factor, digits = (100, 2) if row["metric"] in UNIT else (1, 4)
    others = [row["optimizer"]] if row["optimizer"] != "sgd" else []
    model = " ".join([row["model"], *others, *filter(None, [row["settings"]])])
    arm = " at ".join(filter(None, (row["arm"], row["tuned"])))
    if row["diverged"]:
        arm += f" ({row['diverged']} diverged)"
    elif row["arm_at_chance"] and not row["at_chance"]:
        arm += " (at chance)"
    mean = _number(row["mean"], row["low"], row["high"], factor, digits, sign)
    difference = p = detectable = ""
    if row["at_chance"]:
        difference = "at chance"
    elif not pd.isna(row["baseline"]) and pd.isna(row["difference"]):
        difference = "not judged"
    elif not pd.isna(row["difference"]):
        difference = _number(row["difference"], row["difference_low"], row["difference_high"], factor, digits, sign="+")
        difference += f" of {row['pairs']:.0f}" if row["pairs"] != row["n"] else ""
        p = "" if pd.isna(row["p"]) else f"{row['p']:.2g}"
        detectable = _number(row["detectable"], np.nan, np.nan, factor, digits)
    if baseline == ALL and not pd.isna(row["baseline"]):
        difference = f"to {row['baseline']}: {difference}"
    return [model, f"{arm}{MIXED}" if row["mixed_code"] else arm, mean, str(row["n"]), difference, p, detectable]


def _number(mean: float, low: float, high: float, factor: float, digits: int, sign: str = "") -> str:
    if pd.isna(mean):
        return ""
    text = f"{mean * factor:{sign}.{digits}f}"
    if pd.isna(low):
        return text
    return f"{text} [{low * factor:{sign}.{digits}f}, {high * factor:{sign}.{digits}f}]"
