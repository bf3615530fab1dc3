"""Tuned arms on the command line: an experiment asks for them, and its verdict says where the range is too narrow."""

import json

import pandas as pd
import pytest

from bn_experiments.records.results import done_in
from tests.command_line import train

EXPERIMENT = """
# @package _global_
hydra:
  mode: MULTIRUN
  sweeper:
    params: {norm: "bn,none"}
name: tuned
tune: {optimizer: {lr: [1.0e-6, 0.05]}, replicas: 2}
experiment:
  title: Tuned arms
  source: Nobody 2026, nowhere
  arms: {bn: {norm: bn}, none: {norm: none}}
  published: []
  claims:
    - {claim: bn is better, rule: difference, left: {arm: bn, metric: val/acc}, right: {arm: none, metric: val/acc}}
"""


@pytest.mark.slow
def test_a_tuned_experiment_says_what_was_chosen_and_what_to_widen(data_dir, tmp_path):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "tuned.yaml").write_text(EXPERIMENT)
    words = ["--config-dir", str(tmp_path / "conf"), "experiment=tuned", "probes=[]", "data.train_examples=1000"]
    first = train(data_dir, tmp_path, *words)
    assert first.returncode == 0, first.stderr
    edge = "is best at the upper end of what was tried of optimizer.lr, 0.05: widen tune.optimizer.lr upwards"
    assert "at lr=0.05" in first.stdout
    (verdict,) = json.loads((tmp_path / "tuned" / "verdicts.json").read_text())
    assert verdict["edges"] == [f"bn {edge}", f"none {edge}"]
    assert edge in (tmp_path / "tuned" / "report.html").read_text()
    summary = pd.read_csv(tmp_path / "tuned" / "summary.csv")
    assert set(summary["tuned"]) == {"lr=0.05"}
    assert summary["pairs"].max() == 6
    written = {folder: (folder / "tuning.json").stat().st_mtime_ns for folder in done_in(tmp_path / "tuned")}
    again = train(data_dir, tmp_path, *words)
    assert "training" not in again.stdout
    assert written == {folder: (folder / "tuning.json").stat().st_mtime_ns for folder in written}


@pytest.mark.slow
def test_one_command_or_a_grid_it_is_the_same_tuned_cell(data_dir, tmp_path):
    keys = ["norm=bn", "tune.optimizer.lr=1e-2..1e-1:2", "tune.replicas=2", "probes=[]"]
    alone = train(data_dir, tmp_path, "name=alone", *keys)
    grid = train(data_dir, tmp_path, "-m", "name=alone", *keys)
    assert grid.returncode == alone.returncode == 0, grid.stderr + alone.stderr
    assert len(done_in(tmp_path / "alone")) == 1
