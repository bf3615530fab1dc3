"""Cells: the points of a grid, as Hydra's command line and an experiment name them."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from bn_experiments.records.identity import NO_NUMBERS

GROUPS = ("data", "model", "norm", "optimizer", "scheduler", "trainer")
NAMED = GROUPS[:4]  # the groups whose options stand in every cell's name
NOT_IN_NAME = re.compile(
    rf"^(name|experiment(\..*)?|hydra(/.*|\..*)?|paths\..*|trainer\.({'|'.join(NO_NUMBERS)})|{'|'.join(NAMED)})$"
)


PLAIN = re.compile(r"[\w./@]+=(\[[\w.,+ -]*\]|[\w.,+-]*)")  # what a name shows in full


@dataclass(frozen=True)
class Cell:
    """One point of the grid, composed and resolved.

    Args:
        choices: The option of each group, and `overrides`, every other key that was set.
        config: Resolved, without Hydra's own part and without what an experiment says of its arms.
        folder: Where its record goes.
    """

    choices: dict[str, Any]
    config: dict[str, Any]
    folder: Path


def asked_for(config: DictConfig, multirun: bool) -> list[str]:
    """The overrides of a command, with all values of each: for a multirun the sweeper's, then the command line's.

    Of Hydra's own there is the search path alone, for the options that lie elsewhere.
    """
    hydra, task = _typed(config.hydra, "hydra"), _typed(config.hydra, "task")
    search = [override for override in hydra if override.startswith("hydra.searchpath")]
    params = (config.hydra.sweeper.get("params") or {}) if multirun else {}
    return [*search, *(f"{key}={value}" for key, value in params.items()), *task]


def composed(config_name: str, overrides: Sequence[str]) -> Cell:
    """The cell that these overrides give; Hydra and OmegaConf raise what they find wrong."""
    config = compose(config_name, overrides=list(overrides), return_hydra_config=True)
    return cell_of(config, config.hydra)


def cell_of(config: DictConfig, hydra: DictConfig) -> Cell:
    """The cell of a config and Hydra's part of it, which may still be in it."""
    body = OmegaConf.masked_copy(config, [str(key) for key in config if key not in ("hydra", "experiment")])
    resolved = cast(dict[str, Any], OmegaConf.to_container(body, resolve=True, throw_on_missing=True))
    folder = Path(str(config.paths.output_dir), str(config.name), cell_name(hydra))
    return Cell(choices(hydra), resolved, folder)


def choices(hydra: DictConfig) -> dict[str, Any]:
    """The option of each group, and `overrides`: every other key that was set, sorted."""
    chosen = hydra.runtime.choices
    overrides = sorted(
        override.lstrip("+") for override in _typed(hydra, "task") if not NOT_IN_NAME.match(_key(override))
    )
    return {**{group: chosen.get(group) for group in GROUPS}, "overrides": overrides}


def cell_name(hydra: DictConfig) -> str:
    """A cell's folder: the options of data, model, norm and optimizer, then what else was set.

    Brackets, quotes and spaces are left out. Any other character that has no place in a file's name becomes
    an underscore, and a name that lost one, or is too long, ends in a digest, so that no two cells share it.
    """
    chosen = choices(hydra)
    options, overrides = [str(chosen[group]) for group in NAMED], chosen["overrides"]
    text = re.sub(r"[\[\](){}'\"\s]", "", "-".join([*options, *overrides]))
    name = re.sub(r"[^\w.=,+-]", "_", text)
    if len(name.encode()) <= 120 and all(map(PLAIN.fullmatch, overrides)):
        return name
    digest = hashlib.sha256("\n".join([*options, *overrides]).encode()).hexdigest()
    return f"{name.encode()[:110].decode(errors='ignore')}-{digest[:8]}"


def _typed(hydra: DictConfig, kind: str) -> list[str]:
    """The overrides for Hydra or for the task as they were typed: an interpolation in one is not resolved."""
    return cast(list[str], OmegaConf.to_container(hydra.overrides[kind], resolve=False))


def _key(override: str) -> str:
    return override.lstrip("+~").split("=")[0].split("@")[0]


# `${cell_name:}` in conf/config.yaml
OmegaConf.register_new_resolver("cell_name", lambda *, _root_: cell_name(_root_.hydra), replace=True)
