"""How a view is laid out, at any width and height."""

import itertools
import re

import pytest
from rich.console import Console

from bn_experiments.records.progress import STARTING, TESTING, TRAINING, Progress
from bn_experiments.sweeps.display.columns import ASCII, UNICODE
from bn_experiments.sweeps.display.frame import Frame, laid_out
from bn_experiments.sweeps.display.so_far import Finding
from bn_experiments.sweeps.display.watch import Ended, View

HALF = Progress(TRAINING, 6, 10, 50, 100, 70, 6, 1, 1.25, 1.5, 0.4567)
TRAINED = [("residual_mlp none optimizer.lr=0.1", HALF), ("mlp bn", Progress(STARTING, epochs=10))]
TRAINED += [("mlp ln", Progress(TESTING, 10, 10, 100, 100, 0, 6, 0, 0.5, 0.25, 1.0))]
TRAINED += [("mlp gn", Progress("tuning 1-9 of 9", 2, 10, 12, 100, 3700, 90, 0, 2.0, 2.25, 0.1))]
NUMBERS = ("68.87 [67.33, 70.40]", "+3.27 [+1.93, +4.61]")
DONE = Ended("residual_mlp bn", "", Finding(" (1 diverged)", NUMBERS[0], "6", NUMBERS[1]))
BASELINE = Ended("residual_mlp none", "", Finding("", "65.60 [62.90, 68.30]", "6", ""))
FAILED = Ended("mlp rms", "failed (ZeroDivisionError: on purpose)", None)


def view(trained=TRAINED, ended=(DONE, BASELINE, FAILED), failed=1):
    return View(20, 12, failed, 3725.0, "none", trained, ended)


def lines(width, height=40, signs=UNICODE, of=None):
    return [line.plain for line in laid_out(of or view(), width, height, signs)]


@pytest.mark.parametrize("signs", [UNICODE, ASCII])
def test_no_frame_is_wider_or_higher_than_its_terminal(signs):
    many = view([(f"mlp bn optimizer.lr={i}", HALF) for i in range(30)], [DONE, FAILED] * 30)
    for width, height, of in itertools.product([20, 40, 80, 140], [1, 5, 10, 24, 60], [view(), many]):
        found = lines(width, height, signs, of)
        assert max(map(len, found)) <= width
        assert len(found) <= max(1, height - 2)
        assert signs is UNICODE or "".join(found).isascii()


def test_a_wide_terminal_shows_all_of_a_cell_on_its_line():
    head, heading, *rows = lines(140)
    assert head == "12 of 20 cells done, 1 failed, about 1:02:05 left"
    assert heading.split("  ")[0] == "training"
    name, bar, *numbers = re.split(r"\s{2,}", rows[0])
    assert name == "residual_mlp none optimizer.lr=0.1, 1 diverged"
    assert bar.count(UNICODE.full) == bar.count(UNICODE.empty) == len(bar) / 2, "half of the steps are taken"
    assert numbers == ["6/10", "1.2500", "1.5000", "45.67", "01:10"]
    assert re.split(r"\s{2,}", rows[1].strip())[2:] == ["0/10"]
    assert rows[2].endswith("100.00  testing")
    assert rows[3].startswith("mlp gn, tuning 1-9 of 9  ")
    assert rows[3].endswith("1:01:40")


@pytest.mark.parametrize("width", [40, 60, 80, 140])
def test_no_number_of_a_cell_is_lost_at_any_width(width):
    text = "\n".join(lines(width))
    for number in ("6/10", "1.2500", "1.5000", "45.67", "01:10", *NUMBERS, "difference to none so far"):
        assert number in text
    assert "1:02:05 left" in text


def test_a_name_loses_its_middle_and_a_terminal_with_room_has_it_whole():
    assert any(line.startswith("residual_ml..") for line in lines(40, signs=ASCII))
    assert any(line.startswith("residual_mlp none optimizer.lr=0.1, 1 diverged ") for line in lines(140))


def test_the_newest_that_fit_are_shown_and_the_others_counted():
    ended = [Ended(f"mlp bn optimizer.lr={i}", "", DONE.finding) for i in range(50)]
    found = lines(100, 24, of=view(ended=ended))
    shown = [line for line in found if line.startswith("mlp bn optimizer.lr=")]
    assert shown[0].startswith("mlp bn optimizer.lr=0 ")
    assert found[-1] == f"{UNICODE.dots} {50 - len(shown)} more"
    assert len(found) == 22


def test_many_cells_that_train_leave_a_third_of_the_terminal_to_those_that_ended():
    trained = [(f"mlp bn optimizer.lr={i}", HALF) for i in range(50)]
    found = lines(100, 24, of=view(trained, [DONE] * 50))
    start = found.index("")
    assert (start, len(found) - start) == (1 + 14, 7)
    assert found[start - 1] == f"{UNICODE.dots} {50 - 12} more"


def test_a_failure_is_told_with_its_reason():
    assert "mlp rms  failed (ZeroDivisionError: on purpose)" in lines(80)


def test_rich_draws_the_frame_in_the_characters_of_the_terminal(tmp_path):
    for encoding, signs in (("utf-8", UNICODE), ("ascii", ASCII)):
        with (tmp_path / encoding).open("w", encoding=encoding) as file:
            Console(file=file, width=80, height=24, force_terminal=True, color_system=None).print(Frame(view()))
        drawn = (tmp_path / encoding).read_text(encoding=encoding)
        assert [line.rstrip() for line in drawn.split("\n")[:-2]] == [line.rstrip() for line in lines(80, 24, signs)]
