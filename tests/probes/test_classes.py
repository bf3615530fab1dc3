import io

import numpy as np
import pytest
import torch
from PIL import Image

from bn_experiments.data.examples import Examples
from bn_experiments.data.splits import Splits
from bn_experiments.probes.classes import Classes, confusion_matrices, draw_confusion
from bn_experiments.run import run
from bn_experiments.training.replicas import SeparateReplicas
from tests.probes.drawn import EPOCHS, HOSTILE, REPLICAS, draw, numbers
from tests.probes.runs import TINY, events, npz, refusal_of_one, refusals, steps


def drawn(replicas: int, count: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(replicas, count, classes, generator=generator)
    return logits, torch.randint(classes, (count,), generator=generator)


def splits_of(x: torch.Tensor, y: torch.Tensor, classes: tuple[str, ...]) -> Splits:
    """Splits of which only the test set can be looked at."""
    one = torch.ones(1, 1)
    test = Examples(x[:, None], y, one, torch.zeros(1, 1))
    return Splits(train=None, val=None, test=test, classes=classes)


def test_confusion_matrices_equal_a_loop_of_counts():
    logits, y = drawn(replicas=3, count=40, classes=4)
    expected = [[[0] * 4 for _ in range(4)] for _ in range(3)]
    for replica in range(3):
        for example, label in enumerate(y.tolist()):
            scores = logits[replica, example].tolist()
            expected[replica][label][scores.index(max(scores))] += 1
    found = confusion_matrices(logits, y)
    assert found.tolist() == expected
    assert found.transpose(1, 2).tolist() != expected, "rows are the classes, columns the answers"


def test_the_rows_sum_to_the_examples_of_each_class():
    logits, y = drawn(replicas=3, count=40, classes=4)
    counts = [sum(label == i for label in y.tolist()) for i in range(4)]
    assert confusion_matrices(logits, y).sum(2).tolist() == [counts] * 3


def test_the_right_answers_are_the_diagonal_and_the_accuracy_is_their_share():
    # the logits are the input itself: the answers are 0 1 1, 1 and 2 0, where 0 0 0, 1 and 2 2 are right
    x = torch.eye(3)[[0, 1, 1, 1, 2, 0]]
    splits = splits_of(x, torch.tensor([0, 0, 0, 1, 2, 2]), ("a", "b", "c"))
    flat = SeparateReplicas([torch.nn.Flatten()])
    reading = Classes(batch_size=2, eval_batch_size=4).measure(flat, splits)
    assert (reading.axis, reading.labels) == ("class", ["a", "b", "c"])
    for mode in ("train", "eval"):
        assert reading.values[f"{mode}_mode_confusion"].tolist() == [[[1, 2, 0], [0, 1, 0], [1, 0, 1]]]
        assert reading.values[f"{mode}_mode_correct"].tolist() == [[1, 1, 1]]
        assert reading.values[f"{mode}_mode_acc"][0].tolist() == pytest.approx([1 / 3, 1, 1 / 2])


def test_training_mode_answers_by_batches_and_evaluation_mode_by_the_running_statistics():
    class Centred(torch.nn.Module):
        """Answers class 1 above the batch's mean in training mode, above zero in evaluation mode."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.flatten(1)
            x = x - x.mean(0) if self.training else x
            return torch.cat([torch.zeros_like(x), x], dim=1)

    splits = splits_of(torch.tensor([[1.0], [2.0], [8.0], [9.0]]), torch.tensor([0, 1, 0, 1]), ("low", "high"))
    values = Classes(batch_size=2, eval_batch_size=1).measure(SeparateReplicas([Centred()]), splits).values
    assert values["train_mode_confusion"].tolist() == [[[2, 0], [0, 2]]]
    assert values["eval_mode_confusion"].tolist() == [[[0, 2], [0, 2]]]


def test_a_class_without_examples_has_accuracy_zero():
    splits = splits_of(torch.eye(3)[[0, 1]], torch.tensor([0, 0]), ("a", "b", "none"))
    values = Classes(batch_size=2, eval_batch_size=2).measure(SeparateReplicas([torch.nn.Flatten()]), splits).values
    assert values["eval_mode_acc"].tolist() == [[0.5, 0.0, 0.0]]
    assert values["eval_mode_confusion"].tolist() == [[[1, 1, 0], [0, 0, 0], [0, 0, 0]]]


def test_the_picture_shows_per_cent_of_each_class_with_the_classes_in_rows():
    axes = draw_confusion(torch.tensor([[3, 1], [0, 0]]), ["left", "right"]).axes[0]
    assert axes.images[0].get_array().tolist() == [[75, 25], [0, 0]], "a class without examples has none"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("answer", "class")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["left", "right"]
    written = {text.get_position(): text.get_text() for text in axes.texts if text.get_text()}
    assert written == {(0, 0): "75", (1, 0): "25"}, "column, then row"


DIGITS = list("0123456789")
SHAPES = {f"{mode}_mode_{q}": (10,) for mode in ("train", "eval") for q in ("correct", "acc")}
SHAPES |= {f"{mode}_mode_confusion": (10, 10) for mode in ("train", "eval")}


def test_its_readings_hold_every_class_and_tensorboard_shows_the_confusion(compose_cell):
    cell = compose_cell("norm=bn", *TINY, "probes=[classes]", "probes.classes.every_n_epochs=4", "trainer.max_epochs=5")
    result = run(cell)
    arrays = npz(cell)
    assert arrays["classes/epochs"].tolist() == [4, 5]
    assert arrays["classes/class"].tolist() == DIGITS
    assert {q: arrays[f"classes/{q}"].shape for q in SHAPES} == {q: (2, 2, *shape) for q, shape in SHAPES.items()}
    assert set(arrays) == {"classes/epochs", "classes/class", *(f"classes/{q}" for q in SHAPES)}
    assert set(result.probes["classes"]) == {q for q, shape in SHAPES.items() if len(shape) == 1}
    assert all(list(by_class) == DIGITS for by_class in result.probes["classes"].values())
    for i in range(2):
        share = np.mean([result.probes["classes"]["eval_mode_correct"][name][i] for name in DIGITS]) * 10 / 1000
        assert share == pytest.approx(result.metrics["test/acc"][i], abs=1e-6), "of the 1000 test examples"
    drawn = events(cell)
    assert drawn.Tags()["images"] == ["classes/confusion"]
    images = drawn.Images("classes/confusion")
    assert steps(images) == [4, 5]
    for event in images:
        picture = Image.open(io.BytesIO(event.encoded_image_string))
        assert picture.format == "PNG"
        assert picture.size == (event.width, event.height)
        assert 200 <= min(picture.size) <= max(picture.size) <= 2000
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20, "something is drawn"


def test_a_batch_of_one_is_refused_where_the_norm_needs_two(compose_cell):
    one = ["probes=[classes]", "probes.classes.batch_size=1"]
    line = refusal_of_one("probes.classes.batch_size", 1, "test", 1000)
    assert refusals(compose_cell("norm=bn", *one)) == [line]
    assert refusals(compose_cell("norm=ln", *one)) == []
    assert refusals(compose_cell("norm=bn", "probes=[classes]", "data.train_examples=11")) == [], "one to validate"


def read(norm, classes=("cat", "dog")):
    confusion = np.tile(np.array([[80, 20], [15, 85]]), (1, REPLICAS, 1, 1)) + np.arange(REPLICAS)[:, None, None]
    right = {"eval_mode_correct": confusion.diagonal(axis1=2, axis2=3), "eval_mode_acc": numbers(norm, 2)[None]}
    return {"epochs": [EPOCHS], "class": list(classes), "eval_mode_confusion": confusion, **right}


def test_the_report_draws_the_accuracies_and_the_confusion_matrices(tmp_path):
    drawn = draw(tmp_path, "classes", read)
    assert list(drawn) == ["accuracy_by_class", "confusion"]
    for norm in ("bn", "none"):
        accuracies = drawn["accuracy_by_class"].data
        own = accuracies[accuracies["arm"] == norm]
        assert own["class"].tolist() == ["cat", "dog"]
        assert own["mean"].tolist() == pytest.approx((100 * numbers(norm, 2).mean(0)).tolist(), rel=1e-6)
        data = drawn["confusion"].data
        own = data[data["arm"] == norm]
        assert own["count"].tolist() == read(norm)["eval_mode_confusion"][-1].sum(0).flatten().tolist()
    assert "bn takes cat for dog in 21%" in drawn["confusion"].alt
    assert not drawn["confusion"].wide


def test_accuracies_of_replicas_far_apart_are_drawn_between_0_and_100_and_three_arms_take_the_whole_page(tmp_path):
    def far_apart(norm):
        return read(norm) | {"eval_mode_acc": np.resize([[0.0, 1.0], [1.0, 0.8], [1.0, 0.9]], (1, REPLICAS, 2))}

    drawn = draw(tmp_path, "classes", far_apart, norms=("bn", "gn", "none"))
    data = drawn["accuracy_by_class"].data
    assert data["low"].min() >= 0
    assert data["high"].max() == 100
    assert drawn["confusion"].wide
    assert not drawn["accuracy_by_class"].wide


def test_names_of_classes_never_become_markup_in_the_report(tmp_path):
    drawn = draw(tmp_path, "classes", lambda norm: read(norm, classes=(HOSTILE, "$x^")))
    assert not any("<script" in drawing.svg for drawing in drawn.values())
    assert HOSTILE in set(drawn["accuracy_by_class"].data["class"])


def test_a_rest_of_its_batches_that_the_norm_does_not_take_is_refused(compose_cell):
    keys = ["norm=ghost", "norm.group_size=3", "data.train_examples=120", "data.batch_size=54"]
    (line,) = refusals(compose_cell(*keys))  # 1000 test examples leave a batch of 28, and that a group of one
    assert line.startswith(
        "probes.classes.batch_size=54: makes a batch of 28 of the 1000 examples of test, which fails"
    )
