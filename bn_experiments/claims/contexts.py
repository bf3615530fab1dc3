"""Contexts: which cells of a sweep may be compared, and what keeps the others apart.

Two cells are arms of one comparison only if their resolved configurations are equal outside the arms' keys, the seeds
and the keys that change no number, on the same data and the same kind of device. What was typed gives names;
in an experiment it also says which settings an arm was given beside those that it names (see `arms`).
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from bn_experiments.claims.arms import arm_names, below, keys_of, selections
from bn_experiments.claims.protocol import Protocol
from bn_experiments.records import identity
from bn_experiments.records.results import Result
from bn_experiments.refusal import shown

GROUPS = ("data", "model", "optimizer")  # that name a context
QUOTED = re.compile(r"""(?<=[=\s,:\[{(])(["'])(?:\\.|(?!\1)[^\\])*\1""")
ALL = "all"  # in place of a baseline: every pair of arms is compared
DATA = "data_digest"  # the setting that says on which data
MOST_KEYS = 3  # of those that keep two contexts apart, shown in a line
MOST_CONTEXTS = 20  # for which lines are written, and among which the most similar one is looked for


@dataclass(frozen=True)
class Context:
    """Cells that differ in their arms alone.

    Args:
        groups: The option of each of `GROUPS`.
        settings: The further settings, as text.
        shared: All keys that the arms share, with their values.
        arms: The folder of each arm's cell, by the name of the arm.
        absent: The reason why an arm of the experiment has no cell here, by the name of the arm.
    """

    groups: dict[str, str]
    settings: str
    shared: dict[str, Any]
    arms: dict[str, Path]
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the arms share, as text: the options of groups, and the further settings."""
        return " ".join([*(f"{group}={option}" for group, option in self.groups.items()), self.settings]).strip()


def of_grid(cells: Mapping[Path, Result]) -> list[Context]:
    """The contexts of a grid, in which an arm is whatever the keys of `norm` make it.

    Args:
        cells: The finished cells of a sweep, by folder.
    """
    names = arm_names({folder: (result.cell, result.config) for folder, result in cells.items()})
    contexts = []
    for alike in _alike(cells, ("norm",)):
        arms: dict[str, Path] = {}
        for folder in alike:
            arms[names[folder] if names[folder] not in arms else f"{names[folder]} ({folder.name})"] = folder
        groups, texts = _options(alike.values(), ("norm",))
        contexts.append(Context(groups, " ".join(texts), _common(alike, ("norm",)), arms))
    return _in_order(_told_apart(contexts))


def _in_order(contexts: Sequence[Context]) -> list[Context]:
    """The contexts, those that differ in numbers alone together, in ascending order of these; null comes first.

    A number that was typed for some of them stands in the settings of all.
    """
    values: dict[str, dict[str, Any]] = {}
    for context in contexts:
        for key, value in context.shared.items():
            values.setdefault(key, {})[repr(value)] = value

    def all_numbers(own: Iterable[Any]) -> bool:
        return all(value is None or identity.is_number(value) for value in own)

    numbers = [key for key, own in values.items() if all_numbers(own.values())]
    varied = sorted(key for key in numbers if len(values[key]) > 1)
    typed = {text.partition("=")[0] for context in contexts for text in texts_of(context.settings)}
    first: dict[str, int] = {}
    ranked = []
    for context in contexts:
        rest = {key: value for key, value in context.shared.items() if key not in (*varied, DATA)}
        place = first.setdefault(mark({**context.groups, **rest}), len(first))
        there = {key: context.shared[key] for key in varied if context.shared.get(key) is not None}
        texts = texts_of(context.settings)
        own = {text.partition("=")[0] for text in texts}
        more = [f"{key}={shown(value)}" for key, value in there.items() if key in typed - own]
        settings = " ".join(sorted([*texts, *more])) if more else context.settings
        rank = [(key in there, there.get(key, 0)) for key in varied]
        ranked.append((place, rank, replace(context, settings=settings)))
    return [context for *_, context in sorted(ranked, key=lambda one: one[:2])]


def of_experiment(protocol: Protocol, cells: Mapping[Path, Result]) -> list[Context]:
    """The contexts of an experiment, whose arms its protocol selects.

    Settings below the groups that the arms name, such as `norm.eps` in a grid over an experiment, set contexts apart
    too (see `arms.selections`). An arm that has no such key, such as none, stands in each of them.

    Args:
        protocol: The protocol.
        cells: The finished cells of its sweep, by folder.
    """
    keys = [*keys_of(protocol), *_following(keys_of(protocol), cells.values())]
    contexts = []
    for alike in _alike(cells, keys):
        groups, texts = _options(alike.values(), keys)
        for found in selections(protocol, alike):
            settings = " ".join(sorted([*texts, *(f"{key}={shown(value)}" for key, value in found.given.items())]))
            absent = {
                arm: f"{len(folders)} cells are arm {arm}: {', '.join(sorted(folder.name for folder in folders))}"
                for arm, folders in found.several.items()
            }
            contexts.append(Context(groups, settings, _common(alike, keys) | found.given, found.arms, absent))
    told = _told_apart(contexts)
    return [replace(one, absent=_reasons(protocol, one, told) | one.absent) for one in told]


def _following(keys: Collection[str], cells: Collection[Result]) -> list[str]:
    """The keys of probes that follow one of the arms' keys, such as the batch size of a probe that of the data.

    They have its name, and its value in every cell.
    """
    settings = [identity.settings(cell.config) for cell in cells]
    found = []
    for key in keys:
        leaf = f".{key.rpartition('.')[2]}"
        alike = {other for own in settings for other in own if other.startswith("probes.") and other.endswith(leaf)}
        found += [other for other in alike if all(own.get(other, own.get(key)) == own.get(key) for own in settings)]
    return sorted(found)


def texts_of(settings: str) -> list[str]:
    r"""The settings in a text, which may hold spaces in their values, and anything in quotes.

    >>> texts_of("model.hidden=[64, 64] data.root='/my images' +x=1")
    ['model.hidden=[64, 64]', "data.root='/my images'", '+x=1']
    >>> texts_of("model.tags=['a b=1', 2] model.tag='it\\'s c=u, [x]'")
    ["model.tags=['a b=1', 2]", "model.tag='it\\'s c=u, [x]'"]
    """
    masked = QUOTED.sub(lambda quoted: "_" * len(quoted[0]), settings)  # of the same length
    starts = [0, *(border.end() for border in re.finditer(r"\s+(?=[\w./@+~]+=)", masked)), len(settings)]
    return [text for start, end in pairwise(starts) if (text := settings[start:end].strip())]


def in_short(names: Collection[str]) -> dict[str, str]:
    """The names of contexts, each with what it is called in short: without what all of them share, by options alone.

    >>> in_short(["data=mnist1d model=mlp", "data=mnist1d model=lenet init=torch"])
    {'data=mnist1d model=mlp': 'mlp', 'data=mnist1d model=lenet init=torch': 'lenet init=torch'}
    """
    texts = {name: texts_of(name) for name in names}
    shared = set.intersection(*map(set, texts.values())) if texts else set()
    option = re.compile(f"^({'|'.join(GROUPS)})=")
    return {name: " ".join(option.sub("", text) for text in own if text not in shared) for name, own in texts.items()}


def apart(contexts: Sequence[Context], baseline: str) -> list[str]:
    """A line for arms that have no baseline to be compared with although it was trained, with the keys that differ.

    Args:
        contexts: The contexts of a sweep.
        baseline: The name of the baseline arm.
    """

    def has_baseline(context: Context) -> bool:
        return len(context.arms) > 1 if baseline == ALL else baseline in context.arms

    having = [context for context in contexts if has_baseline(context)]
    without = [context for context in contexts if not has_baseline(context)] if having else []
    whom = "others" if baseline == ALL else baseline
    lines = [
        f"{', '.join(context.arms)} ({context.name}): not compared with {whom}, for {_parting(context, having)}"
        for context in without[:MOST_CONTEXTS]
    ]
    if len(without) > MOST_CONTEXTS:
        lines.append(f"so are the arms of {len(without) - MOST_CONTEXTS} more settings")
    return lines


def _parting(context: Context, others: Sequence[Context]) -> str:
    """The keys that keep a context apart from the most similar one of others."""
    alike = [other for other in others if other.groups == context.groups] or others
    keys = min((differing(context.shared, other.shared) for other in alike[:MOST_CONTEXTS]), key=len)
    more = f" and {len(keys) - MOST_KEYS} more keys" if len(keys) > MOST_KEYS else ""
    return ", ".join(keys[:MOST_KEYS]) + more


def _reasons(protocol: Protocol, context: Context, contexts: Sequence[Context]) -> dict[str, str]:
    """Why the arms of an experiment that a context lacks have no cell in it, by the name of the arm."""
    found = {}
    for arm in protocol.arms.keys() - context.arms.keys():
        others = [other for other in contexts if arm in other.arms and other.groups == context.groups]
        found[arm] = f"arm {arm} was not trained"
        if others:
            found[arm] += f" with these settings, in which {_parting(context, others)}"
    return found


def with_most_of(folders: Collection[Path], contexts: Sequence[Context]) -> set[str]:
    """The names of the contexts that hold the most of the cells in given folders; of all where none holds any.

    Args:
        folders: The folders of cells.
        contexts: The contexts of a sweep.
    """
    held = {context.name: set(folders) & set(context.arms.values()) for context in contexts}
    return {name for name, own in held.items() if not any(own < others for others in held.values())}


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys in which two sets of settings differ, each as a clause.

    >>> differing({"trainer.max_epochs": 4, "init": "torch"}, {"trainer.max_epochs": 1, "init": "torch"})
    ['trainer.max_epochs is 4, not 1']
    """
    absent = object()
    clauses = []
    for key in dict.fromkeys([*one, *other]):
        mine, yours = one.get(key, absent), other.get(key, absent)
        if mine is absent or yours is absent:
            clauses.append(f"{key} is {'not there' if mine is absent else shown(mine)} on one side alone")
        elif mine != yours:
            clauses.append(f"{key} is {shown(mine)}, not {shown(yours)}")
    return clauses


def shared(folder: Path, result: Result, keys: Collection[str]) -> dict[str, Any]:
    """What a cell must share with the other arms: its settings but for the arms' keys, its data and kind of device.

    Args:
        folder: The folder of the cell.
        result: The record of the cell.
        keys: The keys of the arms.
    """
    found = identity.settings(result.config)
    for key in below(found, *keys):
        del found[key]
    data = {origin.data for origin in result.origins}
    if len(data) > 1:  # compared with no other cell, which may have other seeds on each
        found[DATA] = f"not one: its runs are of different data ({folder.name})"
    elif "data" not in keys:
        found[DATA] = "".join(data)
    return found | {"device": "+".join(sorted({origin.device for origin in result.origins}))}


def mark(values: Mapping[str, Any]) -> str:
    """A text that is the same for the same values by key."""
    return json.dumps(values, sort_keys=True)


def _alike(cells: Mapping[Path, Result], keys: Collection[str]) -> list[dict[Path, Result]]:
    """The cells in groups that share all that arms must share."""
    found: dict[str, dict[Path, Result]] = {}
    for folder, result in cells.items():
        found.setdefault(mark(shared(folder, result, keys)), {})[folder] = result
    return list(found.values())


def _common(alike: Mapping[Path, Result], keys: Collection[str]) -> dict[str, Any]:
    folder, result = next(iter(alike.items()))
    return shared(folder, result, keys)


def _options(cells: Collection[Result], keys: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """What all of some cells were given but for the arms' keys: the option of each group, and the further settings."""
    groups = {group: min(str(cell.cell[group]) for cell in cells) for group in GROUPS if group not in keys}
    typed = [{text.partition("=")[0]: text for text in cell.cell["overrides"]} for cell in cells]
    own = [{text for key, text in texts.items() if key not in below(texts, *keys)} for texts in typed]
    return groups, sorted(set.intersection(*own))


def _told_apart(contexts: Sequence[Context]) -> list[Context]:
    """The contexts, those of the same name with the keys that tell them apart added to it."""
    by_name: dict[str, list[Context]] = {}
    for context in contexts:
        by_name.setdefault(context.name, []).append(context)
    found = []
    for context in contexts:
        alike = [other.shared for other in by_name[context.name] if other is not context]
        told = [key for key, value in context.shared.items() if any(other.get(key) != value for other in alike)]
        more = [f"{key}={shown(context.shared[key])}" for key in told if f"{key}=" not in context.settings]
        found.append(replace(context, settings=" ".join([context.settings, *more]).strip()))
    return found
