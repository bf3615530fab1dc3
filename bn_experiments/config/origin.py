"""The origin of a cell's numbers: the code, the packages, the data and the kind of device that would make them now."""

import functools
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from hydra.utils import get_object

from bn_experiments.config import objects
from bn_experiments.config.objects import Config
from bn_experiments.data import sources as data
from bn_experiments.records.origin import DATA_OF_SEED, Origin
from bn_experiments.system import sources

MAKE_NUMBERS = tuple(f"bn_experiments.{part}" for part in ("norms", "models", "data", "training", "probes", "seeds"))
ROOTS = tuple(  # which every cell uses; what they import counts too, and what the cell's own targets import
    f"bn_experiments.{module}"
    for module in ("data.datamodule", "norms.slot", "probes.probing", "training.initialization", "training.trainer",
                   "training.captured", "training.clipping", "training.curves", "training.decay", "training.module",
                   "training.roles", "training.schedules")
)  # fmt: skip
PACKAGES = ("torch", "pytorch-lightning", "numpy")  # beside those that a target comes from


def origin(config: Config) -> Origin:
    """What would make the cell's numbers now, in this process.

    Args:
        config: The configuration of a cell, checked.
    """
    modules, versions = code(config)
    own = objects.seeds(config) if objects.draws_data(config) else ()
    seeded = {f"{DATA_OF_SEED}{seed}": data.digest(objects.source(config, data_seed=seed)) for seed in own}
    return Origin(modules | seeded, versions, data.digest(objects.source(config)), objects.device(config))


def code(config: Config) -> tuple[dict[str, str], dict[str, str]]:
    """The digests of the modules and the versions of the packages that the cell uses, as this process first saw them.

    Args:
        config: The configuration of a cell, checked.
    """
    modules = {module for path in _targets(config) for dim in "12" for module in _modules(path.replace("{dim}", dim))}
    return _code((*ROOTS, *sorted(modules)))


def _targets(node: Any) -> Iterator[str]:
    """Every `_target_` of a configuration, at any depth, and the `target` of a network of one's own."""
    if isinstance(node, Mapping):
        yield from (path for key in ("_target_", "target") if isinstance(path := node.get(key), str) and "." in path)
        node = list(node.values())
    for value in node if isinstance(node, list | tuple) else ():
        yield from _targets(value)


def _modules(path: str) -> set[str]:
    """The modules that a target is of: the one that its path names, and the one that defines what lies there."""
    found = {path.rpartition(".")[0]}
    try:
        target = get_object(path)
    except Exception:  # of the other number of axes, which the norm need not have
        return found
    while isinstance(target, functools.partial):
        target = target.func
    return found | {str(getattr(target, "__module__", type(target).__module__))}


@functools.cache
def _code(modules: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    code, versions = sources.of_modules(modules, MAKE_NUMBERS)
    return code, {**versions, **{name: version(name) for name in PACKAGES}}
