import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bn_experiments.config import engine, objects
from bn_experiments.probes.probe import fixed_batch
from bn_experiments.probes.samples import draw_samples
from bn_experiments.run import run

EVERY = ("activations", "classes", "gradients", "modes", "samples", "variance_by_depth")
ALL = f"probes=[{','.join(EVERY)}]"
TINY = ("model.hidden=[8,6]", "data.batch_size=50", ALL, "probes.activations.bins=7", "seed=3")
SCHEDULE = (
    "trainer.max_epochs=5",
    "probes.activations.every_n_epochs=2",
    "probes.gradients.at_start=false",
    "probes.gradients.every_n_epochs=3",
    "probes.gradients.at_end=false",
    "probes.modes.every_n_epochs=2",
    "probes.modes.at_end=false",
    "probes.samples.at_end=true",
    "probes.classes.every_n_epochs=4",
)
EPOCHS = {
    "activations": [0, 2, 4, 5],
    "classes": [4, 5],
    "gradients": [3],
    "modes": [2, 4],
    "variance_by_depth": [0, 5],
}
POINTS = ("norm_in", "norm_out", "pre_activation", "activation")
AXES = {
    "activations": ("layer", [f"hidden.{i}.{point}" for i in (0, 1) for point in POINTS]),
    "classes": ("class", list("0123456789")),
    "gradients": ("layer", [f"hidden.{i}.{part}" for i in (0, 1) for part in ("layer", "norm")] + ["output"]),
    "modes": ("split", ["train", "val", "test"]),
    "variance_by_depth": ("stage", ["x", "hidden.0", "hidden.1", "output"]),
}
IN_BOTH_MODES = ("confusion", "correct", "acc")
SHAPES = {
    "activations": {"histogram": (8, 7), "edges": (8, 8)}
    | dict.fromkeys(("mean", "variance", "percentile_15", "percentile_50", "percentile_85"), (8,)),
    "classes": {f"{mode}_mode_{q}": (10, 10)[q != "confusion" :] for mode in ("train", "eval") for q in IN_BOTH_MODES},
    "gradients": {"norm": (5,)},
    "modes": {f"{mode}_mode_{quantity}": (3,) for mode in ("train", "eval") for quantity in ("loss", "acc")},
    "variance_by_depth": {"variance": (4,)},
}


def npz(cell) -> dict[str, np.ndarray]:
    with np.load(cell.folder / "probes.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def events(cell) -> EventAccumulator:
    kinds = ("images", "histograms", "scalars", "tensors", "compressedHistograms")
    return EventAccumulator(str(cell.folder), size_guidance=dict.fromkeys(kinds, 0)).Reload()


def steps(drawn) -> list[int]:
    return [event.step for event in drawn]


@pytest.fixture
def probed(compose_cell):
    """A cell with all probes at epochs of their own."""
    cell = compose_cell("norm=bn", *TINY, *SCHEDULE)
    return cell, run(cell)


def test_readings_are_taken_by_each_probes_schedule_and_kept_with_their_labels(probed):
    arrays = npz(probed[0])
    expected = {}
    for probe, (axis, labels) in AXES.items():
        assert arrays[f"{probe}/epochs"].tolist() == EPOCHS[probe]
        assert arrays[f"{probe}/{axis}"].tolist() == labels
        expected |= {f"{probe}/epochs": (len(EPOCHS[probe]),), f"{probe}/{axis}": (len(labels),)}
        expected |= {f"{probe}/{q}": (len(EPOCHS[probe]), 2, *shape) for q, shape in SHAPES[probe].items()}
    assert {name: array.shape for name, array in arrays.items()} == expected, "(T, R, L, ...); samples has no readings"


def test_the_result_holds_the_last_reading_of_each_probe(probed):
    cell, _ = probed
    record, arrays = json.loads((cell.folder / "result.json").read_text())["probes"], npz(cell)
    assert set(record) == set(AXES)
    for probe, (_, labels) in AXES.items():
        assert set(record[probe]) == {q for q, shape in SHAPES[probe].items() if len(shape) == 1}
        for quantity, by_label in record[probe].items():
            assert list(by_label) == labels
            last = arrays[f"{probe}/{quantity}"][-1]
            assert [[by_label[label][i] for label in labels] for i in range(2)] == last.tolist()


def test_the_last_readings_are_those_of_the_saved_networks(probed):
    cell, result = probed
    splits = objects.splits(cell.config).to(torch.device("cpu"), torch.float32)
    (file,) = (cell.folder / "checkpoints").iterdir()
    replicas = engine.replicas(cell.config, splits, "cpu")
    state = torch.load(file, weights_only=True)["state_dict"]
    replicas.load_state_dict({name.removeprefix("replicas."): tensor for name, tensor in state.items()})
    x, _ = fixed_batch(splits.val, (3, 4), 200)  # there are 25: all of them
    for i in range(2):
        network = replicas.replica(i)
        h = x[i].flatten(1) @ network.hidden[0].layer.weight.T
        layer = result.probes["activations"]["mean"]["hidden.0.norm_in"][i]
        assert layer == pytest.approx(h.mean().item(), rel=1e-4, abs=1e-6)
        normalized = (h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt()
        out = normalized * network.hidden[0].norm.weight + network.hidden[0].norm.bias
        variance = result.probes["activations"]["variance"]["hidden.0.norm_out"][i]
        assert variance == pytest.approx(out.var(correction=0).item(), rel=1e-4)
        share = np.mean([result.probes["classes"]["eval_mode_correct"][name][i] for name in "0123456789"]) * 10 / 1000
        assert share == pytest.approx(result.metrics["test/acc"][i], abs=1e-6), "of the 1000 test examples"


def test_the_scores_of_evaluation_mode_are_the_trainers_own(compose_cell):
    cell = compose_cell("norm=bn", *TINY, "trainer.max_epochs=2")
    result = run(cell)
    for split in ("val", "test"):
        for quantity in ("loss", "acc"):
            found = result.probes["modes"][f"eval_mode_{quantity}"][split]
            assert found == pytest.approx(result.metrics[f"{split}/{quantity}"], rel=1e-5)


def test_tensorboard_shows_each_reading_at_its_epoch(probed):
    cell, _ = probed
    drawn, arrays = events(cell), npz(cell)
    layers = AXES["activations"][1]
    assert set(drawn.Tags()["histograms"]) == {f"activations/{layer}" for layer in layers}
    for j, layer in enumerate(layers):
        histograms = drawn.Histograms(f"activations/{layer}")
        assert steps(histograms) == EPOCHS["activations"]
        for t, event in enumerate(histograms):
            shown, counts = event.histogram_value, arrays["activations/histogram"][t, :, j].sum(0)
            assert shown.bucket == counts.tolist(), "over all replicas"
            assert shown.num == 2 * 25 * (8, 6)[j >= 4], "replicas, validation examples, units"
            edges = arrays["activations/edges"][t, 0, j].tolist()
            assert [shown.min, *shown.bucket_limit] == edges
            assert shown.max == edges[-1]
            mean = arrays["activations/mean"][t, :, j].mean()
            assert shown.sum / shown.num == pytest.approx(mean, abs=(edges[1] - edges[0]) / 2), "within half a bin"
    for probe, tags in {"gradients": "norm", "variance_by_depth": "variance"}.items():
        for j, label in enumerate(AXES[probe][1]):
            points = drawn.Scalars(f"{probe}/{label}")
            assert steps(points) == EPOCHS[probe]
            values = arrays[f"{probe}/{tags}"][:, :, j].mean(1)
            np.testing.assert_allclose([point.value for point in points], values, rtol=1e-5)
    for j, split in enumerate(AXES["modes"][1]):
        points = drawn.Scalars(f"modes/{split}/train_mode_loss")
        assert steps(points) == EPOCHS["modes"]
        np.testing.assert_allclose(
            [p.value for p in points], arrays["modes/train_mode_loss"][:, :, j].mean(1), rtol=1e-5
        )


def test_tensorboard_shows_pictures_of_the_samples_and_of_the_confusion(probed):
    drawn = events(probed[0])
    assert set(drawn.Tags()["images"]) == {"classes/confusion", "samples/training"}
    for tag, epochs in {"classes/confusion": EPOCHS["classes"], "samples/training": [0, 5]}.items():
        images = drawn.Images(tag)
        assert steps(images) == epochs
        for event in images:
            picture = Image.open(io.BytesIO(event.encoded_image_string))
            assert picture.format == "PNG"
            assert picture.size == (event.width, event.height)
            assert 200 <= min(picture.size) <= max(picture.size) <= 2000
            tones = np.unique(np.asarray(picture.convert("L")))
            assert len(tones) > 20, "something is drawn"


@pytest.mark.filterwarnings("ignore:Checkpoint directory")  # Lightning finds the one it goes on from
def test_a_cell_that_was_cut_short_has_the_same_readings_each_drawn_once(compose_cell, tmp_path):
    keys = [*TINY, *SCHEDULE, "model.dropout=0.2", "trainer.checkpoint_every_n_steps=1"]
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
    assert found["activations/epochs"].tolist() == [0, 2, 4, 5], "none is taken again"

    drawn, once = events(cut), events(whole)
    for kind, read in {"histograms": "Histograms", "images": "Images", "scalars": "Scalars"}.items():
        mine = [tag for tag in drawn.Tags()[kind] if tag.partition("/")[0] in EVERY]
        assert set(mine) == {tag for tag in once.Tags()[kind] if tag.partition("/")[0] in EVERY}
        for tag in mine:
            assert steps(getattr(drawn, read)(tag)) == steps(getattr(once, read)(tag)), tag
    assert steps(drawn.Images("samples/training")) == [0, 5]


DOUBLE = ("trainer.precision=64-true", "trainer.max_epochs=2", "norm=bn", *TINY)
COMPARED = [
    f"{probe}/{q}" for probe in AXES if probe != "modes" for q in SHAPES[probe] if q not in ("histogram", "edges")
]


def test_each_replicas_readings_are_those_of_a_run_of_its_own(compose_cell):
    together = compose_cell(*DOUBLE, "replicas=3")
    run(together)
    arrays = npz(together)
    for i in range(3):
        alone = compose_cell(*DOUBLE[:-1], f"seed={3 + i}", "replicas=1")
        run(alone)
        solo = npz(alone)
        for name in COMPARED:
            np.testing.assert_allclose(arrays[name][:, i], solo[name][:, 0], rtol=1e-5, atol=1e-9, err_msg=name)
    assert not np.allclose(arrays["gradients/norm"][:, 0], arrays["gradients/norm"][:, 1], rtol=1e-3)


def test_stacked_and_separate_replicas_give_the_same_readings(compose_cell):
    found = []
    for stacked in ("true", "false"):
        cell = compose_cell(*DOUBLE, f"trainer.stack_replicas={stacked}", "model.dropout=0.2")
        run(cell)
        found.append(npz(cell))
    for name in (*COMPARED, "activations/edges", "modes/train_mode_loss", "modes/eval_mode_acc"):
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-5, atol=1e-9, err_msg=name)


def test_the_batch_is_the_same_at_every_epoch_and_in_both_arms_and_a_replicas_own(compose_cell):
    # the variance of the input, the first stage, tells which batch it was
    inputs = []
    for norm in ("bn", "none"):
        cell = compose_cell(f"norm={norm}", *TINY, "trainer.max_epochs=2", "probes.variance_by_depth.every_n_epochs=1",
                            "probes.variance_by_depth.examples=30")  # fmt: skip
        run(cell)
        inputs.append(npz(cell)["variance_by_depth/variance"][:, :, 0])
    assert inputs[0].shape == (3, 2)
    assert (np.concatenate(inputs) == inputs[0][0]).all()
    assert inputs[0][0, 0] != inputs[0][0, 1]


def test_a_batch_is_drawn_by_the_seed_without_replacement(compose_cell):
    splits = objects.splits(compose_cell().config).to(torch.device("cpu"), torch.float32)
    x, y = fixed_batch(splits.train, (5, 6), 30)
    assert x.shape == (2, 30, 1, 40)
    everything, labels = splits.train.slice(0, 225)
    for i in range(2):
        distances = torch.cdist(x[i].flatten(1), everything.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
        taken = distances.argmin(1)
        assert torch.equal(everything[taken], x[i])
        assert torch.equal(labels[taken], y[i])
        assert len(set(taken.tolist())) == 30
    alone, _ = fixed_batch(splits.train, (6,), 30)
    assert torch.equal(alone[0], x[1]), "whatever the other replicas are"
    assert not torch.equal(x[0], x[1])
    assert fixed_batch(splits.train, (5,), 1000)[0].shape == (1, 225, 1, 40), "all there are"


def test_numbers_of_a_replica_that_diverged_are_null_where_they_are_not_finite(compose_cell):
    cell = compose_cell("norm=none", *TINY, "optimizer.lr=1e6", "trainer.max_epochs=2", "model.hidden=[100,100]")
    result = run(cell)
    assert result.diverged == [True, True]
    record, arrays = json.loads((cell.folder / "result.json").read_text())["probes"], npz(cell)
    for probe, quantities in record.items():
        for quantity, by_label in quantities.items():
            last = arrays[f"{probe}/{quantity}"][-1].T
            for numbers, values in zip(by_label.values(), last.tolist(), strict=True):
                assert numbers == [value if np.isfinite(value) else None for value in values]
    assert record["activations"]["mean"]["hidden.1.activation"] == [None, None]
    assert record["modes"]["eval_mode_loss"]["test"] == [None, None]
    assert None not in record["variance_by_depth"]["variance"]["x"]
    assert np.isfinite(arrays["activations/mean"][0]).all(), "before training"


def test_a_cell_of_no_epochs_measures_the_initial_networks_once(compose_cell):
    cell = compose_cell("norm=bn", *TINY, "trainer.max_epochs=0")
    run(cell)
    arrays = npz(cell)
    assert [arrays[f"{probe}/epochs"].tolist() for probe in AXES] == [[0]] * 5
    assert steps(events(cell).Images("samples/training")) == [0]
    splits = objects.splits(cell.config).to(torch.device("cpu"), torch.float32)
    initial = engine.replicas(cell.config, splits, "cpu").replica(1).train()
    x, _ = fixed_batch(splits.train, (4,), 200)
    variance = initial(x[0]).var(0, correction=0).mean().item()
    assert arrays["variance_by_depth/variance"][0, 1, -1] == pytest.approx(variance, rel=1e-4)


def test_samples_are_drawn_under_their_names_from_black_to_white():
    ramp = torch.arange(6.0).view(2, 3)
    gray, color, flat = ramp[None] - 4, torch.stack([ramp, ramp + 4, 9 - ramp]), torch.full((1, 2, 3), 7.0)
    shown = [draw_samples(image[None], ["name"]).axes[0] for image in (gray, color, flat)]
    assert [[text.get_text() for text in axes.texts] for axes in shown] == [["name"]] * 3
    pictures = [np.asarray(axes.images[0].get_array()) for axes in shown]
    np.testing.assert_allclose(pictures[0], ramp / 5, rtol=1e-6)
    np.testing.assert_allclose(pictures[1], torch.stack([ramp, ramp + 4, 9 - ramp], dim=-1) / 9, rtol=1e-6)
    assert (pictures[2] == 0).all(), "nothing to scale"


def test_signals_are_drawn_a_line_a_channel_each_example_in_its_own_cell():
    (axes,) = draw_samples(torch.arange(60.0).view(6, 2, 5), list("abcdef"), columns=4).axes
    assert [text.get_text() for text in axes.texts] == list("abcdef")
    assert len(axes.lines) == 6 * 2
    for i in range(6):
        low, high = np.stack([line.get_xydata() for line in axes.lines[2 * i : 2 * i + 2]]).reshape(-1, 2)[[0, -1]]
        column, row = i % 4, i // 4
        assert column <= low[0] < high[0] < column + 1
        assert -row - 1 <= low[1] < high[1] < -row
        np.testing.assert_allclose(np.diff(axes.lines[2 * i].get_ydata()), 0.88 / 9, rtol=1e-5)
