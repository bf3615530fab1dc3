import pytest
import torch

from bn_experiments.data.splits import Examples, Splits
from bn_experiments.probes.classes import Classes, confusion_matrices, draw_confusion
from bn_experiments.training.replicas import SeparateReplicas


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
