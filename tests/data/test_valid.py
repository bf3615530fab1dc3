import pytest
import torch

from bn_experiments.config import objects
from bn_experiments.config.check import check
from bn_experiments.data.sources import Source
from bn_experiments.data.valid import valid
from bn_experiments.refusal import Refusal

X, Y = torch.randn(6, 1, 40), torch.tensor([0, 1, 2, 0, 1, 2])
SOURCE = Source(X, Y, X[:3], Y[:3], classes=("a", "b", "c"))


def with_one(value: float) -> torch.Tensor:
    x = torch.randn(6, 1, 40)
    x[4, 0, 7] = value
    return x


@pytest.mark.parametrize(
    ("part", "value", "line"),
    [
        (
            "train_x",
            torch.randn(6, 40),
            "train_x of the shape (6, 40); allowed: (N, C, L) for signals of C channels, or",
        ),
        ("test_x", torch.randn(3, 1, 2, 5, 4), "test_x of the shape (3, 1, 2, 5, 4); allowed: (N, C, L) for signals"),
        ("train_x", torch.randn(0, 1, 40), "an empty train_x, (0, 1, 40); allowed: one example or more"),
        ("test_x", torch.randn(3, 0, 40), "an empty test_x, (3, 0, 40); allowed: one example or more"),
        (
            "train_x",
            torch.ones(6, 1, 40, dtype=torch.int64),
            "train_x of torch.int64; allowed: uint8 in 0..255, or a f",
        ),
        ("train_x", torch.ones(6, 1, 40, dtype=torch.bool), "train_x of torch.bool; allowed: uint8 in 0..255, or a fl"),
        (
            "train_x",
            torch.ones(6, 1, 40, dtype=torch.complex64),
            "train_x of torch.complex64; allowed: uint8 in 0..255",
        ),
        (
            "train_x",
            with_one(torch.nan),
            "1 of 240 values in train_x that are not finite; allowed: finite numbers; leave",
        ),
        ("train_x", with_one(-torch.inf), "1 of 240 values in train_x that are not finite; allowed: finite numbers"),
        ("train_y", torch.arange(3), "train_y of the shape (3,) for 6 examples; allowed: (6,), one label for each"),
        ("test_y", torch.zeros(3, 1).long(), "test_y of the shape (3, 1) for 3 examples; allowed: (3,), one label"),
        ("train_y", torch.zeros(6), "train_y of torch.float32; allowed: int64, int32, int16, int8, uint8; convert"),
        (
            "train_y",
            torch.zeros(6, dtype=torch.bool),
            "train_y of torch.bool; allowed: int64, int32, int16, int8, uint8",
        ),
        ("train_y", torch.zeros(6, dtype=torch.uint64), "train_y of torch.uint64; allowed: int64, int32, int16, int8"),
        (
            "train_y",
            torch.arange(1, 7),
            "labels 1 to 6 in train_y; allowed: 0 to 2, for the 3 names in classes; number",
        ),
        ("test_y", torch.tensor([0, 1, 3]), "labels 0 to 3 in test_y; allowed: 0 to 2, for the 3 names in classes"),
        ("test_y", torch.tensor([-1, 0, 1]), "labels -1 to 1 in test_y; allowed: 0 to 2, for the 3 names in classes"),
        (
            "test_x",
            torch.randn(3, 1, 39),
            "train_x of torch.float32 (1, 40) and test_x of torch.float32 (1, 39) for an",
        ),
        (
            "test_x",
            torch.ones(3, 1, 40, dtype=torch.uint8),
            "train_x of torch.float32 (1, 40) and test_x of torch.uint8",
        ),
        (
            "train_y",
            [0, 1, 2, 0, 1, 2],
            "a Source of Tensor, list, Tensor, Tensor; allowed: a bn_experiments.data.sources.So",
        ),
    ],
)
def test_what_no_model_could_train_on_as_it_was_meant_is_refused_in_one_line(part, value, line):
    with pytest.raises(Refusal) as caught:
        valid(SOURCE._replace(**{part: value}), "mine.load")
    (found,) = str(caught.value).splitlines()
    assert found.startswith(f"data: mine.load gives {line}")


@pytest.mark.parametrize("names", [(), "abc", (0, 1, 2)])
def test_classes_without_names_are_refused(names):
    with pytest.raises(Refusal) as caught:
        valid(SOURCE._replace(classes=names), "mine.load")
    allowed = "allowed: a tuple with the name of each class; name the classes"
    assert str(caught.value) == f"data: mine.load gives classes={names!r}; {allowed}"


@pytest.mark.parametrize("found", [None, tuple(SOURCE), X], ids=["nothing", "tuple", "tensor"])
def test_what_is_no_source_is_refused(found):
    with pytest.raises(Refusal) as caught:
        valid(found, "mine.load")
    got = f"data: mine.load gives a {type(found).__name__}; "
    assert str(caught.value) == f"{got}allowed: a bn_experiments.data.sources.Source of four tensors; return one"


@pytest.mark.parametrize("shape", [(40,), (4, 5)], ids=["signals", "images"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
def test_signals_and_images_of_bytes_or_floats_are_taken_as_they_are(shape, dtype):
    x, test_x = (torch.zeros(n, 1, *shape, dtype=dtype) for n in (6, 3))
    source = Source(x, Y, test_x, Y[:3], ["a", "b", "c"])
    assert all(one is other for one, other in zip(valid(source, "mine.load")[:4], source[:4], strict=True))
    assert valid(source, "mine.load").classes == ("a", "b", "c")


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8, torch.uint8])
def test_labels_of_smaller_integers_become_int64_with_the_same_numbers(dtype):
    found = valid(SOURCE._replace(train_y=Y.to(dtype)), "mine.load")
    assert found.train_y.dtype == torch.int64
    assert torch.equal(found.train_y, Y)


OWN = """
import torch
from functools import cache
from bn_experiments.data.sources import Source

@cache
def from_one(root: str) -> Source:
    x, y = torch.randn(300, 1, 40), torch.arange(300) % 10 + 1
    return Source(x, y, x, y, tuple("0123456789"))

@cache
def small(root: str) -> Source:
    x, y = torch.randn(300, 1, 40), torch.arange(300, dtype=torch.int32) % 10
    return Source(x, y, x, y, tuple("0123456789"))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "of_the_user.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_function_of_the_users_own_is_checked_before_anything_trains(own, compose_cell):
    (line,) = map(str, check(compose_cell("data._target_=of_the_user.from_one")))
    assert line == (
        "data: of_the_user.from_one gives labels 1 to 10 in train_y; allowed: 0 to 9, for the 10 names in classes; "
        "number the classes from 0, and name each in classes"
    )
    assert check(compose_cell("data._target_=of_the_user.small")) == []


def test_a_data_set_is_looked_at_once(own, compose_cell, monkeypatch):
    config = compose_cell("data._target_=of_the_user.small").config
    first = objects.source(config)
    monkeypatch.delattr("bn_experiments.data.valid._check_labels")
    assert objects.source(config) is first
