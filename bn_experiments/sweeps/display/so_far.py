"""So far: the test accuracies of the cells that are done, as the table at the end will have them, before all are."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bn_experiments.claims import summary
from bn_experiments.claims.arms import arm_names
from bn_experiments.claims.contexts import mark, shared
from bn_experiments.records import results
from bn_experiments.records.comparison import looks_in
from bn_experiments.records.results import Result
from bn_experiments.sweeps.comparison import baseline_of
from bn_experiments.sweeps.plan import Plan

METRIC = "test/acc"


class Finding(NamedTuple):
    """What came out of a cell, in words.

    Args:
        beside: What stands beside its name: where it is judged, and how many of its replicas diverged.
        mean: The mean test accuracy with its interval, in per cent.
        n: The number of replicas.
        difference: The paired difference to the baseline with its interval, in points; empty where the baseline's cell
            in the same setting is not done.
    """

    beside: str
    mean: str
    n: str
    difference: str


class SoFar:
    """The findings of the cells of a sweep's folder that are done.

    Only cells that can be compared are summarised together, so that one more costs little in a large grid.

    Args:
        plan: The plan of the command.
    """

    def __init__(self, plan: Plan):
        self.looks = plan.looks or looks_in(plan.folder)
        self.key_of: dict[Path, str] = {}
        self.groups: dict[str, dict[Path, Result]] = {}  # what may be compared, by key
        self.found: dict[str, dict[Path, Finding]] = {}  # by key, until another cell of the group is done
        there = results.done_in(plan.folder)
        for folder, result in there.items():
            self._take(folder, result)
        names = {cell.folder: (cell.choices, cell.config) for cell in plan.cells}
        names |= {folder: (result.cell, result.config) for folder, result in there.items()}
        self.baseline = baseline_of(plan, names, {cell.folder for cell in plan.cells})
        self.baselines = {folder for folder, name in arm_names(names).items() if name == self.baseline}

    def add(self, folder: Path) -> None:
        """Reads the record of a cell that was trained.

        Args:
            folder: The folder of the cell, all runs of which count together.
        """
        result = results.read(folder)
        if result and result.status == "done":
            self._take(folder, result)

    def of(self, folder: Path) -> Finding | None:
        """The finding of a cell; None if it is not done, or if nothing was trained in it."""
        key = self.key_of.get(folder)
        if key is None:
            return None
        if key not in self.found:
            self.found[key] = dict(self._findings(self.groups[key]))
        return self.found[key].get(folder)

    def _take(self, folder: Path, result: Result) -> None:
        if METRIC not in result.metrics or not result.config["trainer"]["max_epochs"]:
            return
        key = mark(shared(folder, result, ("norm",)))
        own = replace(result, probes={}, metrics={METRIC: result.metrics[METRIC]})
        self.key_of[folder] = key
        self.groups.setdefault(key, {})[folder] = own
        self.found.pop(key, None)

    def _findings(self, group: Mapping[Path, Result]) -> Iterable[tuple[Path, Finding]]:
        own = arm_names({folder: (result.cell, result.config) for folder, result in group.items()})
        baseline = next((name for folder, name in own.items() if folder in self.baselines), self.baseline)
        rows = summary.summarise(group, baseline, self.looks)
        by_name = {folder.name: folder for folder in group}
        for row in rows.to_dict("records"):
            _, _, mean, n, difference, _, _ = summary.words(row, baseline)
            beside = f" at {row['tuned']}" if row["tuned"] else ""
            beside += f" ({row['diverged']} diverged)" if row["diverged"] else ""
            yield by_name[row["folder"]], Finding(beside, mean, n, difference)
