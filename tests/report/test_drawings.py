import subprocess
import sys
from types import SimpleNamespace

import pytest

from bn_experiments.figures.arms import Arm, Look
from bn_experiments.records.quantities import NotMeasured
from bn_experiments.report import drawings
from bn_experiments.report.drawings import _drawn, figures_modules, quantities
from tests.command_line import ROOT

LOOK = Look("black", "-", "o")


def arm(probes, folder=None):
    return Arm("bn", folder, SimpleNamespace(config={"probes": probes}), LOOK)


def named(*targets):
    return arm({f"probe{i}": {"_target_": target} for i, target in enumerate(targets)})


def names(*arms):
    return [module.__name__ for module in figures_modules(arms)]


@pytest.fixture
def on_the_path(tmp_path, monkeypatch):
    """Makes files below a folder that Python imports from."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    before = set(sys.modules)
    drawings._imported.cache_clear()
    yield write
    drawings._imported.cache_clear()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_probe_is_drawn_by_the_module_beside_it():
    assert names(named("tests.probes.sizes.Sizes")) == ["tests.probes.sizes_figures"]
    assert quantities([named("tests.probes.sizes.Sizes")]) == {"sizes/size": "size of the signal"}


def test_a_users_own_probe_is_drawn_from_the_users_own_package(on_the_path):
    figures = "QUANTITIES = {'mine/size': 'my size'}"
    on_the_path({"my_package/__init__.py": "", "my_package/deep/my_probe_figures.py": figures})
    on_the_path({"my_module_figures.py": "DRAWINGS = ()"})
    mine = named("my_package.deep.my_probe.MyProbe", "my_module.MyProbe")
    assert names(mine) == ["my_package.deep.my_probe_figures", "my_module_figures"]
    assert quantities([mine]) == {"mine/size": "my size"}


def test_a_probe_without_a_figures_module_is_not_drawn():
    assert names(named("tests.failing.BadProbe", "no_such_package.probe.Probe", "no_such_module.Probe")) == []


def test_each_module_comes_once_in_the_order_of_the_configs(on_the_path):
    on_the_path({f"mine/{name}_figures.py": "" for name in "abc"})
    one, two = named("mine.b.B", "mine.a.A"), named("mine.b.B", "mine.c.C", "mine.b.Other")
    assert names(one, two) == [f"mine.{name}_figures" for name in "bac"]


@pytest.mark.parametrize(
    "probes",
    [None, 3, ["a.b"], {"a": None}, {"a": {}}, {"a": {"_target_": None}}, {"a": {"_target_": 3}}],
)
def test_a_config_that_names_no_probe_has_no_figures(probes):
    assert names(arm(probes)) == []
    assert names(Arm("bn", None, SimpleNamespace(config={}), LOOK)) == []


@pytest.mark.parametrize(
    "target", ["", ".", "..", "a", ".a", "a.", "..a.b", "a..b", "a b.c", "../x.y", "__main__.X", "__main__.a.X", "os.X"]
)
def test_a_target_that_names_no_module_has_no_figures(target):
    assert names(named(target)) == []


def test_a_result_makes_no_module_run_but_a_figures_module(on_the_path):
    on_the_path({"other/__init__.py": "raise SystemExit", "other/deep/__init__.py": "raise SystemExit"})
    assert names(named("other.Probe", "other.probe.Probe", "other.deep.probe.Probe")) == []
    assert "other" not in sys.modules


@pytest.mark.parametrize("text", ["raise RuntimeError('no')", "import nothere", "def", "import sys; sys.exit(0)"])
def test_a_figures_module_that_cannot_be_imported_costs_its_drawings_alone_and_says_so_once(on_the_path, capsys, text):
    on_the_path({"broken_figures.py": text, "whole_figures.py": "QUANTITIES = {'whole/size': 'size'}"})
    both = named("broken.Probe", "whole.Probe")
    assert names(both) == names(both) == ["whole_figures"]
    assert quantities([both]) == {"whole/size": "size"}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("broken_figures: not drawn, for it cannot be imported (")


def test_a_drawing_that_raises_is_left_out_with_a_line(capsys):
    def unmeasured(arms, claims):
        raise NotMeasured("nothing")

    def raises(arms, claims):
        return 1 / 0

    section = SimpleNamespace(arms={}, claims=[])
    for listed in ([unmeasured, raises], 3, [lambda arms, claims: None]):
        module = SimpleNamespace(__name__="mine_figures", DRAWINGS=listed)
        assert list(_drawn(module, section)) == []
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("mine_figures: not drawn (")


def test_the_figures_modules_do_without_torch():
    code = (
        "import importlib, sys; from pathlib import Path; import bn_experiments.probes as p\n"
        "for file in sorted(Path(p.__file__).parent.glob('*_figures.py')):\n"
        "    importlib.import_module(f'bn_experiments.probes.{file.stem}')\n"
        "import bn_experiments.report.page\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
