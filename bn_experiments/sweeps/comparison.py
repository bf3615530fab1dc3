"""The end of a command: the arms of its cells side by side, in the terminal and in files."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bn_experiments.config.cells import Cell
from bn_experiments.config.errors import as_refusal
from bn_experiments.records import lock, results
from bn_experiments.refusal import one_line
from bn_experiments.sweeps.plan import Plan
from bn_experiments.sweeps.train_cell import is_done

log = logging.getLogger(__name__)

FAILED = 1  # exit status
MOST_NAMED = 20  # cells that are not done for one reason


def finish(plan: Plan) -> int:
    """Prints the comparison of the arms, writes it for a grid, and gives the exit status."""
    is_trained = {cell.folder: is_done(cell) for cell in plan.cells}
    done = [cell for cell in plan.cells if is_trained[cell.folder]]
    others = [folder for folder in is_trained if not is_trained[folder]]
    console = Console(markup=False, highlight=False)
    status = FAILED if others else 0
    if done:
        try:
            _compare(plan, done, console)
        except Exception as error:  # what was trained is safe; Hydra would make a warning of it
            log.exception("the comparison failed")
            print(f"no comparison: {as_refusal(error)}", file=sys.stderr)
            status = FAILED
    console.print(f"{len(done)} of {len(plan.cells)} cells done  {plan.folder}")
    for line in _not_done(others):
        print(line, file=sys.stderr)
    return status


def _not_done(folders: Sequence[Path]) -> list[str]:
    """A line for each cell that is not done, or one for all that share a reason where these are many."""
    by_reason: dict[str, list[Path]] = {}
    for folder in folders:
        by_reason.setdefault(_why_not_done(folder), []).append(folder)
    lines = []
    for reason, alike in by_reason.items():
        if len(alike) <= MOST_NAMED:
            lines += [f"{folder}: {reason}" for folder in alike]
        else:
            lines.append(f"{len(alike)} cells in {alike[0].parent}: {reason}")
    return lines


def _compare(plan: Plan, done: Sequence[Cell], console: Console) -> None:
    """Prints the arms of the command's cells side by side; the files hold all that lies in the folder."""
    from bn_experiments import report
    from bn_experiments.claims import summary, verdicts
    from bn_experiments.records import table

    if trained := [cell.folder for cell in done if cell.config["trainer"]["max_epochs"]]:
        summary.show(summary.summarise(table.frame(trained)), console)
    if plan.protocol:
        own = {matched.context for matched in verdicts.matched_arms(plan.protocol, [cell.folder for cell in done])}
        judged = verdicts.write(plan.protocol, plan.folder)  # with arms that an earlier command trained
        verdicts.show([verdict for verdict in judged if verdict.context in own], console)
    if len(plan.cells) > 1:
        summary.write(summary.summarise(table.collect(plan.folder)), plan.folder)
        console.print(f"report  {report.write_page(plan.folder)}")


def _why_not_done(folder: Path) -> str:
    if lock.is_locked(folder):
        return "another command trains it"
    record = results.read(folder)
    if record is None or record.status != "failed":
        return "not done; the same command goes on from here"
    return f"failed ({one_line(record.error)}); its log says more, and the same command tries it again"
