"""Cells: the points of a grid, each with its resolved configuration and the folder of its record."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

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
        choices: The option of each group, and `overrides`, every other key that was set, sorted.
        config: The resolved configuration, without Hydra's own part and without what an experiment says of its arms.
        folder: The folder of its record.
        typed: The overrides as they were typed, for Hydra's own records.
    """

    choices: dict[str, Any]
    config: dict[str, Any]
    folder: Path
    typed: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, config: DictConfig, options: Mapping[str, Any], overrides: Sequence[str]) -> "Cell":
        """The cell of a composed configuration.

        Args:
            config: The composed configuration; what is in it of Hydra's or of an experiment's is left out.
            options: The option that was chosen of each group.
            overrides: The overrides as they were typed, without Hydra's own.
        """
        resolved = {str(key): _resolved(config[key]) for key in config if key not in ("hydra", "experiment")}
        chosen = choices(options, overrides)
        folder = Path(str(config.paths.output_dir), str(config.name), cell_name(chosen))
        return cls(chosen, resolved, folder, tuple(overrides))


def _resolved(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if OmegaConf.is_config(node) else node


def cell_of(config: DictConfig, hydra: Any) -> Cell:
    """The cell of a configuration that Hydra composed, and of Hydra's own part of it."""
    return Cell.of(config, hydra.runtime.choices, typed(hydra, "task"))


def typed(hydra: Any, kind: str) -> list[str]:
    """The overrides for `hydra` or for the `task` as they were typed: an interpolation in one is not resolved."""
    return cast(list[str], OmegaConf.to_container(hydra.overrides[kind], resolve=False))


def overrides_of(config: DictConfig, multirun: bool) -> list[str]:
    """The overrides of a command, with all values of each: for a grid those of its sweeper, then those that were typed.

    Of Hydra's own there is the search path alone, for the options that lie elsewhere.
    """
    search = [override for override in typed(config.hydra, "hydra") if override.startswith("hydra.searchpath")]
    params = (config.hydra.sweeper.get("params") or {}) if multirun else {}
    return [*search, *(f"{key}={value}" for key, value in params.items()), *typed(config.hydra, "task")]


def choices(options: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The option of each group, and `overrides`: every other key that was set, sorted."""
    set_keys = sorted(override.lstrip("+") for override in overrides if not NOT_IN_NAME.match(key_of(override)))
    return {**{group: options.get(group) for group in GROUPS}, "overrides": set_keys}


def cell_name(chosen: Mapping[str, Any]) -> str:
    """The name of a cell's folder: the options of data, model, norm and optimizer, then what else was set.

    Brackets, quotes and spaces are left out. Any other character that has no place in a file's name becomes
    an underscore, and a name that lost one, or is too long, ends in a digest, so that no two cells share it.

    Args:
        chosen: The choices of the cell.
    """
    options, overrides = [str(chosen[group]) for group in NAMED], chosen["overrides"]
    text = re.sub(r"[\[\](){}'\"\s]", "", "-".join([*options, *overrides]))
    name = re.sub(r"[^\w.=,+-]", "_", text)
    if len(name.encode()) <= 120 and all(map(PLAIN.fullmatch, overrides)):
        return name
    digest = hashlib.sha256("\n".join([*options, *overrides]).encode()).hexdigest()
    return f"{name.encode()[:110].decode(errors='ignore')}-{digest[:8]}"


def key_of(override: str) -> str:
    """The key that an override sets, or the group whose option it chooses.

    >>> key_of("+optimizer.lr=0.1"), key_of("probes@probes.mine=samples")
    ('optimizer.lr', 'probes')
    """
    return override.lstrip("+~").split("=")[0].split("@")[0]


def _name_of(hydra: DictConfig) -> str:
    return cell_name(choices(hydra.runtime.choices, typed(hydra, "task")))


# `${cell_name:}` in conf/config.yaml
OmegaConf.register_new_resolver("cell_name", lambda *, _root_: _name_of(_root_.hydra), replace=True)
