"""Drawings: how the arms of a section learned, and what the module `<module>_figures` of each of their probes draws."""

import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import matplotlib

from bn_experiments.figures.arms import Arm
from bn_experiments.figures.drawing import STYLE, Drawing
from bn_experiments.records.quantities import NotMeasured
from bn_experiments.refusal import one_line
from bn_experiments.report import families, learning, rates
from bn_experiments.report.contents import Section

SUFFIX = "_figures"


def drawings(section: Section) -> list[Drawing]:
    """Every drawing of a section whose numbers were measured: how it learned, then what its probes measured."""
    modules = [rates, families, learning, *figures_modules(section.arms.values())]
    with matplotlib.rc_context(STYLE):
        return [drawing for module in modules for drawing in _drawn(module, section)]


def quantities(arms: Iterable[Arm]) -> dict[str, str]:
    """The quantities of the arms' probes in words, each by its name, `<probe>/<quantity>`."""
    return {name: text for module in figures_modules(arms) for name, text in getattr(module, "QUANTITIES", {}).items()}


def figures_modules(arms: Iterable[Arm]) -> list[ModuleType]:
    """The figures modules of the probes that the arms' configs name, each once, in the order of the configs.

    A probe `my_package.my_probe.MyProbe` is drawn by `my_package.my_probe_figures`; where there is no such module, it
    is not drawn.
    """
    targets = [target for arm in arms for target in _targets(arm)]
    names = dict.fromkeys(target.rpartition(".")[0] + SUFFIX for target in targets)
    return [module for module in map(_imported, filter(_exists, names)) if module]


def _drawn(module: ModuleType, section: Section) -> Iterator[Drawing]:
    """The drawings of a module; those that cannot be made are left out, after a line that says why."""
    try:
        for draw in getattr(module, "DRAWINGS", ()):
            with suppress(NotMeasured):
                drawing = draw(section.arms, section.claims)
                if not isinstance(drawing, Drawing):
                    raise TypeError(f"{draw.__name__} returned {type(drawing).__name__} in place of a Drawing")
                yield drawing
    except (Exception, SystemExit) as error:  # a user's own module may raise anything
        print(f"{module.__name__}: not drawn ({one_line(error)})", file=sys.stderr)


def _targets(arm: Arm) -> list[str]:
    """The dotted path of each probe's class; a config written by hand may hold anything."""
    probes = arm.result.config.get("probes")
    keys = probes.values() if isinstance(probes, dict) else ()
    targets = [each.get("_target_") for each in keys if isinstance(each, dict)]
    return [target for target in targets if isinstance(target, str) and "." in target]


@functools.cache
def _imported(name: str) -> ModuleType | None:
    """The module of that name; None, after a line that says why, where it cannot be imported."""
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a user's own module may raise anything
        print(f"{name}: not drawn, for it cannot be imported ({one_line(error)})", file=sys.stderr)
        return None


def _exists(name: str) -> bool:
    """Whether there is a module of that name; nothing is imported to find out, since a result is not trusted."""
    top, *below = name.split(".")
    if not all(part.isidentifier() for part in (top, *below)):
        return False
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a module without a spec, such as __main__
        return False
    if spec is None or not below:
        return spec is not None
    return any(Path(folder, *below).with_suffix(".py").is_file() for folder in spec.submodule_search_locations or ())
