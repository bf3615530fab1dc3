import math

import numpy as np
import pytest

from bn_experiments.claims.summary import summarise
from bn_experiments.records import comparison
from bn_experiments.records.results import done_below
from bn_experiments.report import comparisons
from bn_experiments.report.comparisons import baselines, tables
from bn_experiments.report.contents import collect
from bn_experiments.report.forest import axis_of
from tests.cells_by_hand import write_cell

METRICS = ("test/acc", "test/loss")


def write_grid(folder, models=("lenet", "mlp"), norms=("bn", "ln", "none"), replicas=6):
    """A grid whose numbers differ from cell to cell, the same in every run."""
    random = np.random.default_rng(0)
    for model in models:
        for norm in norms:
            values = random.normal([0.7, 0.9], 0.05, (replicas, 2))
            metrics = dict(zip(METRICS, values.T.tolist(), strict=True))
            write_cell(folder / f"mnist1d-{model}-{norm}-sgd", norm, metrics, model=model)
    return folder


def rows_of(sweep, baseline):
    return [(table, row) for table in tables(sweep) for row in table.rows if row.baseline == baseline]


@pytest.mark.parametrize("own", ["none", "ln", "all"])
def test_the_rows_of_every_baseline_are_those_that_a_command_with_it_writes(tmp_path, own):
    comparison.write(write_grid(tmp_path), own, ())
    (sweep,) = collect(tmp_path)
    assert baselines(sweep) == list(dict.fromkeys([own, "bn", "ln", "none", "all"]))
    for baseline in baselines(sweep):
        expected = summarise(done_below(tmp_path), baseline).to_dict("records")
        expected = [row for metric in METRICS for row in expected if row["metric"] == metric]
        found = [row.numbers for _, row in rows_of(sweep, baseline)]
        assert [repr(row) for row in found] == [repr(row) for row in expected]


def test_a_large_grid_has_the_rows_of_its_own_baseline_alone(tmp_path, monkeypatch):
    write_grid(tmp_path)
    (sweep,) = collect(tmp_path)
    every = sum(len(table.rows) for table in tables(sweep))
    monkeypatch.setattr(comparisons, "MOST_ROWS", every - 1)
    assert baselines(sweep) == ["none"]
    assert len(rows_of(sweep, "none")) == sum(len(table.rows) for table in tables(sweep)) == 12
    monkeypatch.setattr(comparisons, "MOST_ROWS", every)
    assert len(baselines(sweep)) == 4


def test_a_row_says_its_setting_by_what_differs_and_the_table_says_the_rest(tmp_path):
    write_grid(tmp_path)
    (sweep,) = collect(tmp_path)
    for table in tables(sweep):
        assert table.shared == ["sgd"]
        assert {row.setting for row in table.rows} == {"lenet", "mlp"}
        assert all(row.numbers["folder"].startswith(f"mnist1d-{row.setting}-{row.arm}") for row in table.rows)


def test_an_interval_lies_on_the_axis_as_its_numbers_do(tmp_path):
    write_grid(tmp_path)
    (sweep,) = collect(tmp_path)
    for table, row in rows_of(sweep, "all"):
        mark = table.axis.mark(row.numbers)
        if math.isnan(row.numbers["difference"]):
            assert mark is None
            continue
        left, width = table.axis.low, table.axis.high - table.axis.low
        for place, key in ((mark.at, "difference"), (mark.start, "difference_low")):
            assert left + place / 100 * width == pytest.approx(row.numbers[key], abs=width / 9000)
        end = left + (mark.start + mark.width) / 100 * width
        assert end == pytest.approx(row.numbers["difference_high"], abs=width / 5000)
        assert mark.decided == (row.numbers["p"] <= 0.01)
        assert mark.is_cut == (False, False)


def test_an_arm_with_a_huge_interval_does_not_squeeze_the_others():
    usual = [{"difference": d, "difference_low": d - 1, "difference_high": d + 1, "p": 1.0} for d in (-1.0, 2.0)]
    huge = {"difference": 1.0, "difference_low": -300.0, "difference_high": 302.0, "p": 1.0}
    axis = axis_of([{**row, "at_chance": False} for row in [*usual, huge]], 1)
    assert -4 < axis.low < -2
    assert 3 < axis.high < 5
    mark = axis.mark({**huge, "at_chance": False})
    assert mark.is_cut == (True, True)
    assert (mark.start, mark.width) == (0, 100)


@pytest.mark.parametrize("rows", [[], [(math.nan,) * 3], [(0.0, 0.0, 0.0)], [(0.1, math.nan, math.nan)]])
def test_an_axis_has_a_width_and_a_zero_whatever_was_measured(rows):
    keys = ("difference", "difference_low", "difference_high")
    axis = axis_of([dict(zip(keys, row, strict=True)) for row in rows], 100)
    assert axis.low < 0 < axis.high
    assert (axis.place(0.0), "0") in axis.ticks
