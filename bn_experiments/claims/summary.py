"""Summaries: the mean of each arm of a grid with its interval, and its difference to the baseline arm."""

from pathlib import Path
from typing import Literal

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from bn_experiments.statistics.intervals import mean_interval, paired_difference
from bn_experiments.system.files import write_whole

BASELINE = "none"
CONTEXT = ["sweep", "data", "model", "optimizer", "settings"]


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """The mean of each arm with its 95% interval, and its paired difference to the baseline arm.

    Two arms are compared if they have the same sweep, data, model, optimizer and settings. The pairs are the replicas
    with the seeds that both arms have.

    Args:
        runs: The table from `table.collect`.

    Returns:
        One row for each sweep, data, model, optimizer, settings, arm and metric. Its numbers are mean, low, high, n and
        diverged, then difference, difference_low, difference_high, pairs and p. The latter are NaN for the baseline and
        if there is no baseline.
    """
    metrics = [name for name in runs.columns if "/" in name]
    rows = []
    for context, group in runs.groupby(CONTEXT, sort=False):
        arms = {arm: cells.set_index("seed") for arm, cells in group.groupby("norm", sort=False)}
        for arm, cells in arms.items():
            for metric in metrics:
                rows.append(
                    {
                        **dict(zip(CONTEXT, context, strict=True)),
                        "arm": arm,
                        "metric": metric,
                        **mean_interval(cells[metric].dropna().tolist())._asdict(),
                        "diverged": int(cells["diverged"].sum()),
                        **_difference(cells[metric], None if arm == BASELINE else arms.get(BASELINE)),
                    }
                )
    return pd.DataFrame(rows)


def _difference(values: pd.Series, baseline: pd.DataFrame | None) -> dict[str, float]:
    names = ("difference", "difference_low", "difference_high", "pairs", "p")
    if baseline is None:
        return dict.fromkeys(names, float("nan"))
    pairs = pd.concat([values, baseline[values.name]], axis=1, join="inner").dropna().to_numpy()
    found = paired_difference(pairs[:, 0].tolist(), pairs[:, 1].tolist())
    return dict(zip(names, found, strict=True))


def write(summary: pd.DataFrame, folder: Path) -> None:
    """Writes `summary.csv` and `summary.md` into a folder."""
    write_whole(folder / "summary.csv", summary.to_csv(index=False))
    write_whole(folder / "summary.md", markdown(summary))


def markdown(summary: pd.DataFrame) -> str:
    """The summary as a Markdown document with a table for each metric."""
    lines = ["# Summary", "", EXPLANATION]
    for metric, rows in summary.groupby("metric", sort=False):
        lines += ["", f"## {metric}{UNIT.get(str(metric), '')}", ""]
        lines += ["| data | " + " | ".join(HEADINGS) + " |", "|" + "---|" * (len(HEADINGS) + 1)]
        lines += [f"| {row['data']} | " + " | ".join(_words(row)) + " |" for row in rows.to_dict("records")]
    return "\n".join(lines) + "\n"


def show(summary: pd.DataFrame, console: Console) -> None:
    """Prints the test accuracies, in a table for each data set."""
    accuracies = summary[summary["metric"] == "test/acc"]
    settings = [set(text.split()) for text in accuracies["settings"]]
    shared = set.intersection(*settings) if settings else set()
    for data, rows in accuracies.groupby("data", sort=False):
        title = " ".join([f"{data}: test accuracy, %", *sorted(shared)])
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in HEADINGS:
            side: Literal["left", "right"] = "left" if heading in HEADINGS[:2] else "right"
            table.add_column(heading, justify=side, no_wrap=heading != "model", overflow="fold")
        for _, arms in rows.groupby(CONTEXT, sort=False):
            for row in arms.to_dict("records"):
                own = " ".join(text for text in row["settings"].split() if text not in shared)
                table.add_row(*_words({**row, "settings": own}))
            table.add_section()
        console.print(table)
    console.print(EXPLANATION, style="dim")


HEADINGS = ("model", "arm", "mean", "n", f"difference to {BASELINE}", "p")
UNIT = {"test/acc": ", %", "val/acc": ", %"}
EXPLANATION = (
    "Means over n replicas with their 95% intervals (Student's t); differences are paired by seed, p is the "
    "paired t test's."
)


def _words(row: dict) -> list[str]:
    """The cells of a row of the summary as text, accuracies in per cent."""
    factor, digits = (100, 2) if row["metric"] in UNIT else (1, 4)
    others = [row["optimizer"]] if row["optimizer"] != "sgd" else []
    model = " ".join([row["model"], *others, *filter(None, [row["settings"]])])
    arm = row["arm"] + (f" ({row['diverged']} diverged)" if row["diverged"] else "")
    mean = _number(row["mean"], row["low"], row["high"], factor, digits)
    if pd.isna(row["difference"]):
        return [model, arm, mean, str(row["n"]), "", ""]
    difference = _number(row["difference"], row["difference_low"], row["difference_high"], factor, digits, sign="+")
    if row["pairs"] != row["n"]:
        difference += f" of {row['pairs']:.0f}"
    return [model, arm, mean, str(row["n"]), difference, "" if pd.isna(row["p"]) else f"{row['p']:.2g}"]


def _number(mean: float, low: float, high: float, factor: float, digits: int, sign: str = "") -> str:
    text = f"{mean * factor:{sign}.{digits}f}"
    if pd.isna(low):
        return text
    return f"{text} [{low * factor:{sign}.{digits}f}, {high * factor:{sign}.{digits}f}]"
