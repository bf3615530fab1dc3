"""The terminal, the tables, the verdicts and the report say the same of the same folder."""

import csv
import io
import json
import os

import numpy as np
import pytest
from rich.console import Console

from bn_experiments.claims.protocol import parse
from bn_experiments.config.cells import Cell
from bn_experiments.records.results import read
from bn_experiments.report.contents import collect
from bn_experiments.report.swept import blocks
from bn_experiments.sweeps.comparison import _compare
from bn_experiments.sweeps.plan import Plan
from tests.cells_by_hand import ORIGIN, write_cell

BN, NONE = ([start + i / 100 + i % 2 / 300 for i in range(6)] for start in (0.7, 0.6))
SIDES = {side: {"arm": arm, "metric": "test/acc"} for side, arm in (("left", "bn"), ("right", "none"))}
PROTOCOL, _ = parse(
    {
        "name": "small",
        "title": "Small",
        "source": "nobody",
        "arms": {"bn": {"norm": "bn"}, "none": {"norm": "none"}},
        "published": [{"arm": "bn", "metric": "test/acc", "values": [0.7]}],
        "claims": [{"claim": "bn is better", "rule": "difference", **SIDES}],
    }
)


@pytest.fixture
def sweep(tmp_path):
    for norm, accuracies in (("bn", BN), ("none", NONE)):
        write_cell(tmp_path / norm, norm, {"test/acc": accuracies}, config={"init": "torch", "probes": {}})
        os.utime(tmp_path / norm / "result.json", (1e9, 1e9))
    PROTOCOL.write(tmp_path)
    return tmp_path


def compared(sweep, *names):
    """What the terminal, `summary.csv` and `verdicts.json` say after a command with these cells."""
    cells = []
    for name in names:
        result = read(sweep / name)
        cells.append(Cell(result.cell, result.config, sweep / name, result.seeds))
    console = Console(file=io.StringIO(), width=250, markup=False, highlight=False)
    _compare(Plan(cells, PROTOCOL), cells, console)
    rows = list(csv.DictReader((sweep / "summary.csv").read_text().splitlines()))
    return console.file.getvalue(), rows, json.loads((sweep / "verdicts.json").read_text())


def test_fresh_results_count_before_an_older_folder_of_the_same_cell_that_other_code_made(sweep):
    edited = {**ORIGIN, "code": {"norms.slot": "bbbb"}}
    more = {"config": {"probes": {}}, "overrides": ["init=torch"], "made_by": [edited]}
    for norm, accuracies in (("bn", NONE), ("none", BN)):  # the other way round
        write_cell(sweep / f"new-{norm}", norm, {"test/acc": accuracies[:-1]}, **more)
    text, rows, (verdict,) = compared(sweep, "new-bn", "new-none")
    assert "bn: the same cell as new-bn, but made by other code, and older; left out" in text
    assert {row["folder"] for row in rows} == {"new-bn", "new-none"}
    assert {row["mixed_code"] for row in rows} == {"False"}
    assert verdict["estimate"] == pytest.approx(np.mean(NONE[:-1]) - np.mean(BN[:-1]))
    assert "bn is better" in text
    assert f"{100 * np.mean(NONE[:-1]):.2f}" in text


def test_a_cell_that_is_left_out_for_its_twin_is_shown_as_that_one(sweep):
    more = {"config": {"probes": {}}, "overrides": ["init=torch"]}
    for norm, accuracies in (("bn", BN), ("none", NONE)):
        write_cell(sweep / f"new-{norm}", norm, {"test/acc": accuracies[:3]}, **more)
    text, rows, (verdict,) = compared(sweep, "new-bn", "new-none")
    assert {row["folder"] for row in rows} == {"bn", "none"}
    assert verdict["n"] == 6
    assert text.count("bn is better") == 1
    assert "test accuracy" in text


def test_what_lies_deeper_in_the_folder_is_of_another_sweep(sweep):
    write_cell(sweep / "older" / "bn", "bn", {"test/acc": [0.1] * 9}, overrides=["norm.eps=1"])
    _, rows, found = compared(sweep, "bn", "none")
    assert {row["folder"] for row in rows} == {"bn", "none"}
    assert len(found) == 1
    assert {row["arm"] for row in rows} == {"bn", "none"}


def test_cells_of_the_folder_that_the_tables_leave_out_are_counted(sweep):
    assert "more cell" not in compared(sweep, "bn", "none")[0]
    assert "more cell" not in compared(sweep, "bn")[0], "its baseline is shown too"
    for norm in ("ln", "gn"):
        write_cell(sweep / norm, norm, {"test/acc": BN}, config={"init": "torch", "probes": {}})
        text, rows, _ = compared(sweep, "bn")
        more = "1 more cell lies" if norm == "ln" else "2 more cells lie"
        assert f"{more} in {sweep}; p is corrected for all, and summary.md has all" in text
    assert {row["folder"] for row in rows} == {"bn", "none", "ln", "gn"}
    assert all(f"| {norm} |" in (sweep / "summary.md").read_text() for norm in ("ln", "gn"))


def test_a_damaged_file_is_named_in_the_terminal_and_in_the_verdicts_that_the_report_writes(sweep):
    (sweep / "bn" / "probes.npz").write_bytes(b"no archive")
    text, _, (verdict,) = compared(sweep, "bn", "none")
    assert verdict["verdict"] == "not judged"
    assert verdict["reason"] == "probes.npz cannot be read (ValueError)"
    assert verdict["reason"] in text
    assert verdict["reason"] in (sweep / "report.html").read_text()
    assert "was not trained" not in text


def test_what_tensorboard_cannot_be_given_costs_nothing_else(sweep):
    (sweep / "differences").write_text("a file that is in the way")
    text, rows, (verdict,) = compared(sweep, "bn", "none")
    assert "no differences in TensorBoard: " in text
    assert (len(rows), verdict["n"]) == (2, 6)
    assert "bn is better" in (sweep / "report.html").read_text()


def in_a_grid(sweep, *names):
    """What the terminal says of a command with these cells, without an experiment."""
    cells = [Cell(own.cell, own.config, sweep / name, own.seeds) for name in names if (own := read(sweep / name))]
    console = Console(file=io.StringIO(), width=250, markup=False, highlight=False)
    _compare(Plan(cells, None), cells, console)
    return console.file.getvalue()


def test_a_command_of_several_arms_compares_them_with_each_other_whatever_else_lies_in_its_folder(sweep):
    config = {"init": "torch", "probes": {}}
    write_cell(sweep / "ln", "ln", {"test/acc": NONE}, config=config)
    assert "difference to none" in in_a_grid(sweep, "bn", "none", "ln")
    assert "difference to bn" in in_a_grid(sweep, "bn", "ln"), "the first arm, though none lies there too"
    assert "difference to none" in in_a_grid(sweep, "ln"), "an arm that is added later"


def test_a_swept_number_has_its_line_its_tables_and_its_figure(tmp_path):
    for rate, norms in {"10": (NONE, [0.1] * 6), "0.5": (BN, NONE)}.items():
        for norm, accuracies in zip(("bn", "none"), norms, strict=True):
            more = {
                "config": {"optimizer.lr": rate},
                "overrides": [f"optimizer.lr={rate}"],
                "chance": {"test/acc": 0.13},
            }
            lost = [norm == "none" and rate == "10" and i < 2 for i in range(6)]
            losses = [None if each else 1.0 + i / 100 for i, each in enumerate(lost)]
            metrics = {"test/acc": accuracies, "test/loss": losses}
            write_cell(tmp_path / f"{norm}-{rate}", norm, metrics, diverged=lost, **more)
    text = in_a_grid(tmp_path, "bn-10", "none-10", "bn-0.5", "none-0.5")
    assert text.index("mlp optimizer.lr=0.5") < text.index("mlp optimizer.lr=10"), "in the order of numbers"
    line = "optimizer.lr, where replicas train: bn up to at least 10; none up to 0.5, and not at 10"
    gains = np.subtract(NONE, BN).mean(), np.subtract([0.1] * 6, NONE).mean()
    interaction = f"{100 * (gains[0] - gains[1]):+.2f} ["
    page, summary = ((tmp_path / name).read_text() for name in ("report.html", "summary.md"))
    for place in (text, page, summary):
        assert line in place
        assert "does optimizer.lr help an arm more than none? test accuracy, points" in place
        assert interaction in place
    rows = list(csv.DictReader((tmp_path / "summary.csv").read_text().splitlines()))
    (own,) = [row for row in rows if row["by"] and row["arm"] == "bn" and row["metric"] == "test/acc"]
    assert (own["by"], float(own["start"]), float(own["end"])) == ("optimizer.lr", 0.5, 10)
    assert float(own["difference"]) == pytest.approx(gains[0] - gains[1])
    ((sweep,),) = [collect(tmp_path)]
    ((block,),) = [blocks(sweep)]
    data = block.drawing.data.set_index(["metric", "arm", "value"])
    assert data.loc[("test/acc", "none", 10.0), "diverged"] == 2
    assert data.loc[("test/acc", "bn", 0.5), "mean"] == pytest.approx(100 * np.mean(BN))
    assert np.isnan(data.loc[("test/loss", "none", 10.0), "mean"]), "a replica has no loss"
