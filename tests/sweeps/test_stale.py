"""What a command makes of records that other code, versions, data, settings or seeds made."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from bn_experiments.records.results import done_below, read, read_run
from bn_experiments.run import run as train_here
from bn_experiments.sweeps.stale import set_aside, stale_runs
from tests.command_line import ENVIRONMENT, ROOT, command, run

NORM = """
from torch import nn

class Scaled(nn.Module):
    def __init__(self, width):
        super().__init__()

    def forward(self, x):
        return x * {factor}
"""


@pytest.fixture
def norm_of_ones_own(tmp_path, monkeypatch):
    """A function that writes the norm `norm_of_ones_own.Scaled` with a factor, and gives the grid that uses it."""
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")

    def write(factor, comment=""):
        (tmp_path / "norm_of_ones_own.py").write_text(NORM.format(factor=factor) + comment)
        return ["-m", "norm=none", "norm._target_=norm_of_ones_own.Scaled,null"]

    return write


def train(data_dir, output, *arguments):
    output.mkdir(exist_ok=True)
    words = command(data_dir, output, *arguments)
    return run([*words, *(argument for argument in arguments if argument.startswith("replicas="))], output)


def accuracies(output):
    return {folder.name: result.metrics["test/acc"] for folder, result in done_below(output).items()}


@pytest.mark.slow
def test_results_of_edited_code_are_refused_and_retrained_or_kept_as_the_command_says(
    data_dir, tmp_path, norm_of_ones_own
):
    output = tmp_path / "out"
    assert train(data_dir, output, *norm_of_ones_own(1.0)).returncode == 0
    before = accuracies(output)
    assert train(data_dir, output, *norm_of_ones_own(1.0, "# a comment\n")).returncode == 0

    refused = train(data_dir, output, *norm_of_ones_own(0.1))
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("stale: the origin of what lies in ")
    assert "norm_of_ones_own changed" in line
    assert "allowed: retrain, keep" in line
    assert accuracies(output) == before

    kept = train(data_dir, output, *norm_of_ones_own(0.1), "stale=keep")
    assert kept.returncode == 0
    assert "kept as it is, though norm_of_ones_own changed" in kept.stdout
    assert accuracies(output) == before

    anew = train(data_dir, output, *norm_of_ones_own(0.1), "stale=retrain")
    assert anew.returncode == 0, anew.stderr
    after = accuracies(output)
    changed = [name for name in before if before[name] != after[name]]
    assert changed == [name for name in before if "Scaled" in name]
    assert len(changed) == 1
    (old,) = output.rglob("result-1.json")
    assert json.loads(old.read_text())["metrics"]["test/acc"] == before[changed[0]]
    assert {path.name for path in old.parent.glob("*-1.*")} == {"result-1.json", "metrics-1.csv", "probes-1.npz"}


def test_records_set_aside_overwrite_none_that_was_kept_before(tmp_path):
    for kept, names in (("1", ["result-2.json"]), ("2", []), ("3", ["metrics-9.csv"])):
        for name in ("result.json", "metrics.csv", *names):
            (tmp_path / name).write_text(kept)
        set_aside(tmp_path)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {
        **dict.fromkeys(("result-2.json", "result-3.json", "metrics-3.csv"), "1"),
        **dict.fromkeys(("result-4.json", "metrics-4.csv"), "2"),
        **dict.fromkeys(("metrics-9.csv", "result-10.json", "metrics-10.csv"), "3"),
    }


def altered(output, **changes):
    """Changes the origin in every record below a folder."""
    for folder in done_below(output):
        made_by = [{**entry, **changes} for entry in read(folder).made_by]
        replace(read_run(folder), made_by=made_by).write(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"versions": {"torch": "1.0"}}, "torch was 1.0, is "),
        ({"data": "0123"}, "the data changed"),
        ({"device": "cuda"}, "the device was cuda, is cpu"),
        ({"code": {}}, "the code that made them is not recorded"),
    ],
)
def test_other_versions_data_and_devices_are_said(data_dir, tmp_path, changes, said):
    assert train(data_dir, tmp_path, "norm=none").returncode == 0
    altered(tmp_path, **changes)
    refused = train(data_dir, tmp_path, "norm=none")
    assert refused.returncode == 2
    assert said in refused.stderr


@pytest.mark.parametrize(("accelerator", "elsewhere", "is_stale"),
                         [("auto", True, False), ("auto", False, True), ("cpu", True, True)])  # fmt: skip
def test_the_device_of_this_machine_makes_nothing_stale_that_auto_trains_elsewhere(
    compose_cell, monkeypatch, accelerator, elsewhere, is_stale
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cell = compose_cell(f"trainer.accelerator={accelerator}", "trainer.max_epochs=0", "probes=[]")
    train_here(cell)
    assert stale_runs([cell], elsewhere) == []
    altered(cell.folder.parent, device="cuda")
    said = ["the device was cuda, is cpu"] if is_stale else []
    assert [change for run in stale_runs([cell], elsewhere) for change in run.changes] == said
    altered(cell.folder.parent, data="0123")
    assert [change for run in stale_runs([cell], elsewhere) for change in run.changes] == ["the data changed", *said]


@pytest.mark.slow
def test_a_checkpoint_of_other_code_does_not_go_on_unasked_and_its_result_is_of_mixed_code(data_dir, tmp_path):
    assert train(data_dir, tmp_path, "norm=none").returncode == 0
    (folder,) = done_below(tmp_path)
    altered(tmp_path, versions={"torch": "1.0"})
    replace(read_run(folder), status="interrupted").write(folder)
    (file,) = folder.glob("checkpoints/*.ckpt")
    torch.save({**torch.load(file, weights_only=True), "made_by": read_run(folder).made_by}, file)
    assert "torch was 1.0" in train(data_dir, tmp_path, "norm=none").stderr
    assert train(data_dir, tmp_path, "norm=none", "stale=keep").returncode == 0
    assert [origin.versions["torch"] == "1.0" for origin in read(folder).origins] == [True, False]


@pytest.mark.slow
def test_a_damaged_record_hides_no_other_code_and_costs_no_training_under_the_same(data_dir, tmp_path):
    assert train(data_dir, tmp_path, "norm=none").returncode == 0
    (folder,) = done_below(tmp_path)
    before = read(folder)
    (folder / "result.json").write_text("{")
    assert train(data_dir, tmp_path, "norm=none").returncode == 0
    assert (read(folder).metrics, read(folder).timing["samples_per_s"]) == (before.metrics, 0)
    assert read(folder).made_by == before.made_by
    (file,) = folder.glob("checkpoints/*.ckpt")
    other = [{**entry, "versions": {"torch": "1.0"}} for entry in before.made_by]
    torch.save({**torch.load(file, weights_only=True), "made_by": other}, file)
    (folder / "result.json").write_text("{")
    refused = train(data_dir, tmp_path, "norm=none")
    assert refused.returncode == 2
    assert "torch was 1.0" in refused.stderr


@pytest.mark.slow
def test_a_cell_whose_default_was_edited_is_never_overwritten_in_silence(data_dir, tmp_path):
    assert train(data_dir, tmp_path, "norm=none").returncode == 0
    (folder,) = done_below(tmp_path)
    record = read_run(folder)
    other = {**record.config, "optimizer": {**record.config["optimizer"], "lr": 0.77}}
    replace(record, config=other).write(folder)
    for choice in ([], ["stale=keep"]):
        refused = train(data_dir, tmp_path, "norm=none", *choice)
        assert refused.returncode == 2
        assert "optimizer.lr is 0.05, not 0.77); allowed: retrain, or another name=" in refused.stderr
    assert read_run(folder).config == other


@pytest.mark.slow
def test_more_seeds_of_a_cell_are_trained_and_count_together_with_those_that_are_there(data_dir, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(data_dir, whole, "-m", "norm=bn,none", "replicas=6").returncode == 0
    assert train(data_dir, parts, "-m", "norm=bn,none", "replicas=2").returncode == 0
    assert train(data_dir, parts, "-m", "norm=bn", "seed=4", "replicas=2").returncode == 0
    last = train(data_dir, parts, "-m", "norm=bn,none", "replicas=6")
    assert last.returncode == 0
    assert "2 of 2 cells done" in last.stdout
    together, alone = ({p.name: r for p, r in done_below(folder).items()} for folder in (parts, whole))
    assert together.keys() == alone.keys()
    for name, cell in alone.items():
        order = [together[name].seeds.index(seed) for seed in cell.seeds]
        for metric, values in cell.metrics.items():
            np.testing.assert_allclose(np.array(together[name].metrics[metric])[order], values, rtol=1e-4)
    runs = sorted(path.parent.name for path in parts.rglob("seeds=*/result.json"))
    assert runs == ["seeds=2-3", "seeds=2-5", "seeds=4-5"]
    again = train(data_dir, parts, "-m", "norm=bn,none", "replicas=6")
    assert "training" not in again.stdout


@pytest.mark.slow
def test_a_cell_of_an_earlier_command_is_said_to_be_of_other_code_where_it_stands_in_a_table(
    data_dir, tmp_path, norm_of_ones_own
):
    output = tmp_path / "out"
    assert train(data_dir, output, *norm_of_ones_own(1.0)).returncode == 0
    norm_of_ones_own(0.1)
    before = accuracies(output)
    other = train(data_dir, output, "-m", "norm=none,ln")
    assert other.returncode == 0, other.stderr
    (line,) = [line for line in other.stdout.splitlines() if "of an earlier command" in line]
    assert "Scaled" in line
    assert line.endswith("since then norm_of_ones_own changed")
    assert accuracies(output).items() >= before.items()
