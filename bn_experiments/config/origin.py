"""The origin of a cell's numbers: the code, the packages, the data and the kind of device that would make them now."""

import functools
from importlib.metadata import version

from hydra.utils import get_object

from bn_experiments.config import objects
from bn_experiments.config.objects import Config
from bn_experiments.data import sources as data
from bn_experiments.records.origin import Origin
from bn_experiments.system import sources

MAKE_NUMBERS = tuple(f"bn_experiments.{part}" for part in ("norms", "models", "data", "training", "probes", "seeds"))
ROOTS = tuple(  # which every cell uses; what they import counts too, and what the cell's own targets import
    f"bn_experiments.{module}"
    for module in ("data.datamodule", "norms.slot", "probes.probing", "training.initialization", "training.trainer",
                   "training.curves", "training.decay", "training.module")
)  # fmt: skip
PACKAGES = ("torch", "pytorch-lightning", "numpy")  # beside those that a target comes from


def origin(config: Config) -> Origin:
    """What would make the cell's numbers now, in this process.

    Args:
        config: The configuration of a cell, checked.
    """
    modules: set[str] = set()
    for group in ("data", "model", "optimizer", "scheduler"):
        modules |= _modules(config[group]["_target_"])
    for keys in config["probes"].values():
        modules |= _modules(keys["_target_"])
    if path := config["norm"]["_target_"]:
        modules |= {module for dim in ("1", "2") for module in _modules(str(path).replace("{dim}", dim))}
    code, versions = _code((*ROOTS, *sorted(modules)))
    return Origin(code, versions, data.digest(objects.source(config)), objects.device(config))


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
