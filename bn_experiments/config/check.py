"""The check before anything trains: every error of a grid at once."""

import json
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bn_experiments.claims.arms import value_of
from bn_experiments.config import dry_run, options
from bn_experiments.config.cells import GROUPS, NAMED, Cell, joined, key_of
from bn_experiments.config.objects import Config
from bn_experiments.config.space import at, samples
from bn_experiments.records.identity import config_hash
from bn_experiments.refusal import Refusal

MOST_NAMED = 3  # cells in a line
Question = Callable[..., list[Refusal] | None]
# what decides whether networks can train
NETWORK = ("data", "model", "norm", "init", "loss", "replicas", "probes", "trainer")


def placed(cells: Sequence[Cell], once: "Once", elsewhere: bool = False) -> tuple[list[Cell], list[str]]:
    """The cells of a grid whose norms have a place in their networks, and a line for each reason to leave others out.

    A grid of several networks, or data sets, leaves a cell out in whose network its norm has no place. The cell stays,
    to be refused, where there is one network, or where its norm has no place in any of them.

    Args:
        cells: The composed cells.
        once: What is found of them, for their check.
        elsewhere: Whether the cells train on other machines (see `check_cells`).
    """
    networks = {json.dumps([cell.choices["data"], *map(_model, (cell.choices, cell.config))]) for cell in cells}
    found = [check(cell, (), once, elsewhere) for cell in cells] if len(networks) > 1 else [[] for _ in cells]
    has_place = [not own or not all(refusal.no_place for refusal in own) for own in found]
    norms = {_norm(cell) for cell, stays in zip(cells, has_place, strict=True) if stays}
    left, names = [], dict[Refusal, list[str]]()
    for cell, own, stays in zip(cells, found, has_place, strict=True):
        if stays or _norm(cell) not in norms:
            left.append(cell)
        else:
            names.setdefault(_as_typed(own[0], cell), []).append(cell.folder.name)
    return left, [f"left out: {one.key}: {one.got} ({_named(own, len(cells))})" for one, own in names.items()]


def _norm(cell: Cell) -> str:
    """What says which norm it is, whatever its options."""
    return json.dumps([cell.choices["norm"], cell.config["norm"].get("_target_")])


def _model(options: Config) -> Any:
    """What says which network it is: the option of the group, or the name of the network among those of an option."""
    model = options.get("model")
    return [model.get(key) for key in ("name", "target")] if isinstance(model, dict) else model


def check_cells(
    cells: Sequence[Cell], lost: Collection[str] = (), elsewhere: bool = False, once: "Once | None" = None
) -> list[Refusal]:
    """What is wrong with the cells of a grid: with each of them, then with any two.

    Args:
        cells: The composed cells.
        lost: Groups, or other keys, that lack a setting because it was wrong; what they make is not judged.
        elsewhere: Whether the cells train on other machines, so that device and memory of this one are not judged.
        once: The answers that were found for them before.
    """
    once = once or Once()
    found = [check(cell, lost, once, elsewhere) for cell in cells]
    alike = [] if lost else list(dict.fromkeys(_alike(joined(cells))))
    if not (lost or alike or any(found)):  # the first step takes torch two seconds
        keys = ("optimizer", "scheduler", "data", "trainer")
        found = [[one for config in settled(cell) for one in once(dry_run.step, config, *keys)] for cell in cells]
    if not (lost or alike or any(found)):
        found = [_asked_of_networks(once, dry_run.training, cell, "optimizer") for cell in cells]
    if not (lost or alike or any(found)):
        found = [_asked_of_networks(once, dry_run.seeds, cell, "optimizer", "seed") for cell in cells]
    names: dict[Refusal, list[str]] = {}
    for cell, refusals in zip(cells, found, strict=True):
        for refusal in dict.fromkeys(_as_typed(refusal, cell) for refusal in refusals):
            names.setdefault(refusal, []).append(cell.folder.name)
    return [
        one if len(own) == len(cells) else one.noting(_named(own, len(cells))) for one, own in names.items()
    ] + alike


def settled(cell: Cell) -> list[dict[str, Any]]:
    """The configuration of a cell; where it has tuned keys, one for each point (see `space.samples`)."""
    return [at(cell.config, point) for point in samples(cell.config)]


def _asked_of_networks(once: "Once", question: Question, cell: Cell, *keys: str) -> list[Refusal]:
    """What a function finds wrong that tries networks, each of which it is asked about once, whatever its rates."""
    networks = {json.dumps([config[key] for key in NETWORK]): config for config in reversed(settled(cell))}
    return [one for config in networks.values() for one in once(question, config, *NETWORK, *keys)]


def _as_typed(refusal: Refusal, cell: Cell) -> Refusal:
    """The refusal of the class of a group as one of the option that names it, where no key names another class."""
    group, is_of_class, _ = refusal.key.partition("._target_=")
    if not is_of_class or group not in cell.choices:
        return refusal
    typed, option = cell.choices[group], value_of(group, cell.choices, cell.config)
    if typed == option and f"{group}._target_" in map(key_of, cell.choices["overrides"]):
        return refusal
    return Refusal(group, refusal.got, refusal.allowed, refusal.remedy, value=option, no_place=refusal.no_place)


def _named(names: Sequence[str], count: int) -> str:
    more = ", ..." if len(names) > MOST_NAMED else ""
    return f"{len(names)} of {count} cells: {', '.join(names[:MOST_NAMED])}{more}"


class Once:
    """What functions of a configuration find wrong, each asked once for all cells that agree in the keys it reads."""

    def __init__(self) -> None:
        self.answers: dict[tuple[Any, ...], list[Refusal]] = {}

    def __call__(self, function: Question, config: Config, *keys: str, **more: str | bool) -> list[Refusal]:
        """The refusals that a function returns, if any, or the one that it raises.

        Args:
            function: The function. It is given a configuration of these keys alone, so it cannot read another.
            config: The configuration of a cell.
            keys: The keys that the answer depends on.
            more: Further arguments of the function.
        """
        read = {key: config[key] for key in keys}
        mark = (function, json.dumps(read), *more.items())
        if mark not in self.answers:
            try:
                self.answers[mark] = function(read, **more) or []
            except Refusal as refusal:
                self.answers[mark] = [refusal]
        return self.answers[mark]


def check(cell: Cell, lost: Collection[str] = (), once: Once | None = None, elsewhere: bool = False) -> list[Refusal]:
    """What is wrong with one cell: its options, its folder, and what its groups make where their options are right.

    Args:
        cell: The composed cell.
        lost: Groups, or other keys, that lack a setting because it was wrong (see `check_cells`).
        once: The answers that were found for other cells.
        elsewhere: Whether the cell trains on another machine (see `check_cells`).
    """
    once, config = once or Once(), cell.config
    if absent := options.missing(config):
        return absent
    found = {
        "": once(options.of_no_group, config, *(key for key in config if key not in options.BESIDE)),
        **{group: once(options.of_group, config, group, "paths", group=group) for group in ("paths", *GROUPS)},
    }
    changes = [once(options.of_augmentation, config, "augmentation", name=name) for name in config["augmentation"]]
    found["augmentation"] = [refusal for refusals in changes for refusal in refusals]
    probes = [once(options.of_probe, config, "probes", "data", name=name) for name in config["probes"]]
    found["probes"] = [refusal for refusals in probes for refusal in refusals]
    refusals = [refusal for group in found.values() for refusal in group]
    wrong = {*lost, *(group for group in found if found[group])}
    if config.get("tune") and not refusals:
        refusals += once(options.of_tuning, config, *config)
    each = [cell.config] if refusals else settled(cell)
    if not found["paths"]:
        refusals += _folder(cell.folder)
    return refusals + [
        refusal for one in each for refusal in _dry_run(replace(cell, config=one), wrong, once, elsewhere)
    ]


def _dry_run(cell: Cell, wrong: set[str], once: Once, elsewhere: bool) -> list[Refusal]:
    """What is wrong with what the groups make; nothing is made of those that are wrong."""
    config = {**cell.config, "probes": {}} if "probes" in wrong else cell.config
    refusals = [] if "trainer" in wrong or elsewhere else [*once(dry_run.device, config, "trainer")]
    makes_data = not {"data", "paths"} & wrong
    if makes_data and not refusals and not {"", "trainer", "model", "norm"} & wrong:
        names = {group: value_of(group, cell.choices, cell.config) for group in ("model", "norm")}
        refusals += once(dry_run.data_and_network, config, *NETWORK, **names, elsewhere=elsewhere)
    elif makes_data:
        refusals += once(dry_run.data, config, "data")
    for name in config["augmentation"] if makes_data and "augmentation" not in wrong else ():
        refusals += once(dry_run.augmentation, config, "data", "augmentation", name=name)
    if makes_data and not refusals and "loss" not in wrong:
        refusals += once(dry_run.loss, config, "loss", "data")
    if "optimizer" not in wrong:
        refusals += once(dry_run.takes_options, config, "optimizer")
    return refusals


def _folder(folder: Path) -> list[Refusal]:
    """Whether a cell's folder can be made; what is made to find out is gone at once."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryDirectory(dir=there):
            return []
    except OSError as error:
        got, remedy = f"cannot be written ({error.strerror})", "set paths.output_dir to one"
        return [Refusal("paths.output_dir", got, "a folder that can be written", remedy, value=folder.parents[1])]


def _alike(cells: Sequence[Cell]) -> list[Refusal]:
    """Cells that would be the same, or share a folder."""
    refusals = []
    seen: dict[str, Cell] = {}
    for cell in cells:
        if options.missing(cell.config):
            continue
        twins = [seen.setdefault(mark, cell) for mark in (str(cell.folder), config_hash(cell.config))]
        refusals += [_twins(cell, twin) for twin in twins if twin is not cell]
    return refusals


def _twins(cell: Cell, twin: Cell) -> Refusal:
    differing = [key for key, value in _flat(cell.config).items() if value != _flat(twin.config).get(key)]
    if differing:
        got = f"its values change no number, so cells of the grid are the same ({_typed(cell)})"
        return Refusal(differing[0], got, "one value", "choose one")
    return Refusal(_typed(cell), f"the same cell as {_typed(twin)}", "cells that differ", "drop one of them")


def _flat(config: Config) -> dict[str, Any]:
    return {
        f"{key}.{name}".rstrip("."): inner
        for key, value in config.items()
        for name, inner in (value.items() if isinstance(value, dict) else [("", value)])
    }


def _typed(cell: Cell) -> str:
    groups = [f"{group}={cell.choices[group]}" for group in NAMED]
    return " ".join([*groups, *cell.choices["overrides"]])
