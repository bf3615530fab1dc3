"""Swept: a number that a grid varies, the arms at each of its values, and whether it helps one arm more than others."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bn_experiments.claims.contexts import ALL, DATA, Context, texts_of
from bn_experiments.claims.summary import DIFFERENCE, by_seed, corrected, is_at_chance, two_sided
from bn_experiments.records.identity import is_number
from bn_experiments.records.origin import is_mixed
from bn_experiments.records.results import Result
from bn_experiments.statistics.evidence import Array
from bn_experiments.statistics.intervals import mean_interval
from bn_experiments.statistics.largest import largest_in_words, largest_that_train
from bn_experiments.statistics.rules import interaction

METRIC = "test/acc"  # by which a replica trains or not
Cells = Mapping[Path, Result]


@dataclass(frozen=True)
class Swept:
    """Contexts that differ in one number alone.

    Args:
        key: The key whose value it is, such as optimizer.lr.
        groups: The option of each group, the same in all contexts.
        settings: The further settings that all contexts share, as text.
        contexts: The contexts by the value of the key, in ascending order.
    """

    key: str
    groups: dict[str, str]
    settings: str
    contexts: dict[float, Context]

    @property
    def name(self) -> str:
        """What all contexts share, as text."""
        return " ".join([*(f"{group}={option}" for group, option in self.groups.items()), self.settings]).strip()

    @property
    def arms(self) -> dict[str, dict[float, Path]]:
        """The folder of each arm's cell at each value, by the arm's name; arms of one value are left out."""
        names = dict.fromkeys(name for context in self.contexts.values() for name in context.arms)
        of_all = {
            name: {value: context.arms[name] for value, context in self.contexts.items() if name in context.arms}
            for name in names
        }
        return {name: cells for name, cells in of_all.items() if len(cells) > 1}


def swept(contexts: Sequence[Context]) -> list[Swept]:
    """What a grid sweeps: for each number that it varies, the contexts that are equal but for it.

    Numbers of probes that follow the key, such as a batch size, may differ with it, and the data with a key of theirs.

    Args:
        contexts: The contexts of the grid (see `contexts.of_grid`).
    """
    keys = dict.fromkeys(key for context in contexts for key, value in context.shared.items() if is_number(value))
    varied = [key for key in keys if len({context.shared.get(key) for context in contexts}) > 1]
    followers = {key: _followers(key, contexts) for key in varied if not key.endswith("seed")}
    following = {follower for own in followers.values() for follower in own}
    found = []
    for key, own in followers.items():
        alike: dict[str, dict[float, Context]] = {}
        for context in contexts if key not in following else ():
            value = context.shared.get(key)
            if is_number(value):
                rest = {name: other for name, other in context.shared.items() if name not in (key, *own)}
                alike.setdefault(json.dumps([context.groups, rest], sort_keys=True), {})[value] = context
        found += [_of(key, by_value) for by_value in alike.values() if len(by_value) > 1]
    return [one for one in found if one.arms]


def _followers(key: str, contexts: Sequence[Context]) -> list[str]:
    """The keys that differ where the key does: those of probes that have its name and value, and the data's digest."""
    leaf = f".{key.rpartition('.')[2]}"
    alike = {other for context in contexts for other in context.shared if other.endswith(leaf) and other != key}
    shared = [context.shared for context in contexts]
    own = [each for each in alike if all(values.get(each, values.get(key)) == values.get(key) for values in shared)]
    return sorted(each for each in own if each.startswith("probes.")) + [DATA] * key.startswith("data.")


def _of(key: str, by_value: Mapping[float, Context]) -> Swept:
    contexts = dict(sorted(by_value.items()))
    first = next(iter(contexts.values()))
    texts = [texts_of(context.settings) for context in contexts.values()]
    shared = [text for text in texts[0] if all(text in own for own in texts) and not text.startswith(f"{key}=")]
    return Swept(key, first.groups, " ".join(shared), contexts)


def trains_up_to(found: Swept, cells: Cells) -> str:
    """A line that says up to which value the replicas of each arm train; empty where all do at the largest value.

    Args:
        found: The number.
        cells: The finished cells of the sweep, by folder.
    """
    arms = {arm: own for arm, own in found.arms.items() if all(METRIC in cells[each].metrics for each in own.values())}
    accuracies = {arm: _shared(own, cells) for arm, own in arms.items()}
    accuracies = {arm: own for arm, own in accuracies.items() if len(own)}
    chance = max((cells[each].chance.get(METRIC, 0.0) for own in arms.values() for each in own.values()), default=0.0)
    if not accuracies:
        return ""
    values = {arm: list(arms[arm]) for arm in accuracies}
    largest = largest_that_train(accuracies, values, chance)
    if all((own == values[arm][-1]).all() for arm, own in largest.items()):
        return ""
    texts = [f"{arm} {largest_in_words(own, values[arm])}" for arm, own in largest.items()]
    return f"{found.key}, where replicas train: {'; '.join(texts)}"


def _shared(own: Mapping[float, Path], cells: Cells) -> Array:
    """The accuracies (R, P) of an arm at its values, for the seeds that it has at all of them."""
    columns = [pd.Series(by_seed(cells[folder], METRIC), name=value) for value, folder in own.items()]
    return pd.concat(columns, axis=1, join="inner").to_numpy(dtype=np.float64)


def changes(sweeps: Sequence[Swept], cells: Cells, baseline: str, looks: Sequence[int] = ()) -> pd.DataFrame:
    """What becomes of each arm from the smallest value to each other one, and how much more than of the baseline.

    Args:
        sweeps: The numbers.
        cells: The finished cells of the sweep, by folder.
        baseline: The name of the baseline arm, or all: every arm beside each arm before it.
        looks: The numbers of replicas at which differences are judged.

    Returns:
        Rows as those of `summary.summarise`, and by (the key), start and end (its values). The mean is that of the
        arm's change, paired by seed; the difference is that of the two arms' changes, an interaction. p is adjusted by
        Holm's method over all interactions of a metric.
    """
    return corrected([row for found in sweeps for row in _rows(found, cells, baseline, looks)], looks)


def _rows(found: Swept, cells: Cells, baseline: str, looks: Sequence[int]) -> Iterator[dict[str, Any]]:
    for start, end in ((next(iter(found.contexts)), value) for value in [*found.contexts][1:]):
        pairs = {arm: (cells[own[start]], cells[own[end]]) for arm, own in found.arms.items() if {start, end} <= {*own}}
        for metric in dict.fromkeys(metric for both in pairs.values() for each in both for metric in each.metrics):
            measured = {arm: both for arm, both in pairs.items() if all(metric in each.metrics for each in both)}
            lost = all(is_at_chance(each, metric) for both in measured.values() for each in both)
            for i, (arm, both) in enumerate(measured.items()):
                seeds, (before, after) = _paired([both], metric)
                own = {
                    **found.groups,
                    "settings": found.settings,
                    "arm": arm,
                    "tuned": "",
                    "folder": found.arms[arm][end].name,
                    "metric": metric,
                    **mean_interval((after - before).tolist())._asdict(),
                    "n": len(seeds),
                    "diverged": sum(both[1].diverged),
                    "arm_at_chance": all(is_at_chance(each, metric) for each in both),
                    "at_chance": lost,
                    "by": found.key,
                    "start": start,
                    "end": end,
                }
                others = [*measured][:i] if baseline == ALL else [baseline] if baseline in measured else []
                against_whom: list[str | None] = [other for other in others if other != arm] or [None]
                for other in against_whom:
                    compared = [both, measured[other]] if other and not lost else []
                    origins = [origin for two in compared or [both] for each in two for origin in each.origins]
                    at = _at_looks(compared, metric, looks)
                    yield {**own, "mixed_code": is_mixed(origins), "baseline": other, "at": at}


def _at_looks(compared: Sequence[tuple[Result, Result]], metric: str, looks: Sequence[int]) -> list[dict[str, float]]:
    """The interaction of two arms' changes at each look so far; without looks, of all seeds that four cells have."""
    if not compared:
        return [dict.fromkeys(DIFFERENCE, float("nan"))]
    seeds, cells = _paired(compared, metric)
    found = []
    for size in [size for size in looks if size <= len(seeds)] or [len(seeds)]:
        before, after, other_before, other_after = (values[:size] for values in cells)
        changed, other_changed = (after, before), (other_after, other_before)
        found.append(two_sided(interaction(*changed, *other_changed), interaction(*other_changed, *changed)))
    return found


def _paired(cells: Collection[tuple[Result, Result]], metric: str) -> tuple[list[int], list[Array]]:
    """The seeds that all of some cells have, and a metric of each cell for them."""
    numbers = [by_seed(each, metric) for both in cells for each in both]
    seeds = sorted(set.intersection(*(set(own) for own in numbers)))
    return seeds, [np.array([own[seed] for seed in seeds], dtype=np.float64) for own in numbers]
