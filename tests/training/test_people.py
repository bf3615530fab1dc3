"""Norms as people write them, from end to end: a replica is a run alone, measured or not, cut or not."""

import json
import logging
import signal

import pandas as pd
import pytest
import torch
from torch import nn

from bn_experiments.config.build import build
from bn_experiments.run import run
from bn_experiments.seeds import Stream
from bn_experiments.system import interruption
from bn_experiments.training.attributes import attributes, restore
from tests.command_line import train
from tests.config.test_stacking import ALONE, ANEW
from tests.training.test_trainer import at_block  # noqa: F401  # a fixture

BLOCKS = 3  # of five mini-batches an epoch, two a block
SMALL = ["model.hidden=[8]", "norm=none", "trainer.max_epochs=2", "replicas=3", "data.batch_size=50"]
SMALL += ["trainer.steps_per_execution=2", "trainer.checkpoint_every_n_steps=1"]
STACKED = ["PlainAttributes", "AssignedBuffers", "AssignedRenorm", "NotPersistent", "Counting", "OpaqueState"]
NORMS = [
    pytest.param(name, marks=() if name in ("Noisy", "Counting") else pytest.mark.slow) for name in (*STACKED, *ALONE)
]


@pytest.fixture
def cell(compose_cell, tmp_path):
    """A cell with a norm of people's; cells with another name have another folder."""

    def composed(norm, name, *more):
        keys = {key.partition("=")[0] for key in more}
        small = [key for key in SMALL if key.partition("=")[0] not in keys]
        where = f"paths.output_dir={tmp_path / name}"
        return compose_cell(*small, f"norm._target_=benchmarks.people.{norm}", where, *more)

    return composed


def curves(cell):
    return pd.read_csv(cell.folder / "metrics.csv").sort_values(["name", "replica", "step"], ignore_index=True)


def same_readings(together, alone, i):
    assert together.keys() == alone.keys()
    for probe, quantities in alone.items():
        for quantity, values in quantities.items():
            for label, (value,) in values.items():
                found = together[probe][quantity][label][i]
                assert found == pytest.approx(value, rel=1e-3, abs=1e-5), (probe, quantity, label)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.few(1)
def test_each_of_three_replicas_is_the_run_of_its_seed_alone(cell, norm):
    together = cell(norm, "together")
    result = run(together)
    found = curves(together)
    for i in range(3):
        alone = cell(norm, f"alone-{i}", "replicas=1", f"seed={i}")
        expected = run(alone)
        own = found[found["replica"] == i].assign(replica=0).reset_index(drop=True)
        for name, (value,) in expected.metrics.items():
            if norm in ALONE:
                assert result.metrics[name][i] == value, name
            else:
                assert result.metrics[name][i] == pytest.approx(value, rel=1e-4), name
        if not norm.startswith("Noisy"):  # a probe's own draws are one stream for all replicas
            same_readings(result.probes, expected.probes, i)
        if norm in ALONE:
            pd.testing.assert_frame_equal(own, curves(alone).assign(replica=0), check_exact=True)
    losses = result.metrics["test/loss"]
    assert len({round(loss, 3) for loss in losses}) == 3, "replicas differ by far more than the tolerance"


@pytest.mark.parametrize("norm", ["Hooked"])
def test_a_hook_of_the_copy_that_is_measured_writes_nothing_into_what_is_trained(cell, norm):
    with_probes, without = (
        cell(norm, name, f"probes=[{probes}]") for name, probes in {"with": "activations,modes", "without": ""}.items()
    )
    assert run(with_probes).metrics == run(without).metrics


def test_where_a_later_step_is_refused_in_a_stack_the_cell_trains_anew_one_by_one(cell, at_block):  # noqa: F811
    found = run(cell("ReadsLater", "late", "trainer.max_epochs=3"))
    (note,) = found.notes
    assert note.startswith("replicas are trained one by one, for a step in the middle of the training was refused")
    expected = run(cell("ReadsLater", "alone", "trainer.max_epochs=3", "trainer.stack_replicas=false"))
    assert (found.metrics, expected.notes) == (expected.metrics, [])

    cut = cell("ReadsLater", "cut", "trainer.max_epochs=3")
    counts = at_block(12, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(interruption.Interrupted), interruption.listening(), interruption.deferred():
        run(cut)
    assert counts[-1] == 12, "the separate run was cut, after the stack had been refused"
    assert run(cut).metrics == expected.metrics
    with pytest.raises(RuntimeError, match="item"):
        run(cell("ReadsLater", "asked", "trainer.max_epochs=3", "trainer.stack_replicas=true"))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.few(1)
def test_probes_change_no_number(cell, norm):
    with_probes, without = cell(norm, "with"), cell(norm, "without", "probes=[]")
    assert run(with_probes).metrics == run(without).metrics
    pd.testing.assert_frame_equal(curves(with_probes), curves(without), check_exact=True)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.few(1)
def test_a_run_that_is_cut_ends_as_a_whole_one(cell, norm, at_block, caplog):  # noqa: F811
    whole, cut = cell(norm, "whole"), cell(norm, "cut")
    expected = run(whole)
    at_block(BLOCKS + 2, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(interruption.Interrupted), interruption.listening(), interruption.deferred():
        run(cut)
    counts = at_block(-1, lambda: None)
    with caplog.at_level(logging.INFO):
        result = run(cut)
    assert counts[-1] == (2 * BLOCKS if norm in ANEW else BLOCKS - 2)
    assert ("Restored all states" in caplog.text) == (norm not in ANEW)
    assert ("a run that is cut short starts anew" in caplog.text) == (norm in ANEW)
    assert (result.metrics, result.probes) == (expected.metrics, expected.probes)
    pd.testing.assert_frame_equal(curves(whole), curves(cut), check_exact=True)
    assert (whole.folder / "probes.npz").read_bytes() == (cut.folder / "probes.npz").read_bytes()


@pytest.mark.parametrize("norm", NORMS)
def test_the_notes_say_what_is_done_in_another_way_and_why(cell, norm):
    made = cell(norm, "noted")
    notes = run(made).notes
    assert json.loads((made.folder / "result.json").read_text())["notes"] == notes
    assert len(notes) == (norm in ALONE) + (norm in ANEW)
    if norm in ALONE:
        assert notes[0].startswith("replicas are trained one by one, for ")
        assert ALONE[norm] in notes[0]
    if norm in ANEW:
        assert notes[-1].startswith("a run that is cut short starts anew, for ")
        assert ANEW[norm] in notes[-1]


def test_each_replica_draws_from_a_stream_of_its_own(cell):
    streams = build(cell("Noisy", "streams", "seed=5")).module.streams
    assert [stream.seed for stream in streams] == [Stream(seed, "training").seed for seed in (5, 6, 7)]


def test_attributes_that_hold_tensors_come_back_on_the_device_that_is_named():
    network = nn.Sequential(nn.Identity())
    network[0].last = [torch.ones(2), 3]
    state = attributes(network)
    restore(network, state, torch.device("meta"))
    assert network[0].last[0].device.type == "meta"
    assert network[0].last[1] == 3
    restore(network, state)
    assert torch.equal(network[0].last[0], torch.ones(2))


@pytest.mark.slow
def test_the_log_of_the_cell_has_each_note_as_a_line(data_dir, tmp_path):
    norms = ",".join(f"benchmarks.people.{norm}" for norm in ("Noisy", "OpaqueState", "AssignedBuffers"))
    done = train(data_dir, tmp_path, "-m", "model.hidden=[8]", "norm=none", f"norm._target_={norms}", "probes=[]")
    assert done.returncode == 0, done.stderr
    found = {path.parent: json.loads(path.read_text())["notes"] for path in tmp_path.rglob("result.json")}
    assert sorted(len(notes) for notes in found.values()) == [0, 1, 1]
    for folder, notes in found.items():
        lines = (folder / "train.log").read_text().splitlines()
        assert sum("one by one" in line or "starts anew" in line for line in lines) == len(notes)
        assert all(any(line.endswith(note) for line in lines) for note in notes)
