"""The command: python -m bn_experiments.judge results.csv [--claim "bn > none on test_acc"] ..."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bn_experiments.claims import verdicts
from bn_experiments.judge.judging import judged, show, with_metric
from bn_experiments.judge.statements import parse
from bn_experiments.judge.table import read
from bn_experiments.refusal import Refusal

EPILOG = """claims, of which several are corrected together:
  --claim "bn > none on test_acc"               the mean of bn - none, paired by seed, is above 0
  --claim "bn > none by 0.01 on test_acc"       it is above .01
  --claim "bn < none on test_loss"              the mean of none - bn is above 0
  --claim "bn = none within 0.01 on test_acc"   the mean of bn - none is within .01 of 0
  --claim "bn > none on test_acc smallest 0.02" if it is inconclusive: how many seeds would find .02

tables: a row for each run, with columns for arm, seed and each metric, as Weights & Biases exports its table of runs
and mlflow.search_runs().to_csv() writes it; or a row for each arm, seed, metric and value. A column may be named
without MLflow's params. and metrics. before it.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints verdicts on claims about a table, or its arms side by side; the exit status is 2 after a refusal."""
    parser = argparse.ArgumentParser(
        prog="python -m bn_experiments.judge",
        description="Judges results that other tools made, in a CSV file, by the statistics of this project.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="results.csv", type=Path, help="the table")
    parser.add_argument("--claim", action="append", default=[], help="a claim; without one, all arms side by side")
    parser.add_argument("--metric", help="the metric of claims that name none, and of the arms side by side")
    parser.add_argument("--arm", help="the column of arms (default: arm or norm)")
    parser.add_argument("--seed", help="the column of seeds (default: seed)")
    parser.add_argument("--baseline", help="the arm that others stand beside (default: none, or the first)")
    given = parser.parse_args(arguments)
    console = Console(markup=False, highlight=False)
    try:
        statements = [with_metric(parse(text), given.metric) for text in given.claim]
        metrics = dict.fromkeys([*(str(each.metric) for each in statements), *filter(None, [given.metric])])
        table = read(given.file, metrics, arm=given.arm, seed=given.seed)
        found = judged(table, statements)
        if found:
            verdicts.show(found, console)
        if not found or given.baseline:
            show(table, given.baseline, console)
        for line in table.left_out:
            console.print(line, style="dim", soft_wrap=True)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
