import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bn_experiments.claims.protocol import Published
from bn_experiments.data.splits import Splits
from bn_experiments.probes.modes import Modes
from bn_experiments.probes.modes_figures import MODES, QUANTITIES
from bn_experiments.report import words
from bn_experiments.run import run
from bn_experiments.training.replicas import StackedReplicas
from tests.probes.drawn import EPOCHS, draw, numbers
from tests.probes.runs import TINY, events, npz, refusal_of_one, refusals, steps
from tests.probes.test_scoring import by_hand, examples, networks

SPLITS = ["train", "val", "test"]
SHAPES = {f"{mode}_mode_{quantity}": (3,) for mode in ("train", "eval") for quantity in ("loss", "acc")}


def test_the_probe_scores_each_split_in_each_mode():
    made = networks(2, norm=True)
    parts = {
        name: examples(count, seed) for seed, (name, count) in enumerate({"train": 9, "val": 5, "test": 7}.items())
    }
    reading = Modes(batch_size=4, eval_batch_size=3).measure(
        StackedReplicas(copy.deepcopy(made)), Splits(**parts, classes=("a", "b", "c"))
    )
    assert (reading.axis, reading.labels) == ("split", ["train", "val", "test"])
    cuts = {"train": (0, 4, 9), "val": (0, 5), "test": (0, 4, 7)}
    for j, (name, part) in enumerate(parts.items()):
        for i, network in enumerate(made):
            norm, edges = network.norm, cuts[name]
            batches = [by_hand(network, part.x[a:b]) for a, b in pairwise(edges)]
            modes = {
                "train": torch.cat(batches),
                "eval": by_hand(network, part.x, norm.running_mean, norm.running_var),
            }
            for mode, logits in modes.items():
                loss, accuracy = (
                    reading.values[f"{mode}_mode_{quantity}"][i, j].item() for quantity in ("loss", "acc")
                )
                assert loss == pytest.approx(F.cross_entropy(logits, part.y).item(), rel=1e-5)
                assert accuracy == pytest.approx((logits.argmax(1) == part.y).double().mean().item())
    assert not torch.equal(reading.values["train_mode_loss"], reading.values["eval_mode_loss"])


def test_the_modes_agree_for_a_network_without_norm_and_dropout():
    splits = Splits(train=examples(9), val=examples(5, 1), test=examples(7, 2), classes=("a", "b", "c"))
    values = Modes(batch_size=4, eval_batch_size=9).measure(StackedReplicas(networks(2, norm=False)), splits).values
    torch.testing.assert_close(values["train_mode_loss"], values["eval_mode_loss"])
    assert torch.equal(values["train_mode_acc"], values["eval_mode_acc"])


def test_its_readings_hold_every_split_and_tensorboard_shows_their_means(compose_cell):
    schedule = ["probes.modes.every_n_epochs=2", "probes.modes.at_end=false", "trainer.max_epochs=5"]
    cell = compose_cell("norm=bn", *TINY, "probes=[modes]", *schedule)
    result = run(cell)
    arrays, drawn = npz(cell), events(cell)
    assert arrays["modes/epochs"].tolist() == [2, 4]
    assert arrays["modes/split"].tolist() == SPLITS
    assert {q: arrays[f"modes/{q}"].shape for q in SHAPES} == {q: (2, 2, *shape) for q, shape in SHAPES.items()}
    assert set(result.probes["modes"]) == set(SHAPES)
    for quantity in SHAPES:
        assert list(result.probes["modes"][quantity]) == SPLITS
        for j, split in enumerate(SPLITS):
            points = drawn.Scalars(f"modes/{split}/{quantity}")
            assert steps(points) == [2, 4]
            means = arrays[f"modes/{quantity}"][:, :, j].mean(1)
            np.testing.assert_allclose([point.value for point in points], means, rtol=1e-5)


def test_the_scores_of_evaluation_mode_are_the_trainers_own(compose_cell):
    cell = compose_cell("norm=bn", *TINY, "probes=[modes]", "trainer.max_epochs=2")
    result = run(cell)
    for split in ("val", "test"):
        for quantity in ("loss", "acc"):
            found = result.probes["modes"][f"eval_mode_{quantity}"][split]
            assert found == pytest.approx(result.metrics[f"{split}/{quantity}"], rel=1e-5)


def test_the_loss_of_a_replica_that_diverged_is_null(compose_cell):
    wild = ["optimizer.lr=1e6", "trainer.max_epochs=2", "model.hidden=[100,100]"]
    result = run(compose_cell("norm=none", "probes=[modes]", "data.batch_size=50", *wild))
    assert result.diverged == [True, True]
    assert result.probes["modes"]["eval_mode_loss"]["test"] == [None, None]


@pytest.mark.parametrize(
    ("options", "key", "value", "split", "count"),
    [
        ("probes.modes.batch_size=1", "probes.modes.batch_size", 1, "val", 25),
        ("data.train_examples=11", "probes.modes.batch_size", 100, "val", 1),
    ],
)
def test_a_batch_of_one_is_refused_where_the_norm_needs_two(compose_cell, options, key, value, split, count):
    assert refusals(compose_cell("norm=bn", "probes=[modes]", options)) == [refusal_of_one(key, value, split, count)]
    assert refusals(compose_cell("norm=ln", "probes=[modes]", options)) == []


def read(norm):
    values = numbers(norm, 6)[None]
    accuracies = {"train_mode_acc": values[..., :3], "eval_mode_acc": values[..., 3:]}
    return {"epochs": [EPOCHS], "split": SPLITS, **accuracies}


def test_the_report_draws_the_accuracies_of_both_modes(tmp_path):
    drawn = draw(tmp_path, "modes", read)
    assert set(drawn) == {"modes"}
    data = drawn["modes"].data
    for norm in ("bn", "none"):
        for mode in MODES:
            own = data[(data["arm"] == norm) & (data["mode"] == mode)]
            assert own["split"].tolist() == SPLITS
            means = 100 * read(norm)[f"{mode}_mode_acc"][-1].mean(0)
            assert own["mean"].tolist() == pytest.approx(means.tolist(), rel=1e-6)
    assert "in evaluation mode" in drawn["modes"].alt


def test_the_report_has_words_for_its_quantities():
    published = Published("bn", "modes/eval_mode_acc", label="val")
    assert words.quantity(published, QUANTITIES) == "accuracy in evaluation mode, val"
    assert set(QUANTITIES) == {f"modes/{quantity}" for quantity in SHAPES}
