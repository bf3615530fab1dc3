import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import functional

from bn_experiments.data.augmentation import Crop, Cutout, Flip, Scale, Shift
from bn_experiments.refusal import Refusal

IMAGE, SIGNAL = (3, 8, 6), (2, 9)
ALL = [
    (Crop(IMAGE, padding=3), IMAGE),
    (Flip(IMAGE), IMAGE),
    (Cutout(IMAGE, size=3), IMAGE),
    (Cutout(SIGNAL, size=3), SIGNAL),
    (Shift(SIGNAL, points=3), SIGNAL),
    (Scale(amount=0.5), SIGNAL),
    (Scale(amount=0.5), IMAGE),
]
JUST_BELOW_ONE = 1 - 2**-24  # the largest number that torch.rand draws as float32


def drawn(shape, count=64, draws=2):
    random = torch.Generator().manual_seed(0)
    return torch.randn(count, *shape, generator=random), torch.rand(count, draws, generator=random)


@pytest.mark.parametrize("padding", [1, 3, 5])
def test_a_crop_is_torchvisions_at_the_drawn_place(padding):
    x, u = drawn(IMAGE)
    changed = Crop(IMAGE, padding=padding)(x, u)
    for before, numbers, after in zip(x, u.tolist(), changed, strict=True):
        top, left = (int(number * (2 * padding + 1)) for number in numbers)
        expected = functional.crop(functional.pad(before, padding, fill=0), top, left, *IMAGE[1:])
        assert torch.equal(after, expected)


@pytest.mark.parametrize("count", range(1, 7))
def test_every_crop_is_as_probable_as_any_other(count):
    x = torch.arange(49.0).view(1, 1, 7, 7).expand(1000, -1, -1, -1) + 1
    steps = (torch.arange(1000) + 0.5) / 1000
    places = Crop((1, 7, 7), padding=count)(x, torch.stack([steps, steps], dim=1))[:, 0, 3, 3]  # the middle of each
    values, times = places.unique(return_counts=True)
    on_diagonal = 2 * count + 1 if count <= 3 else 8  # from 4 on, the middle can be outside: one more value, zero
    assert len(values) == on_diagonal
    inside = times[values > 0]
    assert inside.max() - inside.min() <= 1, "of a thousand equal steps of u"


@given(count=st.integers(1, 2**12))
@settings(deadline=None)
def test_the_largest_number_that_is_drawn_is_in_the_last_of_any_number_of_equal_parts(count):
    assert (torch.tensor(JUST_BELOW_ONE) * count).long() == count - 1


def test_a_flip_is_torchvisions_of_the_examples_with_a_number_below_one_half():
    x, u = drawn(IMAGE, draws=1)
    for before, number, after in zip(x, u, Flip(IMAGE)(x, u), strict=True):
        assert torch.equal(after, functional.hflip(before) if number < 0.5 else before)
    assert 20 < (u < 0.5).sum() < 44, "both happen"


@pytest.mark.parametrize("shape", [IMAGE, SIGNAL])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_cutout_puts_zeros_around_the_drawn_pixel_as_far_as_the_example_goes(shape, size):
    x, u = drawn(shape, draws=len(shape) - 1)
    changed = Cutout(shape, size=size)(x, u)
    for before, numbers, after in zip(x.numpy(), u.numpy(), changed.numpy(), strict=True):
        expected, hole = before.copy(), []
        for number, count in zip(numbers, shape[1:], strict=True):
            first = int(number * count) - size // 2
            hole.append(slice(max(first, 0), max(first + size, 0)))
        expected[(slice(None), *hole)] = 0
        np.testing.assert_array_equal(after, expected)


def test_a_shift_moves_a_signal_and_lets_zeros_in():
    x, u = drawn(SIGNAL, draws=1)
    shifts = set()
    for before, number, after in zip(x, u[:, 0].tolist(), Shift(SIGNAL, points=4)(x, u), strict=True):
        shift = int(number * 9) - 4
        shifts.add(shift)
        for i in range(SIGNAL[1]):
            expected = before[:, i + shift] if 0 <= i + shift < SIGNAL[1] else torch.zeros(SIGNAL[0])
            assert torch.equal(after[:, i], expected)
    assert shifts == set(range(-4, 5))


def test_a_scale_is_one_factor_for_all_of_an_example():
    x, u = drawn(IMAGE, draws=1)
    factors = Scale(amount=0.25)(x, u) / x
    torch.testing.assert_close(factors, (0.75 + 0.5 * u)[..., None, None].expand_as(x))


@pytest.mark.parametrize(("augmentation", "shape"), ALL)
def test_an_augmentation_changes_each_example_by_itself_and_leaves_what_it_is_given(augmentation, shape):
    x, u = drawn(shape, draws=augmentation.draws)
    before = x.clone()
    changed = augmentation(x, u)
    assert torch.equal(x, before)
    assert not torch.equal(changed, before)
    for i in range(len(x)):
        assert torch.equal(changed[i : i + 1], augmentation(x[i : i + 1], u[i : i + 1]))


@pytest.mark.parametrize(("augmentation", "shape"), ALL)
def test_an_augmentation_keeps_shape_type_and_device(augmentation, shape):
    for dtype, device in ((torch.float64, "cpu"), (torch.float32, "meta")):
        x = torch.zeros(4, *shape, dtype=dtype, device=device)
        changed = augmentation(x, torch.zeros(4, augmentation.draws, device=device))
        assert (changed.shape, changed.dtype, changed.device) == (x.shape, x.dtype, x.device)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Crop(SIGNAL, padding=1), "augmentation.crop: crops images, and an example is of the shape (2, 9)"),
        (lambda: Flip(SIGNAL), "augmentation.flip: flips images, and an example is of the shape (2, 9)"),
        (
            lambda: Shift(IMAGE, points=1),
            "augmentation.shift: shifts signals, and an example is of the shape (3, 8, 6)",
        ),
        (lambda: Crop(IMAGE, padding=6), "augmentation.crop.padding=6: not smaller than an example of the shape"),
        (lambda: Cutout(IMAGE, size=6), "augmentation.cutout.size=6: not smaller than an example of the shape"),
        (lambda: Shift(SIGNAL, points=9), "augmentation.shift.points=9: not smaller than an example of the shape"),
    ],
)
def test_what_does_not_fit_the_examples_is_refused(make, line):
    with pytest.raises(Refusal) as caught:
        make()
    assert str(caught.value).startswith(line)
