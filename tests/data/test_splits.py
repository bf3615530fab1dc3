import numpy as np
import pytest
import torch
from torchvision import transforms

from bn_experiments.data.sources import Source
from bn_experiments.data.splits import Splitting
from tests.everything import everything

OPTIONS = {
    "train_examples": None,
    "test_examples": None,
    "val_split": "tail",
    "val_fraction": 0.1,
    "split_seed": 0,
    "normalization": "none",
    "mean": 0.5,
    "std": 0.5,
}


def numbered(count=50, test=7):
    """Signals whose one value is their place in the training set, negative in the test set; labels likewise."""
    train, held_out = torch.arange(count), -1 - torch.arange(test)
    return Source(train.float().view(-1, 1, 1), train, held_out.float().view(-1, 1, 1), held_out, ("a", "b"))


def images():
    """Seeded uint8 images (3, 5, 4), each channel of another brightness."""
    rng = np.random.default_rng(0)
    train, test = (
        torch.from_numpy(rng.integers(0, (60, 160, 256), (count, 5, 4, 3), dtype=np.uint8)).permute(0, 3, 1, 2)
        for count in (30, 8)
    )
    return Source(train, torch.arange(30), test, torch.arange(8), ("a", "b"))


def cut(source, **options):
    return Splitting(**{**OPTIONS, **options}).split(source)


def places(examples):
    """Where the examples stood, told by their values and, alike, by their labels."""
    x, y = everything(examples)
    assert x.flatten().tolist() == y.tolist()
    return y.tolist()


@pytest.mark.parametrize("val_split", ["tail", "random"])
@pytest.mark.parametrize("val_fraction", [0.02, 0.1, 0.33, 0.5, 0.98])
def test_training_and_validation_split_part_the_training_set(val_split, val_fraction):
    splits = cut(numbered(), val_split=val_split, val_fraction=val_fraction)
    assert sorted(places(splits.train) + places(splits.val)) == list(range(50))
    assert len(splits.val) == round(50 * val_fraction)
    assert places(splits.test) == [-1, -2, -3, -4, -5, -6, -7]


def test_tail_validates_on_the_last_examples_in_order():
    splits = cut(numbered(), val_split="tail", val_fraction=0.2)
    assert places(splits.train) == list(range(40))
    assert places(splits.val) == list(range(40, 50))


@pytest.mark.parametrize("val_split", ["tail", "test"])
def test_test_examples_keeps_the_first_ones(val_split):
    splits = cut(numbered(), val_split=val_split, test_examples=3)
    assert places(splits.test) == [-1, -2, -3]
    assert len(splits.train) + len(splits.val) == (50 if val_split == "tail" else 53)


def test_random_shuffles_and_depends_on_split_seed_alone():
    def parts(**options):
        splits = cut(numbered(), val_split="random", val_fraction=0.2, **options)
        return places(splits.train), places(splits.val)

    assert parts() == parts() == parts(normalization="given", mean=0.0, std=1.0)
    assert parts() != parts(split_seed=1)
    assert set(parts()[1]) != set(parts(split_seed=1)[1])
    assert parts()[1] != list(range(40, 50))


def test_test_leaves_the_training_set_whole_and_validates_on_the_test_set():
    splits = cut(numbered(), val_split="test")
    assert places(splits.train) == list(range(50))
    assert places(splits.val) == places(splits.test)


@pytest.mark.parametrize("val_split", ["tail", "random", "test"])
def test_train_examples_keeps_the_first_ones_before_the_split(val_split):
    splits = cut(numbered(), train_examples=20, val_split=val_split)
    kept = places(splits.train) + (places(splits.val) if val_split != "test" else [])
    assert sorted(kept) == list(range(20))
    assert len(splits.test) == 7


@pytest.mark.parametrize(
    ("mean", "std"), [(0.5, 0.5), (0.1307, 0.3081), ([0.49, 0.48, 0.45], [0.25, 0.24, 0.26]), ([0.4], [0.3])]
)
def test_given_normalization_of_images_equals_torchvisions(mean, std):
    source = images()
    splits = cut(source, normalization="given", mean=mean, std=std).to(torch.device("cpu"), torch.float32)
    per_channel = [torch.tensor(value).flatten().expand(3).tolist() for value in (mean, std)]
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*per_channel)])
    for part, x in (
        (splits.train, source.train_x[:27]),
        (splits.val, source.train_x[27:]),
        (splits.test, source.test_x),
    ):
        expected = torch.stack([transform(image.permute(1, 2, 0).numpy()) for image in x])
        torch.testing.assert_close(everything(part)[0], expected)


def test_no_normalization_scales_images_to_the_unit_interval_and_leaves_signals_alone():
    source = images()
    splits = cut(source).to(torch.device("cpu"), torch.float32)
    expected = torch.stack([transforms.ToTensor()(image.permute(1, 2, 0).numpy()) for image in source.test_x])
    torch.testing.assert_close(everything(splits.test)[0], expected)
    torch.testing.assert_close(everything(cut(numbered()).test)[0], numbered().test_x.double(), rtol=0, atol=0)


@pytest.mark.parametrize("val_split", ["tail", "random"])
def test_train_normalization_uses_the_moments_of_the_training_split_a_channel_each(val_split):
    source = images()
    splits = cut(source, normalization="train", val_split=val_split, val_fraction=0.3)
    x = everything(splits.train)[0]
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(3, dtype=torch.float64))
    std, mean = torch.std_mean(splits.train.x.double() / 255, (0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(everything(splits.test)[0], (source.test_x.double() / 255 - mean) / std)


def test_train_normalization_of_signals_is_one_scale_for_all_positions():
    x = torch.randn(6000, 1, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 5
    splits = cut(Source(x, torch.zeros(6000).long(), x, torch.zeros(6000).long(), ("a",)), normalization="train")
    expected = (x.double() - x[:5400].double().mean()) / x[:5400].double().std(correction=0)
    torch.testing.assert_close(everything(splits.test)[0], expected)


def test_taking_equals_indexing_what_is_normalized_whole():
    splits = cut(images(), normalization="given", mean=[0.1, 0.2, 0.3], std=0.4)
    whole, labels = everything(splits.train)
    index = torch.tensor([[[3, 0], [26, 3]], [[1, 1], [2, 5]], [[9, 8], [7, 6]]])
    x, y = splits.train.take(index)
    assert torch.equal(x, whole[index])
    assert torch.equal(y, labels[index])


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"train_examples": 51}, "data.train_examples=51"),
        ({"test_examples": 21}, "data.test_examples=21"),
        ({"val_fraction": 0.001}, "data.val_fraction=0.001"),
        ({"val_fraction": 0.999}, "data.val_fraction=0.999"),
        ({"train_examples": 1, "val_fraction": 0.5}, "data.val_fraction=0.5"),
        ({"normalization": "given", "mean": [0.1, 0.2]}, "data.mean=[0.1,0.2]"),
        ({"normalization": "given", "std": [0.1, 0.2, 0.3]}, "data.std=[0.1,0.2,0.3]"),
        ({"normalization": "given", "mean": []}, "data.mean=[]"),
        ({"normalization": "given", "std": 0.0}, "data.std=0.0"),
        ({"normalization": "given", "std": -1.0}, "data.std=-1.0"),
    ],
)
def test_what_cannot_be_split_or_scaled_is_refused_with_its_key(options, key):
    with pytest.raises(ValueError, match="allowed: ") as caught:
        cut(numbered(), **options)
    assert str(caught.value).startswith(f"{key}:")


def test_a_training_split_without_spread_cannot_set_the_scale():
    flat = Source(torch.ones(9, 1, 2), torch.arange(9), torch.ones(2, 1, 2), torch.arange(2), ("a",))
    with pytest.raises(ValueError, match=r"data\.normalization"):
        cut(flat, normalization="train")
