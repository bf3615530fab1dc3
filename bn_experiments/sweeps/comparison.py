"""The end of a command: the arms of its cells side by side, in the terminal and in files."""

import logging
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bn_experiments.config.cells import Cell
from bn_experiments.config.errors import as_refusal
from bn_experiments.records import identity, lock, results
from bn_experiments.records.comparison import looks_in
from bn_experiments.refusal import one_line
from bn_experiments.sweeps.plan import Plan
from bn_experiments.sweeps.train_cell import is_done

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

FAILED = 1  # exit status
MOST_NAMED = 20  # cells that are not done for one reason


def finish(plan: Plan) -> int:
    """Prints the comparison of the arms, writes it for a grid, and gives the exit status."""
    from bn_experiments.sweeps.stale import stale_runs  # which imports torch

    done: list[Cell] = []
    others: list[Cell] = []
    found = {run.folder: run.changes for run in stale_runs([*filter(is_done, plan.cells)], plan.elsewhere)}
    stale = {} if plan.keeps_stale else found
    for cell in plan.cells:
        is_other = any(folder in stale for folder in (cell.folder, *results.further(cell.folder)))
        (done if is_done(cell) and not is_other else others).append(cell)
    console = Console(markup=False, highlight=False)
    status = FAILED if others else 0
    if done:
        try:
            _compare(plan, done, console)
        except Exception as error:  # what was trained is safe; Hydra would make a warning of it
            log.exception("the comparison failed")
            print(f"no comparison: {as_refusal(error)}", file=sys.stderr)
            status = FAILED
    for folder, changed in found.items() if plan.keeps_stale else ():
        console.print(f"{folder.name}: kept as it is, though {', '.join(changed[:MOST_NAMED])}", soft_wrap=True)
    console.print(f"{len(done)} of {len(plan.cells)} cells done  {plan.folder}")
    for line in _not_done(others):
        print(line, file=sys.stderr)
    return status


def undecided(plan: Plan) -> set[Path]:
    """The folders of the cells without more of whose replicas some claim, or some difference, stays undecided."""
    from bn_experiments.claims import summary, twins, verdicts

    cells, left_out = twins.distinct(results.done_in(plan.folder))
    if plan.protocol:
        return verdicts.undecided(plan.protocol, cells, plan.looks)
    instead = {twin.folder: twin.kept for twin in left_out}
    own = {instead.get(cell.folder, cell.folder) for cell in plan.cells}
    found = summary.summarise(cells, _baseline_of(plan, cells, own), plan.looks)
    return {plan.folder / name for name in summary.undecided(found)}


def _baseline_of(plan: Plan, cells: Mapping[Path, results.Result], own: Collection[Path]) -> str:
    return baseline_of(plan, {folder: (result.cell, result.config) for folder, result in cells.items()}, own)


def baseline_of(
    plan: Plan, cells: Mapping[Path, tuple[Mapping[str, Any], Mapping[str, Any]]], own: Collection[Path]
) -> str:
    """The arm that the others are compared with: none, or else the first one, of the command where it has several arms.

    Args:
        plan: The plan, which may name it.
        cells: The choices and the configuration of each cell of the sweep's folder.
        own: The folders of the command's cells among them.
    """
    from bn_experiments.claims.arms import arm_names

    names = arm_names(cells)
    arms = list(dict.fromkeys(name for folder, name in names.items() if folder in own))
    arms = arms if len(arms) > 1 else list(names.values())
    return plan.baseline or (identity.BASELINE if identity.BASELINE in arms else arms[0])


def _not_done(cells: Sequence[Cell]) -> list[str]:
    """A line for each cell that is not done, or one for all that share a reason where these are many."""
    by_reason: dict[str, list[Path]] = {}
    for cell in cells:
        by_reason.setdefault(_why_not_done(cell), []).append(cell.folder)
    lines = []
    for reason, alike in by_reason.items():
        if len(alike) <= MOST_NAMED:
            lines += [f"{folder}: {reason}" for folder in alike]
        else:
            lines.append(f"{len(alike)} cells in {alike[0].parent}: {reason}")
    return lines


def _compare(plan: Plan, done: Sequence[Cell], console: Console) -> None:
    """Prints the arms of the command's cells side by side, and how many more the files and the report hold."""
    from bn_experiments import report
    from bn_experiments.claims import contexts, summary, swept, swept_tables, tuned, twins, verdicts

    there = results.done_in(plan.folder)
    first = {cell.folder: there[cell.folder] for cell in done}
    cells, left_out = twins.distinct({**first, **there})
    instead = {twin.folder: twin.kept for twin in left_out}
    own = {instead.get(folder, folder) for folder in first}
    baseline, looks = _baseline_of(plan, cells, own), plan.looks or looks_in(plan.folder)
    found, more = summary.summarise(cells, baseline, looks), 0
    grid = contexts.of_grid(cells)
    sweeps = [] if plan.protocol else swept.swept(grid)
    changes = swept.changes(sweeps, cells, baseline, looks)
    if any(cell.config["trainer"]["max_epochs"] for cell in done):
        more = summary.show(found, baseline, {folder.name for folder in own}, console, looks)
        swept_tables.show(sweeps, changes, cells, baseline, own, console)
        apart = contexts.apart(grid, baseline)
        edges = [
            clause
            for folder, result in first.items()
            for clause in tuned.at_edges(identity.arm_name(result.cell, result.config), result.tuned)
        ]
        for line in [
            *map(str, left_out),
            *apart,
            *edges,
            *_made_otherwise(cells, done, plan.elsewhere),
            *_notes(first),
        ]:
            console.print(line, style="dim", soft_wrap=True)
    judged: list[verdicts.Verdict] = []
    if plan.protocol:
        judged = verdicts.judge(plan.protocol, cells, looks)  # with arms that an earlier command trained
        verdicts.write(judged, plan.folder)
        shown = contexts.with_most_of(own, contexts.of_experiment(plan.protocol, cells))
        verdicts.show([verdict for verdict in judged if verdict.context in shown], console)
    if max(len(plan.cells), len(cells)) > 1 or summary.is_in(plan.folder):
        answers = swept_tables.markdown(sweeps, changes, cells, baseline)
        summary.write(found, baseline, plan.folder, [*map(verdicts.line, judged)], looks, changes, answers)
        for line in _show_differences(plan.folder, found, cells):
            console.print(line, style="dim", soft_wrap=True)
        page = report.write_page(plan.folder, images=True)
        if more:
            rest = "1 more cell lies" if more == 1 else f"{more} more cells lie"
            console.print(f"{rest} in {plan.folder}; p is corrected for all, and summary.md has all", soft_wrap=True)
        console.print(f"report  {page}")


def _show_differences(folder: Path, found: "pd.DataFrame", cells: Mapping[Path, results.Result]) -> list[str]:
    """Writes the differences for TensorBoard; a line for each that is not there, or why none could be written."""
    from bn_experiments.claims import differences

    try:
        return differences.write(folder, found, cells)
    except Exception as error:
        log.exception("the differences could not be written for TensorBoard")
        return [f"no differences in TensorBoard: {one_line(error)}"]


def _made_otherwise(cells: Mapping[Path, results.Result], done: Sequence[Cell], elsewhere: bool) -> list[str]:
    """A line for each cell of an earlier command, on the data of this one, that what is there now would not make so."""
    from bn_experiments.sweeps.stale import stale_runs

    own, data = {cell.folder for cell in done}, [cell.config["data"] for cell in done]
    lines = []
    for folder, result in cells.items():
        if folder in own or result.config["data"] not in data:
            continue
        cell = Cell(result.cell, result.config, folder, result.seeds)
        try:
            changed = [change for run in stale_runs([cell], elsewhere) for change in run.changes]
        except Exception as error:  # of a class or an image that is gone, say
            changed = [str(as_refusal(error))]
        if changed:
            lines.append(f"{folder.name}: of an earlier command; since then {', '.join(changed[:MOST_NAMED])}")
    return lines


def _notes(cells: Mapping[Path, results.Result]) -> list[str]:
    """What was done in another way in some cells than was asked for, or expected, each on a line."""
    names: dict[str, list[str]] = {}
    for folder, result in cells.items():
        for note in result.notes:
            names.setdefault(note, []).append(folder.name)
    return [f"{own[0] if len(own) == 1 else f'{len(own)} cells'}: {note}" for note, own in names.items()]


def _why_not_done(cell: Cell) -> str:
    folders = (cell.folder, *results.further(cell.folder))
    if any(map(lock.is_locked, folders)):
        return "another command trains it"
    if is_done(cell):
        return "another command trained it with other code; the same command says what can be done"
    failed = [record for record in map(results.read_run, folders) if record and record.status == "failed"]
    if not failed:
        return "not done; the same command goes on from here"
    return f"failed ({one_line(failed[-1].error)}); its log says more, and the same command tries it again"
