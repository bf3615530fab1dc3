import sys

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from bn_experiments.config.origin import code, origin
from bn_experiments.sweeps.plan import plan_of

NORM = """
from torch import nn

class {name}(nn.Module):
    def __init__(self, width, inner=None):
        super().__init__()

    def forward(self, x):
        return x * {factor}
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A function that writes a module with a class `Norm`, and gives the file."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, factor=1.0):
        (tmp_path / f"{name}.py").write_text(NORM.format(name="Norm", factor=factor))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return tmp_path / f"{name}.py"

    return write


def test_a_target_counts_at_any_depth(module):
    for name in ("mine_inner", "mine_listed"):
        module(name)
    inner = {"_target_": "mine_inner.Norm", "parts": [{"of": {"_target_": "mine_listed.Norm"}}]}
    found, _ = code({"norm": {"_target_": None, "inner": inner}})
    assert {"mine_inner", "mine_listed"} <= set(found)


def test_a_plan_keeps_the_code_that_it_was_checked_with_whatever_is_edited_before_a_cell_trains(
    module, compose_cell, data_dir, tmp_path
):
    names = ("mine_first", "mine_second")
    files = [module(name) for name in names]
    small = ["replicas=2", "trainer.max_epochs=1", "trainer.accelerator=cpu", "probes=[]"]
    norms = ["norm=none", f"norm._target_={','.join(f'{name}.Norm' for name in names)}"]
    paths = [f"paths.data_dir={data_dir}", f"paths.output_dir={tmp_path}"]
    loader = GlobalHydra.instance().config_loader()
    plan = plan_of(loader.load_configuration("config", [*small, *norms, *paths], RunMode.MULTIRUN), multirun=True)
    for file in files:
        file.write_text(NORM.format(name="Norm", factor=0.5))
    found = [origin(cell.config).code[name] for cell, name in zip(plan.cells, names, strict=True)]
    module("mine_as_imported")
    (own,) = (digest for name, digest in code({"_target_": "mine_as_imported.Norm"})[0].items() if "mine" in name)
    assert found == [own, own]
