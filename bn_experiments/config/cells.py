"""Cells: the points of a grid, each with its resolved configuration and the folder of its record."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from bn_experiments.records.identity import BASELINE, NO_NUMBERS, OF_COMMAND, SEEDS, flat
from bn_experiments.statistics.sizes import parsed

GROUPS = ("data", "model", "norm", "optimizer", "scheduler", "loss", "trainer")
NAMED = GROUPS[:4]  # the groups whose options stand in every cell's name
WHOLE = "|".join([*SEEDS, *OF_COMMAND, "experiment", "hydra"])  # with all keys below them
NOT_IN_NAME = re.compile(rf"^(({WHOLE})([./].*)?|trainer\.({'|'.join(NO_NUMBERS)})|{'|'.join(NAMED)})$")
EXISTING = "bn_experiments.models.existing."  # functions that make other people's networks
FOLDERS = re.compile(r"hydra\.(run|sweep)(\.|$)")  # Hydra's keys that say where it writes; a command sets none of them
PLAIN = re.compile(r"[\w./@]+=(\[[\w.,+ -]*\]|[\w.,+-]*)")  # what a name shows in full


@dataclass(frozen=True)
class Cell:
    """One point of the grid, composed and resolved.

    Args:
        choices: The option of each group, and `overrides`, every other key that was set, sorted.
        config: The resolved configuration, without Hydra's own part and without what an experiment says of its arms.
        folder: The folder of its record.
        seeds: The seeds of the replicas that the command asks for.
        typed: The overrides as they were typed, for Hydra's own records.
        looks: The numbers of replicas at which a sweep looks whether more are needed, where it has several; the seeds
            are those of the first look.
    """

    choices: dict[str, Any]
    config: dict[str, Any]
    folder: Path
    seeds: Sequence[int]
    typed: tuple[str, ...] = field(default=(), compare=False)
    looks: tuple[int, ...] = ()

    @classmethod
    def of(cls, config: DictConfig, options: Mapping[str, Any], overrides: Sequence[str]) -> "Cell":
        """The cell of a composed configuration.

        Args:
            config: The composed configuration; what is in it of Hydra's or of an experiment's is left out.
            options: The option that was chosen of each group.
            overrides: The overrides as they were typed, without Hydra's own.
        """
        resolved = {str(key): _resolved(config[key]) for key in config if key not in ("hydra", "experiment")}
        chosen = choices(
            options, [override for override in overrides if not _is_idle(override, resolved, options.get("norm"))]
        )
        folder = Path(str(config.paths.output_dir), str(config.name), cell_name(chosen))
        looks = parsed(resolved.get("replicas")) or ()
        if looks:
            resolved["replicas"] = looks[0]
        first, count = resolved.get("seed"), resolved.get("replicas")
        seeds = range(0)  # of keys that the check refuses
        if isinstance(first, int) and isinstance(count, int):
            seeds = range(first, first + count)
        return cls(chosen, resolved, folder, seeds, tuple(overrides), looks)

    def of_seeds(self, seeds: Sequence[int], folder: Path) -> "Cell":
        """The same cell with other seeds, which follow on each other, and another folder."""
        config = {**self.config, "seed": seeds[0], "replicas": len(seeds)}
        return replace(self, config=config, seeds=tuple(seeds), folder=folder)


def joined(cells: Iterable[Cell]) -> list[Cell]:
    """The cells, those that differ in their seeds alone as one with the seeds of all.

    So do cells whose norm is none, whatever keys of the norm were set: they are one cell.
    """
    found: dict[str, Cell] = {}
    for cell in cells:
        values = flat(cell.config)
        rest = [key for key in values if key not in SEEDS and not _is_idle(key, cell.config)]
        mark = json.dumps([str(cell.folder), {key: values[key] for key in rest}], sort_keys=True, default=str)
        same = found.setdefault(mark, cell)
        if same.seeds != cell.seeds:
            found[mark] = replace(same, seeds=tuple(dict.fromkeys([*same.seeds, *cell.seeds])))
    return list(found.values())


def _is_idle(override: str, config: Mapping[str, Any], option: str | None = None) -> bool:
    """Whether an override, or a key, is of a norm that there is not; `norm._target_=null` says nothing new of none."""
    norm = config.get("norm")
    if not isinstance(norm, dict) or norm.get("_target_", "") is not None:
        return False
    key = key_of(override)
    return key.startswith("norm.") and (key != "norm._target_" or option == BASELINE)


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

    Of Hydra's own there are the search path, for the options that lie elsewhere, and the folders, which are refused.
    """
    hydra = typed(config.hydra, "hydra")
    own = [each for each in hydra if key_of(each) == "hydra.searchpath" or FOLDERS.match(key_of(each))]
    params = (config.hydra.sweeper.get("params") or {}) if multirun else {}
    return [*own, *(f"{key}={value}" for key, value in params.items()), *typed(config.hydra, "task")]


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


def spelled_out(override: str) -> list[str]:
    """The overrides that an override stands for: two where it has a class in place of an option of the norm.

    >>> spelled_out("norm=my_norms.MyNorm"), spelled_out("norm=bn")
    (['norm=none', 'norm._target_=my_norms.MyNorm'], ['norm=bn'])
    """
    key, _, value = override.partition("=")
    is_class = key == "norm" and re.fullmatch(r"""(["']?)[^\W\d]\w*(\.[^\W\d][\w{}]*)+\1""", value)
    return [f"norm={BASELINE}", f"norm._target_={value}"] if is_class else [override]


def _name_of(config: DictConfig) -> str:
    norm = {"norm": {"_target_": OmegaConf.select(config, "norm._target_", default="")}}
    own = [
        override
        for override in typed(config.hydra, "task")
        if not _is_idle(override, norm, config.hydra.runtime.choices.norm)
    ]
    return cell_name(choices(config.hydra.runtime.choices, own))


def initialization_of(target: str) -> str:
    """The initialization of a network by default: its own, unless the network is one of this package.

    >>> initialization_of("bn_experiments.models.mlp.MLP"), initialization_of("my_package.MyNet")
    ('torch', 'own')
    """
    is_ours = str(target).startswith("bn_experiments.") and not str(target).startswith(EXISTING)
    return "torch" if is_ours else "own"


# `${cell_name:}` and `${init_of:...}` in conf/config.yaml
OmegaConf.register_new_resolver("cell_name", lambda *, _root_: _name_of(_root_), replace=True)
OmegaConf.register_new_resolver("init_of", initialization_of, replace=True)
