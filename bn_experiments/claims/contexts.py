"""Contexts: which cells of a sweep may be compared, and what keeps the others apart.

Two cells are arms of one comparison only if their resolved configurations are equal outside the arms' keys, the seeds
and the keys that change no number, on the same data and the same kind of device. What was typed gives names, and
decides nothing.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bn_experiments.claims.protocol import Protocol, is_of
from bn_experiments.records import identity
from bn_experiments.records.results import Result
from bn_experiments.refusal import shown

GROUPS = ("data", "model", "optimizer")  # that name a context
ALL = "all"  # in place of a baseline: every pair of arms is compared
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
    """

    groups: dict[str, str]
    settings: str
    shared: dict[str, Any]
    arms: dict[str, Path]

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
    found: dict[str, list[Path]] = {}
    for folder, result in cells.items():
        found.setdefault(_mark(_shared(result, ("norm",))), []).append(folder)
    contexts = []
    for folders in found.values():
        first = cells[folders[0]]
        arms: dict[str, Path] = {}
        for folder in folders:
            arms[names[folder] if names[folder] not in arms else f"{names[folder]} ({folder.name})"] = folder
        groups = {group: str(first.cell[group]) for group in GROUPS}
        settings = " ".join(text for text in first.cell["overrides"] if not text.startswith("norm."))
        contexts.append(Context(groups, settings, _shared(first, ("norm",)), arms))
    return _told_apart(contexts)


def of_experiment(protocol: Protocol, cells: Mapping[Path, Result]) -> list[Context]:
    """The contexts of an experiment, whose arms its protocol selects.

    Settings of the norm that the protocol does not name, such as `norm.eps` in a grid over an experiment, set contexts
    apart too. An arm that has no such key, such as none, stands in each of them.

    Args:
        protocol: The protocol.
        cells: The finished cells of its sweep, by folder.
    """
    keys = sorted({key for selector in protocol.arms.values() for key in selector})
    found: dict[str, list[Path]] = {}
    for folder, result in cells.items():
        found.setdefault(_mark(_shared(result, keys)), []).append(folder)
    contexts = []
    for folders in found.values():
        given = {folder: _given(cells[folder], keys) for folder in folders}
        variants = [dict(items) for items in dict.fromkeys(tuple(each.items()) for each in given.values())]
        selected = [_selected(protocol, cells, given, variant) for variant in variants]
        for variant, arms in zip(variants, selected, strict=True):
            if any(set(arms.values()) < set(others.values()) for others in selected):
                continue
            first = cells[folders[0]]
            groups = {group: str(first.cell[group]) for group in GROUPS if group not in keys}
            own = [text for text in first.cell["overrides"] if text.partition("=")[0] not in keys]
            texts = sorted({*(text for text in own if not text.startswith("norm.")), *variant.values()})
            contexts.append(Context(groups, " ".join(texts), _shared(first, keys) | variant, arms))
    return _told_apart(contexts)


def distinct(cells: Mapping[Path, Result]) -> tuple[dict[Path, Result], list[str]]:
    """The cells, of those that are the same in two folders the one with more seeds, and a line for each other one.

    Two folders hold the same cell where a key was typed that has its default's value, or where a folder was copied.

    Args:
        cells: The finished cells of a sweep, by folder.
    """
    kept: dict[str, Path] = {}
    lines = []
    for folder in sorted(cells, key=lambda folder: (-len(cells[folder].seeds), folder.name)):
        mark = _mark(_shared(cells[folder], ()))
        if mark in kept:
            lines.append(
                f"{folder.name}: the same cell as {kept[mark].name}, which has as many seeds or more; left out"
            )
        kept.setdefault(mark, folder)
    chosen = set(kept.values())
    return {folder: result for folder, result in cells.items() if folder in chosen}, lines


def texts_of(settings: str) -> list[str]:
    """The settings in a text, which may hold spaces in their values.

    >>> texts_of("model.hidden=[64, 64] data.root='/my images' +x=1")
    ['model.hidden=[64, 64]', "data.root='/my images'", '+x=1']
    """
    return [text for text in re.split(r"\s+(?=[\w./@+~]+=)", settings.strip()) if text]


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
    lines = []
    for context in without[:MOST_CONTEXTS]:
        alike = [other for other in having if other.groups == context.groups] or having
        keys = min((differing(context.shared, other.shared) for other in alike[:MOST_CONTEXTS]), key=len)
        more = f" and {len(keys) - MOST_KEYS} more keys" if len(keys) > MOST_KEYS else ""
        whom, reasons = "others" if baseline == ALL else baseline, ", ".join(keys[:MOST_KEYS])
        lines.append(f"{', '.join(context.arms)} ({context.name}): not compared with {whom}, for {reasons}{more}")
    if len(without) > MOST_CONTEXTS:
        lines.append(f"so are the arms of {len(without) - MOST_CONTEXTS} more settings")
    return lines


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


def _shared(result: Result, keys: Sequence[str]) -> dict[str, Any]:
    """What a cell must share with the other arms: its settings but for the arms' keys, its data and kind of device."""
    found = identity.settings(result.config)
    for key in _below(found, *keys):
        del found[key]
    if "data" not in keys:
        found["data_digest"] = "+".join(sorted({origin.data for origin in result.origins}))
    return found | {"device": "+".join(sorted({origin.device for origin in result.origins}))}


def _given(result: Result, keys: Sequence[str]) -> dict[str, str]:
    """The settings of the norm that were set and that no arm of the protocol names, as text by key."""
    if "norm" not in keys:
        return {}
    texts = {text.partition("=")[0]: text for text in result.cell["overrides"]}
    return {key: text for key, text in texts.items() if key.startswith("norm.") and key not in keys}


def _selected(
    protocol: Protocol,
    cells: Mapping[Path, Result],
    given: Mapping[Path, Mapping[str, str]],
    variant: Mapping[str, str],
) -> dict[str, Path]:
    """The cell of each arm whose settings of the norm are among a variant's; of several the one with most of them."""
    fitting = [folder for folder, own in given.items() if _fits(own, variant, identity.settings(cells[folder].config))]
    fitting.sort(key=lambda folder: -len(given[folder]))
    arms: dict[str, Path] = {}
    for arm, selector in protocol.arms.items():
        own = [folder for folder in fitting if is_of(selector, cells[folder].cell, cells[folder].config)]
        if own:
            arms[arm] = own[0]
    return arms


def _fits(own: Mapping[str, str], variant: Mapping[str, str], settings: Mapping[str, Any]) -> bool:
    """Whether a cell stands in a variant: it was given the same, and has none of the keys that it was not given."""
    return own.items() <= variant.items() and not any(key in settings for key in variant.keys() - own.keys())


def _mark(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


def arm_names(cells: Mapping[Path, tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[Path, str]:
    """The name of each cell's arm; where several share a name, it is followed by the keys that tell them apart.

    Args:
        cells: The choices and the configuration of each cell, by folder.
    """
    norms = {folder: _below(identity.settings(config), "norm") for folder, (_, config) in cells.items()}
    names = {folder: identity.arm_name(choices, config) for folder, (choices, config) in cells.items()}
    alike: dict[str, list[dict[str, Any]]] = {}
    for folder, name in names.items():
        if norms[folder] not in alike.setdefault(name, []):
            alike[name].append(norms[folder])
    told = {}
    for folder, name in names.items():
        own, others = norms[folder], alike[name]
        keys = [key for key in own if any(other.get(key) != own[key] for other in others)]
        told[folder] = " ".join([name, *(f"{key.removeprefix('norm.')}={shown(own[key])}" for key in keys)])
    return told


def _below(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The values of some keys, and of the keys below them."""
    parents = tuple(f"{key}." for key in keys)
    return {key: value for key, value in values.items() if key in keys or key.startswith(parents)}


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
        found.append(Context(context.groups, " ".join([context.settings, *more]).strip(), context.shared, context.arms))
    return found
