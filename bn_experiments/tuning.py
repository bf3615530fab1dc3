"""Tuning: the values of a cell's tuned keys are chosen on the validation split, with seeds that are not judged."""

import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, NamedTuple

from bn_experiments.config import objects, search, space, stacking
from bn_experiments.config.build import build_trials
from bn_experiments.config.cells import Cell
from bn_experiments.config.check import Once, check
from bn_experiments.config.objects import Config
from bn_experiments.config.origin import origin
from bn_experiments.fitting import Fitted, fit
from bn_experiments.records.identity import config_hash
from bn_experiments.records.lock import locked
from bn_experiments.records.progress import TUNING
from bn_experiments.records.results import FURTHER
from bn_experiments.records.tuning import FOLDER, Tuning, read
from bn_experiments.refusal import Refusal, one_line
from bn_experiments.system import interruption
from bn_experiments.training.replicas import Unstackable
from bn_experiments.training.telling import Stage

log = logging.getLogger(__name__)

Table = Sequence[Sequence[float | None]]  # (P, R)


class Tried(NamedTuple):
    """What was found at a point: the values (R,) of each metric, none where it is refused, and who diverged."""

    metrics: dict[str, list[float | None]]
    diverged: list[bool]

    @property
    def accuracy(self) -> float:
        """The mean validation accuracy, by which a point is chosen; that of a point that is refused is zero."""
        return accuracy(self.metrics.get("val/acc", [None]))


def tuned(cell: Cell) -> Tuning:
    """What was chosen for a cell: as its record says, or else tried now, and recorded.

    Every arm of a grid gets the same points and the same seeds. The points are trained as a cell is, as many at once as
    a stack takes. What is cut short goes on from its last checkpoint.

    Args:
        cell: A cell with tuned keys.
    """
    home = cell.folder.parent if cell.folder.name.startswith(FURTHER) else cell.folder
    trials = cell.of_seeds(range(space.SEED, space.SEED + space.replicas_of(cell.config)), home / FOLDER)
    made_by = origin(trials.config)._asdict()
    trials.folder.mkdir(parents=True, exist_ok=True)
    while True:
        with locked(trials.folder) as is_ours:  # another process may train further seeds of the cell
            found = read(home)
            is_same = found is not None and found.identity == config_hash(trials.config)
            if found and is_same and (found.made_by == [made_by] or cell.config["stale"] == "keep"):
                return found
            if is_ours:
                tried(trials, made_by, cell).write(home)
        interruption.check()  # the lock waits for some seconds


def tried(trials: Cell, made_by: dict[str, Any], cell: Cell) -> Tuning:
    """Trains all points, and says which one is the best.

    Args:
        trials: The cell, whose seeds and folder are those of tuning.
        made_by: What makes the numbers.
        cell: The same cell with the seeds and the folder of the run that waits for what is chosen.
    """
    config, started = trials.config, time.perf_counter()
    points: list[dict[str, Any]] = []
    found: dict[str, Tried] = {}
    in_order: list[Tried] = []
    once = Once()
    while proposed := search.proposed(config, points, [one.accuracy for one in in_order]):
        new = {space.mark(config, point): point for point in proposed}  # points may give the same numbers
        new = {mark: point for mark, point in new.items() if mark not in found}
        for mark, point in [*new.items()]:
            if space.trials_of(config) and (wrong := check(replace(trials, config=space.at(config, point)), once=once)):
                log.warning("not tried: %s (%s)", space.named(point), wrong[0])
                found[mark] = Tried({}, [True] * len(trials.seeds))
                del new[mark]
        for pack in space.packs(config, [*new.values()], at_once(config)):
            interruption.check()
            stage = _stage(len(found), len(pack), space.trials_of(config) or len(proposed), trials, cell)
            fitted = trained(trials, pack, made_by, stage)
            for point, one in zip(pack, _by_point(fitted, len(trials.seeds)), strict=True):
                found[space.mark(config, point)] = one
        points += [dict(point) for point in proposed]
        in_order += [found[space.mark(config, point)] for point in proposed]
    names = dict.fromkeys(name for one in in_order for name in one.metrics)
    nothing: list[float | None] = [None] * len(trials.seeds)
    metrics = {name: [one.metrics.get(name, nothing) for one in in_order] for name in names}
    if not metrics:
        raise Refusal("tune", "no point that was tried can be trained", "one at least", "see the log, and change it")
    chosen, diverged = best(metrics), [one.diverged for one in in_order]
    edges, seconds = search.edges(config, points, points[chosen]), time.perf_counter() - started
    shutil.rmtree(trials.folder / "checkpoints", ignore_errors=True)
    seeds, identity = [*trials.seeds], config_hash(config)
    return Tuning(identity, points, seeds, metrics, diverged, chosen, edges, [made_by], seconds)


def at_once(config: Config) -> int:
    """The most replicas that are tried as one stack; 0 where each point may as well be tried by itself."""
    splits, device = objects.splits(config), objects.device(config)
    return stacking.most_at_once(config, splits, device) if stacking.stacks(config, splits, device, count=2) else 0


def _stage(before: int, now: int, points: int, trials: Cell, cell: Cell) -> Stage:
    """What some points are of all that a run trains: after them the other points, then the cell itself."""
    which = str(before + 1) if now == 1 else f"{before + 1}-{before + now}"
    to_come = max(0, points - before - now) * len(trials.seeds) + len(cell.seeds)
    return Stage(cell.folder, f"{TUNING} {which} of {points}", then=to_come / (now * len(trials.seeds)))


def trained(
    cell: Cell, points: Sequence[space.Point], made_by: Mapping[str, object], stage: Stage, alone: str | None = None
) -> Fitted:
    """The numbers of all seeds at several points, those of the first point first."""
    built = build_trials(cell, points, stage, alone)
    checkpoint = built.checkpoints.found()
    if built.checkpoints.made_by != [made_by]:  # other code would go on with what this one cannot vouch for
        checkpoint = None
    built.checkpoints.made_by = [dict(made_by)]
    try:
        return fit(built, checkpoint)
    except Unstackable as error:
        if cell.config["trainer"]["stack_replicas"] is True:
            raise
        built.checkpoints.file.unlink(missing_ok=True)
        return trained(cell, points, made_by, stage, one_line(error))


def best(metrics: Mapping[str, Table]) -> int:
    """The index of the point with the highest mean validation accuracy; of several, that with the lowest loss.

    A replica that diverged has the accuracy of chance, and an infinite loss.

    Args:
        metrics: `val/acc` and `val/loss` of each point and seed.

    >>> best({"val/acc": [[0.5, 0.7], [0.6, 0.6], [0.1, 0.1]], "val/loss": [[2.0, 1.0], [1.0, 1.0], [None, None]]})
    1
    """
    accuracies = [accuracy(row) for row in metrics["val/acc"]]
    losses = [fmean(math.inf if value is None else value for value in row) for row in metrics["val/loss"]]
    return max(range(len(accuracies)), key=lambda i: (round(accuracies[i], 12), -losses[i]))


def accuracy(row: Sequence[float | None]) -> float:
    """The mean accuracy of a point, by which it is chosen."""
    return fmean(0.0 if value is None else value for value in row)


def _by_point(fitted: Fitted, size: int) -> list[Tried]:
    """What was found at each of several points, of so many replicas each."""
    cuts = [slice(i, i + size) for i in range(0, len(fitted.diverged), size)]
    metrics = [{name: values[cut] for name, values in fitted.metrics.items()} for cut in cuts]
    return [Tried(own, fitted.diverged[cut]) for own, cut in zip(metrics, cuts, strict=True)]
