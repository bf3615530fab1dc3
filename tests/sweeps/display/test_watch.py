"""What is known of a sweep's cells, from files that are written by hand."""

import time
from dataclasses import replace

import pytest

from bn_experiments.claims.summary import paired_difference
from bn_experiments.records import progress
from bn_experiments.records.progress import TRAINING, Progress
from bn_experiments.sweeps.display.watch import Ended, Watch, short_names
from bn_experiments.sweeps.plan import Plan
from tests.cells_by_hand import a_result

ACCURACIES = {"none": [0.5, 0.52, 0.49, 0.51, 0.5, 0.53], "bn": [0.6, 0.66, 0.61, 0.6, 0.65, 0.62]}
ACCURACIES["ln"] = [0.55, 0.52, 0.56, 0.54, 0.57, 0.5]


@pytest.fixture
def cells(compose_cell):
    return [compose_cell(f"norm={norm}", "optimizer.lr=0.1") for norm in ACCURACIES]


def write_done(cell):
    norm = cell.choices["norm"]
    cell.folder.mkdir(parents=True, exist_ok=True)
    a_result(norm, {"test/acc": ACCURACIES[norm]}, chance={"test/acc": 0.12}).write(cell.folder)


def words(norm, against):
    own, baseline = (dict(enumerate(ACCURACIES[name])) for name in (norm, against))
    mean, low, high, *_ = (100 * number for number in paired_difference(own, baseline).values())
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


@pytest.mark.parametrize("baseline", ["none", "bn", None])
def test_a_difference_is_shown_once_the_baseline_is_done_too(cells, baseline):
    watch = Watch(Plan(cells, None, baseline), 3, dict(enumerate(cells)))
    against, other = ("bn", "none") if baseline == "bn" else ("none", "bn")
    for norm, differences in {
        other: [""],
        "ln": ["", ""],
        against: ["", words("ln", against), words(other, against)],
    }.items():
        (number,) = [i for i, cell in enumerate(cells) if cell.choices["norm"] == norm]
        write_done(cells[number])
        watch.ends.put(number)
        view = watch.view(10)
        assert view.baseline == against
        assert [ended.finding.difference for ended in view.ended] == differences
        assert view.ended[0].name == f"mlp {norm}"


def test_cells_that_were_done_before_are_shown_after_the_newest_and_are_compared_with(cells):
    write_done(cells[0])
    watch = Watch(Plan(cells, None), 3, {1: cells[1], 2: cells[2]})
    assert watch.view(10).done == 1
    write_done(cells[1])
    watch.ends.put(1)
    view = watch.view(10)
    assert (view.cells, view.done, view.failed) == (3, 2, 0)
    assert [(ended.name, ended.finding.difference) for ended in view.ended] == [
        ("mlp bn", words("bn", "none")),
        ("mlp none", ""),
    ]
    assert [ended.name for ended in watch.view(1).ended] == ["mlp bn"]


def test_a_cell_is_shown_as_its_file_says_and_leaves_when_it_ends(cells, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    for cell in cells:
        cell.folder.mkdir(parents=True)
    killed = Progress(TRAINING, 1, 10, 5, 100)
    killed.write(cells[2].folder)
    watch = Watch(Plan(cells, None), 3, dict(enumerate(cells)))
    assert watch.view(10).training == [], "what a killed process left is no training"
    first, second = Progress(TRAINING, 1, 10, 5, 100, 30.0), Progress(TRAINING, 2, 10, 15, 100, 20.0)
    for written in (first, second):
        written.write(cells[1].folder)
        assert watch.view(10).training == [("mlp bn", written)]
    (cells[1].folder / progress.FILE).write_text('{"stage": ')
    assert watch.view(10).training == [("mlp bn", second)], "a file that cannot be read says nothing"
    replace(a_result("bn", {"test/acc": [0.5]}), status="failed", error="ValueError: a\nb").write(cells[1].folder)
    watch.ends.put(1)
    view = watch.view(10)
    assert (view.training, view.done, view.failed) == ([], 0, 1)
    assert view.ended == [Ended("mlp bn", "failed (ValueError: a b)", None)]


def test_the_time_left_is_that_of_the_cells_that_train_and_of_those_to_come_at_the_pace_of_all(cells, monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for cell in cells:
        cell.folder.mkdir(parents=True)
    watch = Watch(Plan(cells, None), 3, dict(enumerate(cells)))
    assert watch.view(10).left_s is None
    Progress(TRAINING, 1, 10, 0, 100).write(cells[0].folder)
    assert watch.view(10).left_s is None, "no pace yet"
    now += 10
    Progress(TRAINING, 5, 10, 50, 100, 10.0).write(cells[0].folder)
    assert watch.view(10).left_s == 10 + 2 * 20, "each cell to come takes 20 s"
    Progress(TRAINING, 1, 10, 0, 100, 40.0).write(cells[1].folder)
    assert watch.view(10).left_s == (10 + 40 + (20 + 40) / 2) / 2, "two at a time"
    now += 4
    assert [own.left_s for _, own in watch.view(10).training] == [6, 36], "the time since the files were written"
    now += 6
    write_done(cells[0])
    watch.ends.put(0)
    assert watch.view(10).left_s == 30 + (20 + 40) / 2


def test_names_are_as_short_as_the_grid_allows(compose_cell):
    grid = ["model=residual_mlp", "norm.placement=post"]
    cells = [
        compose_cell(f"optimizer.lr={lr}", f"optimizer={option}", *grid) for lr in (1, 2) for option in ("sgd", "adam")
    ]
    assert list(short_names(cells).values()) == [
        f"residual_mlp bn placement=post {option} optimizer.lr={lr}" for lr in (1, 2) for option in ("sgd", "adam")
    ]
    assert list(short_names(cells[:1]).values()) == ["residual_mlp bn placement=post"]
