"""Arms: the names of a grid's arms, which cells an experiment's arms select, and what was given beside that."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bn_experiments.claims.protocol import Protocol
from bn_experiments.records import identity
from bn_experiments.records.identity import BASELINE
from bn_experiments.records.results import Result
from bn_experiments.refusal import Refusal, nearest, shown


def arm_names(cells: Mapping[Path, tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[Path, str]:
    """The name of each cell's arm; where several share a name, it is followed by the keys that tell them apart.

    Cells whose norms are equal in every key are one arm, under the shortest of the names that were typed.

    Args:
        cells: The choices and the configuration of each cell, by folder.
    """
    norms = {folder: below(identity.settings(config), "norm") for folder, (_, config) in cells.items()}
    typed = {folder: identity.arm_name(choices, config) for folder, (choices, config) in cells.items()}
    shortest: dict[str, str] = {}
    for folder, name in typed.items():
        shortest[json.dumps(norms[folder])] = min(shortest.get(json.dumps(norms[folder]), name), name, key=len)
    names = {folder: shortest[json.dumps(norms[folder])] for folder in typed}
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


def is_of(selector: Mapping[str, Any], choices: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether the selector, keys with values, fits a cell with these choices of groups and this config.

    >>> is_of({"norm": "bn", "data.size": None}, {"norm": "bn"}, {"data": {"size": None}})
    True
    """
    return all(value_of(key, choices, config) == wanted for key, wanted in selector.items())


def value_of(key: str, choices: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """The value of a cell's key, or the option of a group; None where there is no such key.

    The option of the norm is none just where there is no norm, whatever class was typed.

    >>> value_of("norm", {"norm": "none"}, {"norm": {"_target_": "my.Norm"}})
    'my.Norm'
    """
    if key == "norm" and "norm" in config:
        path = config["norm"]["_target_"]
        return BASELINE if path is None else path if choices[key] == BASELINE else choices[key]
    if key in choices:
        return choices[key]
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def unmatched(
    protocol: Protocol, cells: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], typed: Collection[str]
) -> list[Refusal]:
    """A refusal for each arm that no cell of the experiment's grid is.

    Args:
        protocol: The protocol of the experiment.
        cells: The choices of groups and the configuration of each cell.
        typed: The keys that the command line sets. An arm that names one of them, or a key below one, may be left out.
    """
    refusals = []
    for arm, selector in protocol.arms.items():
        is_left_out = any(f"{key}.".startswith(f"{each}.") for key in selector for each in typed)
        if is_left_out or any(is_of(selector, *cell) for cell in cells):
            continue
        for key, wanted in selector.items():
            values = list(dict.fromkeys(shown(value_of(key, *cell)) for cell in cells))
            if shown(wanted) not in values:
                got, remedy = f"no cell has {key}={shown(wanted)}", nearest(shown(wanted), values) or "change it"
                refusals.append(Refusal(f"experiment.arms.{arm}", got, ", ".join(values), remedy))
                break
        else:
            text = " ".join(f"{key}={shown(value)}" for key, value in selector.items())
            got, allowed = f"no cell is {text}", "keys and values that a cell of the grid has together"
            refusals.append(Refusal(f"experiment.arms.{arm}", got, allowed, "change it, or the grid"))
    return refusals


@dataclass(frozen=True)
class Selection:
    """The arms of cells that were given the same settings below the groups that an experiment's arms name.

    Args:
        given: These settings, which no arm names, by key.
        arms: The folder of each arm's cell, by the name of the arm.
        several: The folders of the cells that are one arm, by its name, where nothing says which of them is meant.
    """

    given: dict[str, Any]
    arms: dict[str, Path]
    several: dict[str, list[Path]]

    @property
    def folders(self) -> set[Path]:
        """The folders of all cells that it has."""
        return {*self.arms.values(), *(folder for folders in self.several.values() for folder in folders)}


def selections(protocol: Protocol, cells: Mapping[Path, Result]) -> list[Selection]:
    """The arms of an experiment, once for each of the settings that its cells were given beside what the arms name.

    Args:
        protocol: The protocol of the experiment.
        cells: Cells that are equal in all keys but those that the arms name, and the keys below them.
    """
    keys = keys_of(protocol)
    edited = _edited(keys, cells)
    candidates = {arm: _candidates(selector, keys, cells, edited) for arm, selector in protocol.arms.items()}
    variants: list[dict[str, Any]] = []
    for candidate in (each for own in candidates.values() for each in own):
        if candidate.given not in variants:
            variants.append(candidate.given)
    found = []
    for given in variants or [{}]:
        fitting = {arm: [each.folder for each in own if each.fits(given)] for arm, own in candidates.items()}
        arms = {arm: folders[0] for arm, folders in fitting.items() if len(folders) == 1}
        found.append(Selection(given, arms, {arm: folders for arm, folders in fitting.items() if len(folders) > 1}))
    return [one for one in found if not any(one.folders < other.folders for other in found)]


def keys_of(protocol: Protocol) -> list[str]:
    """The keys that the arms of an experiment name."""
    return sorted({key for selector in protocol.arms.values() for key in selector})


def below(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The values of some keys, and of the keys below them.

    >>> below({"norm.eps": 1, "norms": 2, "init": 3}, "norm", "init")
    {'norm.eps': 1, 'init': 3}
    """
    parents = tuple(f"{key}." for key in keys)
    return {key: value for key, value in values.items() if key in keys or key.startswith(parents)}


@dataclass(frozen=True)
class _Candidate:
    """A cell that an arm selects, with its settings below the groups that arms name, without those that arms name.

    Args:
        folder: The folder of the cell.
        values: All of these settings; None for a key that only other cells of the arm have.
        given: Those that were typed, and those in which cells of the arm differ although nobody typed them.
    """

    folder: Path
    values: dict[str, Any]
    given: dict[str, Any]

    def fits(self, given: Mapping[str, Any]) -> bool:
        """Whether it was given nothing else, and has the same values where its arm has these keys at all."""
        agrees = all(self.values.get(key, value) == value for key, value in given.items())
        return agrees and self.given.items() <= given.items()


def _edited(keys: Sequence[str], cells: Mapping[Path, Result]) -> dict[tuple[str, str], set[str]]:
    """The keys below groups that nobody typed and in which cells of one option differ, by group and option.

    Such is a default that was edited between two commands.
    """
    found: dict[tuple[str, str], dict[str, set[str]]] = {}
    for cell in cells.values():
        further, typed = _further(cell, keys), _typed(cell)
        for group in keys:
            own = {key: further[key] for key in below(further, group)} if group in cell.cell else {}
            for key in own.keys() - below(own, *typed).keys():
                option = found.setdefault((group, str(cell.cell[group])), {})
                option.setdefault(key, set()).add(identity.digest({key: own[key]}))
    return {option: {key for key, values in own.items() if len(values) > 1} for option, own in found.items()}


def _candidates(
    selector: Mapping[str, Any],
    keys: Sequence[str],
    cells: Mapping[Path, Result],
    edited: Mapping[tuple[str, str], set[str]],
) -> list[_Candidate]:
    own = {folder: cell for folder, cell in cells.items() if is_of(selector, cell.cell, cell.config)}
    found = {folder: _further(cell, keys) for folder, cell in own.items()}
    names = list(dict.fromkeys(key for values in found.values() for key in values))
    values = {folder: {key: found[folder].get(key) for key in names} for folder in own}
    candidates = []
    for folder, cell in own.items():
        options = ((group, str(option)) for group, option in cell.cell.items())
        told = set(below(values[folder], *_typed(cell))).union(*(edited.get(option, ()) for option in options))
        given = {key: value for key, value in values[folder].items() if key in told}
        candidates.append(_Candidate(folder, values[folder], given))
    return candidates


def _typed(cell: Result) -> list[str]:
    """The keys that were typed, without those of groups, whose options say which cell it is."""
    keys = (text.partition("=")[0].lstrip("~") for text in cell.cell["overrides"])
    return [key for key in keys if key not in cell.cell]


def _further(cell: Result, keys: Sequence[str]) -> dict[str, Any]:
    """The settings of a cell below the groups among the keys, without the other keys; a norm that is none has none."""
    groups = [key for key in keys if key in cell.cell]
    found = below(identity.settings(cell.config), *groups)
    named = below(found, *(key for key in keys if key not in groups))
    return {key: value for key, value in found.items() if key not in named and (key, value) != ("norm._target_", None)}
