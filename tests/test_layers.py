"""Imports go one way: what lies below knows nothing of what lies above."""

import ast
from pathlib import Path

import pytest

import bn_experiments

PACKAGE = Path(bn_experiments.__file__).parent

# each may import those before it
MAIN_PATH = ["seeds", "norms", "models", "data", "replicas", "options", "probes", "build", "module", "curves"]
MAIN_PATH += ["experiment"]
RECORDS = ["results", "statistics", "evidence", "growth", "claims", "protocol", "measurements", "verdicts"]
RECORDS += ["comparisons"]
RECORDS += ["summary", "report", "sweep"]


def imported(part: str) -> set[str]:
    """The parts of the package that a part imports, at the top or inside functions."""
    path = PACKAGE / part
    files = path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bn_experiments"):
                inner = (node.module or "").split(".")[1:2]
                found |= set(inner) if inner else {alias.name for alias in node.names}
    return found - {part}


@pytest.mark.parametrize("order", [MAIN_PATH, RECORDS])
def test_imports_go_one_way(order):
    for i, part in enumerate(order):
        above = set(order[i + 1 :])
        assert not imported(part) & above, f"{part} imports what lies above it"


def test_only_the_top_of_the_house_sees_a_config():
    below = [part for part in MAIN_PATH if part not in ("build", "experiment")]
    for part in [*below, *RECORDS[:-1]]:
        path = PACKAGE / part
        for file in path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
            assert "omegaconf" not in file.read_text(), f"{file.name} knows OmegaConf"


def test_norms_models_and_replicas_know_no_lightning():
    for part in ("norms", "models", "replicas"):
        path = PACKAGE / part
        for file in path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
            assert "pytorch_lightning" not in file.read_text(), f"{file.name} knows Lightning"


def test_the_main_path_is_short():
    main_path = [PACKAGE.parent / "train.py", PACKAGE / "experiment.py", PACKAGE / "module.py"]
    main_path += [PACKAGE.parent / "conf" / name for name in ("config.yaml", "model/mlp.yaml", "norm/bn.yaml")]
    assert sum(len(file.read_text().splitlines()) for file in main_path) < 800
