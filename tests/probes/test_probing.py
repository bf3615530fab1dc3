import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bn_experiments.config import build, objects
from bn_experiments.config.check import check
from bn_experiments.data.examples import Examples
from bn_experiments.probes.probe import fixed_batch
from bn_experiments.probes.probing import Probing
from bn_experiments.run import run
from bn_experiments.system import interruption
from tests.everything import everything
from tests.probes.runs import (
    NAMES,
    OF_MLPS,
    SIZES,
    TINY,
    events,
    model_for,
    npz,
    refusal_of_one,
    refusals,
    saved,
    splits_of,
    steps,
)

CONF = Path(__file__).parents[2] / "conf" / "probes"
OF_WHOLE_SPLITS = [name for name in NAMES if "eval_batch_size" in (CONF / f"{name}.yaml").read_text()]

# each with the epochs that it names in a run of five
SCHEDULES = [
    ("at_start=true every_n_epochs=2 at_end=true", [0, 2, 4, 5]),
    ("at_start=false every_n_epochs=4 at_end=true", [4, 5]),
    ("at_start=false every_n_epochs=3 at_end=false", [3]),
    ("at_start=false every_n_epochs=2 at_end=false", [2, 4]),
    ("at_start=true every_n_epochs=null at_end=true", [0, 5]),
]
EVERY = [*OF_MLPS, "sizes"]
ALL = (f"probes=[{','.join(OF_MLPS)}]", SIZES)
EPOCHS = {"sizes": [0, 2, 4, 5]} | {name: SCHEDULES[i % len(SCHEDULES)][1] for i, name in enumerate(OF_MLPS)}
SCHEDULE = [
    f"probes.{name}.{setting}"
    for i, name in enumerate(OF_MLPS)
    for setting in SCHEDULES[i % len(SCHEDULES)][0].split()
]  # fmt: skip
FIVE = (*TINY, *ALL, *SCHEDULE, "trainer.max_epochs=5")


def probe_of(key: str) -> str:
    return key.partition("/")[0]


def measured(arrays: dict[str, np.ndarray]) -> list[str]:
    """What was measured of each replica: no labels, no epochs, and no counts, since a value may lie on an edge."""
    keys = [key for key, array in arrays.items() if array.dtype.kind != "U"]
    return [key for key in keys if key.partition("/")[2] not in ("epochs", "histogram")]


def test_readings_are_taken_by_each_probes_schedule_and_kept_with_their_labels(compose_cell):
    cell = compose_cell("norm=bn", *FIVE)
    run(cell)
    arrays = npz(cell)
    probes = {probe_of(key) for key in arrays}
    assert "sizes" in probes
    for probe in probes:
        assert arrays[f"{probe}/epochs"].tolist() == EPOCHS[probe]
        own = {key: array for key, array in arrays.items() if probe_of(key) == probe}
        (labels,) = [array for array in own.values() if array.dtype.kind == "U"]
        values = [array for key, array in own.items() if array.dtype.kind != "U" and not key.endswith("/epochs")]
        assert values
        for array in values:
            of_replicas = (len(EPOCHS[probe]), 2)
            assert array.shape[:3] in (of_replicas, (*of_replicas, len(labels))), "(T, R), or (T, R, L, ...)"
    own = {key: array for key, array in arrays.items() if probe_of(key) == "sizes"}
    assert own["sizes/place"].tolist() == ["x", "logits"]
    shapes = {"sizes/epochs": (4,), "sizes/place": (2,), "sizes/size": (4, 2, 2), "sizes/sizes": (4, 2, 2, 30)}
    assert {name: array.shape for name, array in own.items()} == shapes


def test_the_result_holds_the_last_reading_of_each_probe(compose_cell):
    cell = compose_cell("norm=bn", *FIVE)
    run(cell)
    record, arrays = json.loads((cell.folder / "result.json").read_text())["probes"], npz(cell)
    assert set(record) == {probe_of(key) for key in arrays}
    for probe, quantities in record.items():
        own = {key: array for key, array in arrays.items() if probe_of(key) == probe}
        (labels,) = [array.tolist() for array in own.values() if array.dtype.kind == "U"]
        due = {key.partition("/")[2] for key, a in own.items() if a.ndim == 3 and a.dtype.kind != "U"}
        assert set(quantities) == due, "those of (R, L)"
        for quantity, by_label in quantities.items():
            assert list(by_label) == labels
            last = arrays[f"{probe}/{quantity}"][-1]
            assert [[by_label[label][i] for label in labels] for i in range(2)] == last.tolist()
    assert set(record["sizes"]) == {"size"}


def test_the_last_readings_are_those_of_the_saved_networks(compose_cell):
    cell = compose_cell("norm=bn", *TINY, "probes=[]", SIZES, "trainer.max_epochs=3")
    result = run(cell)
    x, _ = fixed_batch(splits_of(cell).train, (3, 4), 30)
    for i in range(2):
        logits = saved(cell).replica(i).train()(x[i])
        assert result.probes["sizes"]["size"]["logits"][i] == pytest.approx(logits.square().mean().item(), rel=1e-4)


def test_tensorboard_shows_each_reading_at_its_epoch(compose_cell):
    cell = compose_cell("norm=bn", *TINY, "probes=[]", SIZES, "trainer.max_epochs=5")
    run(cell)
    drawn, arrays = events(cell), npz(cell)
    for j, place in enumerate(("x", "logits")):
        points = drawn.Scalars(f"sizes/{place}")
        assert steps(points) == [0, 2, 4, 5]
        np.testing.assert_allclose([p.value for p in points], arrays["sizes/size"][:, :, j].mean(1), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Checkpoint directory")  # Lightning finds the one it goes on from
def test_a_cell_that_was_cut_short_has_the_same_readings_each_drawn_once(compose_cell, tmp_path):
    keys = [*FIVE, "model.dropout=0.2", "trainer.checkpoint_every_n_steps=1"]
    whole, cut = (compose_cell(*keys, f"paths.output_dir={tmp_path / name}") for name in ("whole", "cut"))
    expected = run(whole)

    from bn_experiments.data import batches

    original, trained = batches.Blocks.order, []

    def power_cut(self, epoch):
        trained.append(epoch)
        if len(trained) == 4:
            raise OSError("power cut")
        return original(self, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches.Blocks, "order", power_cut)
        with pytest.raises(OSError, match="power cut"):
            run(cut)
        result = run(cut)
    assert trained == [0, 1, 2, 3, 3, 4], "the fourth epoch was lost"
    assert result.probes == expected.probes
    found, uncut = npz(cut), npz(whole)
    assert list(found) == list(uncut)
    for name, array in uncut.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert found["sizes/epochs"].tolist() == [0, 2, 4, 5], "none is taken again"

    drawn, once = events(cut), events(whole)
    for kind, read in {"histograms": "Histograms", "images": "Images", "scalars": "Scalars"}.items():
        mine = [tag for tag in drawn.Tags()[kind] if probe_of(tag) in EVERY]
        assert set(mine) == {tag for tag in once.Tags()[kind] if probe_of(tag) in EVERY}
        for tag in mine:
            own = steps(getattr(drawn, read)(tag))
            assert own == steps(getattr(once, read)(tag)), tag
            assert own == EPOCHS[probe_of(tag)], tag


@pytest.mark.parametrize("probe", OF_WHOLE_SPLITS)
@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.few(4)
def test_a_signal_ends_a_reading_which_is_taken_when_the_run_goes_on(compose_cell, tmp_path, probe, at):
    keys = [*TINY, "norm=bn", "model.dropout=0.2", "scheduler=exponential", "trainer.max_epochs=2", f"probes=[{probe}]"]
    keys += [f"probes.{probe}.{key}" for key in ("at_start=true", "every_n_epochs=1", "eval_batch_size=100")]
    whole, cut = (compose_cell(*keys, f"paths.output_dir={tmp_path / name}") for name in ("whole", "cut"))
    expected, measure, normalize, batches = run(whole), Probing._measure, Examples.normalize, []

    def counted(self, x):
        batches.append(x)
        if len(batches) == 2:
            signal.raise_signal(signal.SIGTERM)
        return normalize(self, x)

    def measured_at(probing, *given):
        with pytest.MonkeyPatch.context() as patch:
            if probing.epoch == at:
                patch.setattr(Examples, "normalize", counted)
            measure(probing, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Probing, "_measure", measured_at)
        with pytest.raises(interruption.Interrupted), interruption.listening(), interruption.deferred():
            run(cut)
    assert len(batches) == 2, "no batch after the signal"
    result = run(cut)
    assert (result.metrics, result.probes) == (expected.metrics, expected.probes)
    found, uncut = npz(cut), npz(whole)
    assert list(found) == list(uncut)
    for name, array in uncut.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


DOUBLE = ("trainer.precision=64-true", "trainer.max_epochs=2", "norm=bn", *TINY[:-1], *ALL)


def test_each_replicas_readings_are_those_of_a_run_of_its_own(compose_cell):
    together = compose_cell(*DOUBLE, "seed=3", "replicas=3")
    run(together)
    arrays = npz(together)
    for i in range(3):
        alone = compose_cell(*DOUBLE, f"seed={3 + i}", "replicas=1")
        run(alone)
        solo = npz(alone)
        for name in measured(arrays):
            np.testing.assert_allclose(arrays[name][:, i], solo[name][:, 0], rtol=1e-5, atol=1e-9, err_msg=name)
    assert not np.allclose(arrays["sizes/size"][:, 0], arrays["sizes/size"][:, 1], rtol=1e-3)


def test_stacked_and_separate_replicas_give_the_same_readings(compose_cell):
    found = []
    for stacked in ("true", "false"):
        cell = compose_cell(*DOUBLE, "seed=3", f"trainer.stack_replicas={stacked}", "model.dropout=0.2")
        run(cell)
        found.append(npz(cell))
    for name in measured(found[0]):
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-5, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("stacked", ["true", "false"])
@pytest.mark.few(1)
def test_measuring_changes_nothing_of_what_is_trained(compose_cell, tmp_path, stacked):
    keys = ["norm=bn", "model.dropout=0.2", "trainer.max_epochs=3", "data.batch_size=50", "optimizer=adam"]
    keys += [f"trainer.stack_replicas={stacked}", "model.hidden=[20]"]
    often = [*ALL, *(f"probes.{name}.every_n_epochs=1" for name in EVERY)]
    metrics, states = [], []
    for name, probes in {"with": often, "without": ["probes=[]"]}.items():
        cell = compose_cell(*keys, *probes, f"paths.output_dir={tmp_path / name}")
        result = run(cell)
        assert ("sizes" in result.probes) == (name == "with")
        assert set(result.probes) <= (set(EVERY) if name == "with" else set())
        (file,) = (cell.folder / "checkpoints").iterdir()
        checkpoint = torch.load(file, weights_only=True)
        metrics.append(result.metrics)
        states.append({**checkpoint["state_dict"], **_flat(checkpoint["optimizer_states"])})
    assert metrics[0] == metrics[1]
    assert any("running_mean" in name for name in states[0])
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def _flat(optimizer_states: list[dict]) -> dict[str, Tensor]:
    return {
        f"{part}.{i}.{key}": torch.as_tensor(value)
        for part, optimizer in enumerate(optimizer_states)
        for i, state in optimizer["state"].items()
        for key, value in state.items()
    }


def test_the_batch_is_the_same_at_every_epoch_and_in_both_arms_and_a_replicas_own(compose_cell):
    # the sizes of the inputs tell which batch it was
    inputs = []
    for norm in ("bn", "none"):
        cell = compose_cell(f"norm={norm}", *TINY, "probes=[]", SIZES, "trainer.max_epochs=2",
                            "probes.sizes.every_n_epochs=1")  # fmt: skip
        run(cell)
        inputs.append(npz(cell)["sizes/sizes"][:, :, 0])
    assert inputs[0].shape == (3, 2, 30)
    assert (np.concatenate(inputs) == inputs[0][0]).all()
    assert inputs[0][0, 0].tolist() != inputs[0][0, 1].tolist()


def test_a_batch_is_drawn_by_the_seed_without_replacement(compose_cell):
    splits = objects.splits(compose_cell().config).to(torch.device("cpu"), torch.float32)
    x, y = fixed_batch(splits.train, (5, 6), 30)
    assert x.shape == (2, 30, 1, 40)
    whole, labels = everything(splits.train)
    for i in range(2):
        distances = torch.cdist(x[i].flatten(1), whole.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
        taken = distances.argmin(1)
        assert torch.equal(whole[taken], x[i])
        assert torch.equal(labels[taken], y[i])
        assert len(set(taken.tolist())) == 30
    alone, _ = fixed_batch(splits.train, (6,), 30)
    assert torch.equal(alone[0], x[1]), "whatever the other replicas are"
    assert not torch.equal(x[0], x[1])
    assert fixed_batch(splits.train, (5,), 1000)[0].shape == (1, 225, 1, 40), "all there are"


def test_numbers_of_a_replica_that_diverged_are_null_where_they_are_not_finite(compose_cell):
    wild = ["optimizer.lr=1e6", "trainer.max_epochs=2", "model.hidden=[100,100]"]
    cell = compose_cell("norm=none", *TINY, *ALL, *wild)
    result = run(cell)
    assert result.diverged == [True, True]
    record, arrays = json.loads((cell.folder / "result.json").read_text())["probes"], npz(cell)
    for probe, quantities in record.items():
        for quantity, by_label in quantities.items():
            last = arrays[f"{probe}/{quantity}"][-1].T
            for numbers, values in zip(by_label.values(), last.tolist(), strict=True):
                assert numbers == [value if np.isfinite(value) else None for value in values]
    assert record["sizes"]["size"]["logits"] == [None, None]
    assert None not in record["sizes"]["size"]["x"]
    assert np.isfinite(arrays["sizes/size"][0]).all(), "before training"


def test_a_cell_of_no_epochs_measures_the_initial_networks_once(compose_cell):
    cell = compose_cell("norm=bn", *TINY, *ALL, "trainer.max_epochs=0")
    run(cell)
    arrays = npz(cell)
    assert "sizes/epochs" in arrays
    for key, array in arrays.items():
        if key.endswith("/epochs"):
            assert array.tolist() == [0]
    splits = splits_of(cell)
    initial = build.replicas(cell.config, splits, "cpu").replica(1).train()
    x, _ = fixed_batch(splits.train, (4,), 30)
    size = initial(x[0]).square().mean().item()
    assert arrays["sizes/size"][0, 1, -1] == pytest.approx(size, rel=1e-4)


def test_a_probe_that_asks_for_a_batch_of_one_is_refused_where_the_norm_needs_two(compose_cell):
    one = ["probes=[]", SIZES, "probes.sizes.examples=1"]
    assert refusals(compose_cell("norm=bn", *one)) == [refusal_of_one("probes.sizes.examples", 1, "train", 225)]
    assert refusals(compose_cell("norm=ln", *one)) == []
    assert refusals(compose_cell("norm=bn", "probes=[]", SIZES, "probes.sizes.examples=2")) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_probe_is_right_as_its_file_sets_it(compose_cell, name):
    assert check(compose_cell("norm=bn", f"probes=[{name}]", *model_for(name))) == []


@pytest.mark.slow
def test_a_norm_that_knows_the_mode_by_gradients_reads_as_one_that_knows_it_by_its_flag(compose_cell):
    readings = []
    for norm in ("Textbook", "AssignedBuffers"):
        own = ["norm=none", f"norm._target_=benchmarks.people.{norm}", f"name={norm}", "trainer.stack_replicas=false"]
        fit = [name for name in OF_MLPS if not check(compose_cell(*own, *TINY, f"probes=[{name}]"))]
        assert len(fit) > len(OF_MLPS) / 2, "some may refuse a norm with a rule of its own"
        readings.append(run(compose_cell(*own, *TINY, f"probes=[{','.join(fit)}]")).probes)
    assert readings[0] == readings[1]
