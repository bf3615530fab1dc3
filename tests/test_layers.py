"""Imports go one way: what lies below knows nothing of what lies above."""

import ast
import graphlib
from pathlib import Path

import pytest

import bn_experiments

PACKAGE = Path(bn_experiments.__file__).parent

# from the ground up: each part may import those before it
LAYERS = [
    "seeds",
    "oracles",
    "counters",
    "refusal",
    "imports",
    "copies",
    "signatures",
    "system",
    "statistics",
    "norms",
    "models",
    "data",
]
LAYERS += [
    "records",
    "training",
    "norms.examine",
    "claims",
    "judge",
    "figures",
    "premises",
    "probes",
    "report",
    "config",
]
LAYERS += ["fitting", "tuning", "run", "sweeps"]


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below it; a folder is known by its own name."""
    names = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


def part_of(name: str) -> str:
    """The part to which a module belongs: its longest dotted prefix in the list, or else the first name."""
    steps = name.split(".")
    prefixes = [".".join(steps[:length]) for length in range(len(steps), 0, -1)]
    return next((prefix for prefix in prefixes if prefix in LAYERS), steps[0])


MODULES = modules()
PARTS = sorted({part_of(name) for name in MODULES if name})


def imported(file: Path) -> set[str]:
    """The modules of the package that a file imports, at the top, inside functions, or for types alone."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "bn_experiments":
                found.add(rest if rest in MODULES else rest.rpartition(".")[0])
    return found - {""}


def test_every_part_stands_in_the_list_of_layers():
    assert sorted(LAYERS) == PARTS


@pytest.mark.parametrize("part", PARTS)
def test_a_part_imports_only_what_lies_below(part):
    below = LAYERS[: LAYERS.index(part) + 1]
    for name, file in MODULES.items():
        if part_of(name) == part:
            above = {other for other in imported(file) if part_of(other) not in below}
            assert not above, f"{name} imports what lies above it"


def test_there_is_no_ring_of_imports():
    graph = {name: imported(file) - {name} for name, file in MODULES.items()}
    list(graphlib.TopologicalSorter(graph).static_order())  # a CycleError names the ring


def test_only_the_top_of_the_house_sees_hydra():
    for name, file in MODULES.items():
        if part_of(name) in LAYERS[: LAYERS.index("config")]:
            assert not {"omegaconf", "hydra.core"} & set(file.read_text().replace('"', " ").split()), name


def test_norms_and_models_know_no_lightning():
    for name, file in MODULES.items():
        if name.split(".")[0] in ("norms", "models", "statistics"):
            assert "pytorch_lightning" not in file.read_text(), name


def test_hydras_private_parts_are_used_in_one_file_alone():
    users = [name for name, file in MODULES.items() if "hydra._internal" in file.read_text()]
    assert users == ["config.composition"]
