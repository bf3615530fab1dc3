"""A sweep in a terminal, as a person sees it."""

import os
import re
import signal
from statistics import fmean

import pytest

from bn_experiments.claims.summary import paired_difference
from bn_experiments.records.results import done_below, read
from tests.command_line import ONE_AT_A_TIME, command, train
from tests.terminal import Terminal

TRAINS = r"^{} .*\s(\d+)/{}\s"
WORKERS = "hydra.launcher.n_jobs=2"


def in_terminal(data_dir, tmp_path, columns, lines, *arguments, epochs=60, **environment):
    words = command(data_dir, tmp_path, "-m", *arguments, f"trainer.max_epochs={epochs}")
    words.remove("trainer.max_epochs=2")
    return Terminal(words, tmp_path, columns, lines, **environment)


def trains(name, epochs):
    """Whether a screen has a row of a cell that is in one of its epochs."""
    return lambda shown: any(re.search(TRAINS.format(name, epochs), line) for line in shown)


def nothing_is_left_of_the_display(terminal):
    assert not terminal.screen.cursor.hidden
    assert not [line for line in terminal.text if re.search(r"\bepoch\b|so far|━|cells done,", line)]


@pytest.mark.slow  # beside other tests a cell may be over before it is drawn
def test_a_terminal_shows_the_cell_that_trains_and_the_differences_so_far_and_ends_with_the_table(data_dir, tmp_path):
    terminal = in_terminal(data_dir, tmp_path, 100, 30, "norm=none,bn,ln", "probes=[]", ONE_AT_A_TIME)
    terminal.until(trains("mlp none", 60))
    shown = terminal.until(lambda shown: any(line.startswith("2 of 3 cells done") for line in shown))
    arms = {read(cell).cell["norm"]: read(cell) for cell in done_below(tmp_path)}
    accuracy = {arm: dict(zip(one.seeds, one.metrics["test/acc"], strict=True)) for arm, one in arms.items()}
    (row,) = [line for line in shown if line.startswith("mlp bn ")]
    found = [100 * number for number in paired_difference(accuracy["bn"], accuracy["none"]).values()]
    assert row.endswith(f"6       {found[0]:+.2f} [{found[1]:+.2f}, {found[2]:+.2f}]")
    assert f" {100 * fmean(accuracy['bn'].values()):.2f} [" in row
    assert any(line.endswith("difference to none so far") for line in shown)
    assert terminal.to_the_end() == 0
    nothing_is_left_of_the_display(terminal)
    assert terminal.text[0].startswith("mnist1d: test accuracy, %")
    assert terminal.text[-1].startswith("3 of 3 cells done")
    assert not list(tmp_path.rglob("progress.json"))


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 80, 140])
def test_cells_side_by_side_fit_a_terminal_of_any_width(data_dir, tmp_path, columns):
    terminal = in_terminal(data_dir, tmp_path, columns, 24, "model=mlp,residual_mlp", "norm=bn,none", WORKERS)
    shown = terminal.until(lambda shown: trains("mlp bn", 60)(shown) and trains("mlp none", 60)(shown))
    assert max(map(len, shown)) <= columns
    shown = terminal.until(lambda shown: any(re.match(r"3(/| of )4 ", line) for line in shown))
    assert re.match(r"3(/| of )4 ", shown[0]), "nothing is left above it"
    assert terminal.to_the_end() == 0
    nothing_is_left_of_the_display(terminal)
    assert terminal.text[0].startswith("mnist1d: test accuracy, %")


@pytest.mark.slow
def test_a_terminal_without_utf_8_gets_ascii_alone_and_one_without_colour_no_colour(data_dir, tmp_path):
    plain = {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}
    terminal = in_terminal(data_dir, tmp_path, 80, 24, "norm=bn,none", WORKERS, **plain)
    terminal.until(trains("mlp bn +#+-*", 60))
    assert terminal.to_the_end() == 0
    assert terminal.output.isascii()
    assert not re.search(rb"\x1b\[[0-9;]*(3|4|9|10)\d[;m]", terminal.output)
    assert any(re.match(r" model +arm|mlp", line) for line in terminal.text)
    nothing_is_left_of_the_display(terminal)


@pytest.mark.slow
def test_a_dumb_terminal_gets_a_line_for_each_cell(data_dir, tmp_path):
    terminal = in_terminal(data_dir, tmp_path, 200, 24, "norm=bn,none", WORKERS, epochs=1, TERM="dumb")
    assert terminal.to_the_end() == 0
    assert b"\x1b" not in terminal.output
    assert [line.split("  ")[0] for line in sorted(terminal.text) if line.startswith("cell ")] == [
        "cell 1 of 2",
        "cell 2 of 2",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("place", [ONE_AT_A_TIME, WORKERS])
def test_a_signal_leaves_a_clean_terminal_with_the_words_that_a_file_gets(data_dir, tmp_path, place, number, status):
    terminal = in_terminal(data_dir, tmp_path, 100, 24, "norm=bn,none", place, epochs=3000)
    terminal.until(trains("mlp bn", 3000))
    if number == signal.SIGINT:
        os.write(terminal.own, b"\x03")  # as Ctrl-C does, to every process of the terminal
    os.killpg(terminal.process.pid, number)
    assert terminal.to_the_end() == status
    nothing_is_left_of_the_display(terminal)
    text = "\n".join(terminal.text)
    assert "0 of 2 cells done" in text
    assert "interrupted: the same command goes on from here" in text
    assert ("saving what is trained" in text) == (place == WORKERS)
    again = {signal.SIGINT: "a second Ctrl-C ends at once", signal.SIGTERM: "a second SIGTERM ends at once"}
    assert (again[number] in text) == (place == WORKERS)
    assert "Traceback" not in text
    assert not list(tmp_path.rglob("progress.json"))


@pytest.mark.slow
def test_what_workers_print_and_their_death_leave_the_display_whole(data_dir, tmp_path):
    keys = ["norm=none", "norm._target_=tests.failing.Killing,tests.failing.Saying,null", WORKERS]
    terminal = in_terminal(data_dir, tmp_path, 100, 30, *keys)
    shown = terminal.until(lambda shown: any("its process was killed" in line for line in shown))
    heads = [line for line in shown if re.match(r"\d of 3 cells done, 1 failed", line)]
    assert len(heads) == 1
    assert terminal.to_the_end() == 1
    nothing_is_left_of_the_display(terminal)
    assert {line for line in terminal.text if "said by" in line} == {"said by a worker"}


@pytest.mark.slow
def test_the_cursor_is_there_after_a_kill(data_dir, tmp_path):
    terminal = in_terminal(data_dir, tmp_path, 100, 24, "norm=bn,none", WORKERS, epochs=3000)
    terminal.until(trains("mlp bn", 3000))
    os.kill(terminal.process.pid, signal.SIGKILL)
    assert terminal.to_the_end() == -signal.SIGKILL
    assert not terminal.screen.cursor.hidden
    assert terminal.screen.cursor.x == 0, "what a shell prints next begins a line"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "preset"),
    [("ray", ["hydra/launcher=ray"]), ("submitit", ["hydra/launcher=slurm", "hydra.launcher.cluster=local"])],
)
def test_cells_that_train_elsewhere_are_shown_from_their_files(data_dir, tmp_path, package, preset):
    pytest.importorskip(package)
    terminal = in_terminal(data_dir, tmp_path, 100, 24, "norm=bn,none", *preset, epochs=60)
    terminal.until(trains("mlp bn", 60))
    assert terminal.to_the_end() == 0
    nothing_is_left_of_the_display(terminal)
    assert terminal.text[-1].startswith("2 of 2 cells done")


@pytest.mark.slow
def test_a_file_gets_no_more_than_the_table(data_dir, tmp_path):
    done = train(data_dir, tmp_path, "-m", "norm=bn,none", ONE_AT_A_TIME)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith("mnist1d: test accuracy, %")
