"""A plan is refused where what it would write lands elsewhere."""

from dataclasses import replace
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from bn_experiments.sweeps.comparison import MOST_NAMED, _not_done
from bn_experiments.sweeps.plan import Plan, _standing_in_the_way


@pytest.mark.parametrize(("chdir", "relative", "refused"), [(True, True, 1), (True, False, 0), (False, True, 0)])
def test_a_job_that_changes_its_folder_needs_an_output_folder_in_full(compose_cell, chdir, relative, refused):
    cell = compose_cell()
    cell = replace(cell, folder=Path("outputs/grid/cell")) if relative else cell
    assert GlobalHydra.instance().is_initialized()
    found = _standing_in_the_way(Plan([cell], None), OmegaConf.create({"job": {"chdir": chdir}}))
    assert [refusal.key for refusal in found] == ["hydra.job.chdir=true"] * refused


def test_cells_that_are_not_done_are_named_where_they_are_few(tmp_path):
    few, many = ([tmp_path / str(i) for i in range(count)] for count in (MOST_NAMED, MOST_NAMED + 1))
    rest = "not done; the same command goes on from here"
    assert _not_done(few) == [f"{folder}: {rest}" for folder in few]
    assert _not_done(many) == [f"{MOST_NAMED + 1} cells in {tmp_path}: {rest}"]
