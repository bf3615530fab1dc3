"""The command line as its users run it: whole processes, and the lines of a sweep in a terminal."""

import json
import math
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import joblib
import pandas as pd
import pytest

from bn_experiments.records.results import done_below, read
from bn_experiments.records.table import collect
from bn_experiments.statistics.rules import difference
from bn_experiments.sweeps.display.live import Lines
from tests.cells_by_hand import write_cell
from tests.command_line import ONE_AT_A_TIME, command, run, start, train, until


@pytest.fixture(scope="module")
def swept(data_dir, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """The grid of two models with and without batch norm."""
    output = tmp_path_factory.mktemp("sweep")
    return output, train(data_dir, output, "-m", "model=mlp,residual_mlp", "norm=bn,none")


def test_a_grid_ends_with_a_table_of_every_arm_and_status_zero(swept):
    output, done = swept
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "4 of 4 cells done" in done.stdout
    runs = collect(output)
    for model in ("mlp", "residual_mlp"):
        arms = {norm: runs[(runs["model"] == model) & (runs["norm"] == norm)] for norm in ("bn", "none")}
        for cells in arms.values():
            assert f"{cells['test/acc'].mean() * 100:.2f} [" in done.stdout
        paired = difference(*(arms[norm]["test/acc"].tolist() for norm in ("bn", "none")))
        assert f"{paired.estimate * 100:+.2f} [{paired.low * 100:+.2f}, {paired.high * 100:+.2f}]" in done.stdout


def test_the_summary_has_a_row_for_each_arm_and_metric(swept):
    output, _ = swept
    summary = pd.read_csv(output / "grid" / "summary.csv")
    assert len(summary) == 2 * 2 * 5
    columns = ["data", "model", "optimizer", "arm", "metric", "mean", "low", "high", "n"]
    columns += ["difference", "difference_low", "difference_high", "p"]
    assert set(columns) <= set(summary.columns)
    baseline = summary["arm"] == "none"
    assert summary.loc[baseline, "difference"].isna().all()
    assert summary.loc[~baseline & ~summary["at_chance"], "p"].between(0, 1).all()
    assert "| mnist1d | residual_mlp" in (output / "grid" / "summary.md").read_text()


def test_the_same_command_again_trains_nothing(swept, data_dir):
    output, first = swept
    before = {path: path.stat().st_mtime_ns for path in output.rglob("result.json")}
    assert len(before) == 4
    again = train(data_dir, output, "-m", "model=mlp,residual_mlp", "norm=bn,none")
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in output.rglob("result.json")} == before
    told, rest = first.stdout.split("\n", 1)
    at_a_time = min(2, joblib.cpu_count())
    assert re.fullmatch(rf"training 4 of 4 cells, {at_a_time} at a time \(1 thread each, .*\)", told)
    assert again.stdout == rest


def test_cells_trained_two_at_a_time_end_with_the_numbers_of_cells_trained_one_at_a_time(swept, data_dir, tmp_path):
    output, _ = swept
    done = train(data_dir, tmp_path, "-m", "model=mlp,residual_mlp", "norm=bn", ONE_AT_A_TIME)
    assert done.returncode == 0, done.stderr
    assert "at a time" not in done.stdout
    folders = [path.parent.relative_to(tmp_path) for path in tmp_path.rglob("result.json")]
    assert len(folders) == 2
    for folder in folders:
        two, one = read(output / folder), read(tmp_path / folder)
        assert (two.metrics, two.probes, two.config_hash) == (one.metrics, one.probes, one.config_hash)
        assert two.device == one.device
        assert two.device.endswith(" 1 thread")


def test_a_quiet_terminal_shows_no_progress(swept):
    _, done = swept
    assert "\r" not in done.stdout
    assert "cell 1 of 4" not in done.stdout


def test_the_time_left_is_that_of_the_cells_to_come_at_the_pace_of_those_that_ended(compose_cell, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes the output for a terminal
    cells = [compose_cell(f"optimizer.lr=0.{number + 1}") for number in range(6)]
    lines = Lines(cells=6, to_train=5)
    now = lines.started + 60
    monkeypatch.setattr(time, "time", lambda: now)
    for number, left in {3: "about 0:04:00 left", 1: "about 0:01:30 left"}.items():
        write_cell(cells[number].folder, "bn", {"test/acc": [0.25, 0.75]})
        lines.show(number, cells[number])
        line = capsys.readouterr().out.rstrip()
        assert line.startswith(f"cell {number + 1} of 6  {cells[number].folder.name}  ")
        assert line.endswith(left)
        assert "test accuracy 50.0%" in line


def test_the_log_of_a_cell_holds_lightnings_words(swept):
    output, _ = swept
    (folder,) = (output / "grid").glob("mnist1d-mlp-bn-*")
    assert "max_epochs=2" in (folder / "train.log").read_text()


def test_an_experiment_needs_no_m_and_ends_with_its_verdicts_and_a_report(data_dir, tmp_path):
    words = command(data_dir, tmp_path, "experiment=udl_residual", ONE_AT_A_TIME)
    words = [word for word in words if "max_epochs" not in word and "train_examples" not in word]
    done = run(words, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 cells done" in done.stdout
    folder = tmp_path / "udl_residual"
    assert json.loads((folder / "experiment.json").read_text())["name"] == "udl_residual", "not its full name"
    verdicts = json.loads((folder / "verdicts.json").read_text())
    # what theory says of the variance at initialization: De & Smith 2020, arXiv:2002.10444, section 3
    assert [verdict["verdict"] for verdict in verdicts[:3]] == ["holds"] * 3
    assert verdicts[3]["estimate"] == pytest.approx(1 - 1 / math.pi, abs=0.05)
    for verdict in verdicts:
        assert f"{verdict['estimate']:+.4g}" in done.stdout
    assert "variance" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_a_folder_that_holds_another_experiment_is_left_alone(data_dir, tmp_path):
    (tmp_path / "udl_residual").mkdir()
    record = tmp_path / "udl_residual" / "experiment.json"
    record.write_text('{"name": "other"}')
    done = train(data_dir, tmp_path, "-m", "norm=bn,none", "name=udl_residual")
    assert done.returncode == 2
    assert done.stderr.startswith("name=udl_residual: ")
    assert "holds the experiment other; allowed: another name" in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["udl_residual", "experiment.json"]


@pytest.mark.slow
@pytest.mark.parametrize("at_a_time", [1, 2])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_still_gives_the_table_and_the_same_command_goes_on(
    data_dir, tmp_path, number, status, at_a_time
):
    words = command(data_dir, tmp_path, "-m", "trainer.max_epochs=1,300", "trainer.checkpoint_every_n_steps=1")
    words.append(f"hydra.launcher.n_jobs={at_a_time}")
    words.remove("trainer.max_epochs=2")
    running = start(words, tmp_path)
    until(lambda: len(list(tmp_path.rglob("*.ckpt"))) == 2 and done_below(tmp_path), running)
    os.killpg(running.pid, number)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == status, stderr
    assert "Traceback" not in stderr
    assert "1 of 2 cells done" in stdout
    goes_on = ": not done; the same command goes on from here"
    (interrupted,) = [Path(line.removesuffix(goes_on)) for line in stderr.splitlines() if line.endswith(goes_on)]
    assert read(interrupted).status == "interrupted"
    again = run(words, tmp_path)
    assert again.returncode == 0
    assert "2 of 2 cells done" in again.stdout
    assert read(interrupted).status == "done"
    assert "Restored all states" in (interrupted / "train.log").read_text()


@pytest.mark.slow
def test_a_single_run_prints_its_numbers(data_dir, tmp_path):
    done = train(data_dir, tmp_path, "model=mlp", "norm=bn", "name=mine")
    assert done.returncode == 0, done.stderr
    accuracy = collect(tmp_path / "mine")["test/acc"].mean()
    assert f"{accuracy * 100:.2f} [" in done.stdout
