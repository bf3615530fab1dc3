"""A plan is refused where what it would write lands elsewhere."""

from dataclasses import replace
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from bn_experiments.config.cells import Cell
from bn_experiments.records import comparison
from bn_experiments.sweeps.comparison import MOST_NAMED, _not_done
from bn_experiments.sweeps.plan import Plan, _baseline, _looks, _standing_in_the_way
from tests.cells_by_hand import write_cell


@pytest.mark.parametrize(("chdir", "relative", "refused"), [(True, True, 1), (True, False, 0), (False, True, 0)])
def test_a_job_that_changes_its_folder_needs_an_output_folder_in_full(compose_cell, chdir, relative, refused):
    cell = compose_cell()
    cell = replace(cell, folder=Path("outputs/grid/cell")) if relative else cell
    assert GlobalHydra.instance().is_initialized()
    found = _standing_in_the_way(Plan([cell], None), OmegaConf.create({"job": {"chdir": chdir}}))
    assert [refusal.key for refusal in found] == ["hydra.job.chdir=true"] * refused


def test_cells_that_are_not_done_are_named_where_they_are_few(tmp_path):
    few, many = (
        [Cell({}, {}, tmp_path / str(i), seeds=(0,)) for i in range(count)] for count in (MOST_NAMED, MOST_NAMED + 1)
    )
    rest = "not done; the same command goes on from here"
    assert _not_done(few) == [f"{cell.folder}: {rest}" for cell in few]
    assert _not_done(many) == [f"{MOST_NAMED + 1} cells in {tmp_path}: {rest}"]


def test_a_baseline_that_no_arm_has_is_refused_with_the_arms_that_there_are(compose_cell):
    cells = [compose_cell("norm=bn", "norm.placement=post"), compose_cell("norm=none")]
    for known in ("none", "bn placement=post", "all", None):
        assert _baseline(Plan(cells, None, known)) == []
    (refusal,) = _baseline(Plan(cells, None, "bn placement=pos"))
    assert str(refusal) == (
        "baseline='bn placement=pos': no arm has this name; allowed: bn placement=post, none, all; "
        "did you mean bn placement=post?, with quotes as in 'baseline=\"bn placement=post\"'"
    )


def test_an_arm_of_an_earlier_command_may_be_the_baseline(compose_cell):
    cell = compose_cell("norm=bn")
    write_cell(cell.folder.parent / "ln", "ln", {"test/acc": [0.5]})
    assert _baseline(Plan([cell], None, "ln")) == []


def test_looks_are_fixed_before_the_first_result_of_a_folder(compose_cell):
    cell = compose_cell("norm=bn", "replicas=6..12")
    plan = Plan([cell], None, looks=cell.looks)
    assert _looks(plan, multirun=True) == []
    write_cell(plan.folder / "ln", "ln", {"test/acc": [0.5] * 6})
    (refusal,) = _looks(plan, multirun=True)
    assert "was judged before, without looks; allowed: looks from the first result on" in str(refusal)
    comparison.write(plan.folder, "none", (6, 12))
    assert _looks(plan, multirun=True) == []
    comparison.write(plan.folder, "none", (6, 24))
    (refusal,) = _looks(plan, multirun=True)
    assert "is judged at 6, 24 replicas; allowed: the same numbers" in str(refusal)
