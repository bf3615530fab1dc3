"""A probe is deleted by deleting its own files: nothing else names it, but for what chooses probes."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.probes.runs import NAMES

ROOT = Path(__file__).parents[2]
CHOOSING = ["conf/config.yaml", "conf/experiment", "conf/shared/grid.yaml"]  # the default list, and the experiments
CHOOSING += ["tests/test_premises.py", "tests/claims/test_before.py"]  # what is asked of the theories of all probes


def own(name: str) -> list[str]:
    """The files of a probe; one that draws nothing has no figures module, one without a theory no oracles."""
    module = f"bn_experiments/probes/{name}"
    made = [f"{module}.py", f"{module}_figures.py", f"{module}_oracles.py"]
    return [*made, f"conf/probes/{name}.yaml", f"tests/probes/test_{name}.py"]


def others(name: str) -> list[Path]:
    """The files that stay where a probe is deleted."""
    files = [file for folder in ("bn_experiments", "tests", "conf") for file in sorted((ROOT / folder).rglob("*.*"))]
    left_out = [ROOT / path for path in (*own(name), *CHOOSING)]
    return [
        file
        for file in files
        if file.suffix in (".py", ".yaml", ".jinja") and not any(file.is_relative_to(path) for path in left_out)
    ]


def mentions(name: str, text: str) -> list[str]:
    """Where a text names a probe; its name alone may be an ordinary word."""
    ways = [
        rf"probes[./]{name}(_figures|_oracles)?\b",  # its module, its file, its keys
        rf"probes import [^\n]*\b{name}(_figures)?\b",
        rf"probes[./]test_{name}\b",  # its test
        rf"[\"'`]{name}/",  # its quantities
        rf"probes:? ?[=:] ?\[[^\]\n]*\b{name}\b",  # a choice of probes
        rf"[\"'`]{name}[\"'`]",  # its name on its own
    ]
    return [found.group() for way in ways for found in re.finditer(way, text)]


@pytest.mark.parametrize("name", NAMES)
def test_no_other_file_names_the_probe(name):
    named = {str(file.relative_to(ROOT)): mentions(name, file.read_text()) for file in others(name)}
    assert {file: found for file, found in named.items() if found} == {}


@pytest.mark.parametrize("name", NAMES)
def test_its_files_have_its_name(name):
    module, figures, _, options, test = (ROOT / path for path in own(name))
    assert OmegaConf.load(options)._target_.startswith(f"bn_experiments.probes.{name}.")
    assert module.exists()
    assert test.exists()
    assert not figures.exists() or "QUANTITIES" in figures.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "from bn_experiments.probes.mine import Mine",
        "from bn_experiments.probes.mine_figures import DRAWINGS",
        "from bn_experiments.probes import other, mine",
        "from tests.probes.test_mine import read",
        "probes.mine.examples=2",
        "probes=[other,mine]",
        "- override /probes: [other, mine]",
        '{"metric": "mine/acc"}',
        'if name != "mine" and other',
    ],
)
def test_the_search_finds_a_mention(text):
    assert mentions("mine", text)


@pytest.mark.parametrize(
    "text",
    ["mine: tuple[str, ...]", "the probes of mine", "part.mine", "test_mine(", "not_mine/acc", "probes.mine_too"],
)
def test_the_search_leaves_ordinary_words(text):
    assert not mentions("mine", text)
