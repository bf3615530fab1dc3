import copy

import pytest
import torch
from torch import nn

from bn_experiments.norms.slot import Slot, norms_of
from bn_experiments.norms.weight import weight_norm

BATCH_NORM = {"target": "torch.nn.BatchNorm{dim}d", "eps": 1e-5, "momentum": 0.1, "affine": True}
PLACE = {"placement": "pre", "bias": "auto", "scale_init": "ones", "layers": "all"}


class Doubling(nn.Module):
    """A norm of a user's own: not one of ours, found by its import path."""

    def __init__(self, num_features: int, strength: float = 1.0):
        super().__init__()
        self.num_features = num_features
        self.strength = strength

    def forward(self, x):
        return 2 * self.strength * x


def slot(**changes) -> Slot:
    return Slot(**{**BATCH_NORM, **PLACE, **changes})


def names(layer: nn.Sequential) -> list[str]:
    return [name for name, _ in layer.named_children()]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Linear(3, 4), nn.BatchNorm1d),
        (nn.Conv1d(3, 4, 5), nn.BatchNorm1d),
        (nn.Conv2d(3, 4, 5), nn.BatchNorm2d),
    ],
)
def test_slot_picks_torchs_class_by_the_layers_dimension(layer, expected):
    norm = slot().around(layer, nn.ReLU()).norm
    assert type(norm) is expected
    assert norm.num_features == 4


def test_placement_decides_the_order_and_never_the_names():
    pre = slot().around(nn.Linear(3, 4), nn.ReLU())
    post = slot(placement="post").around(nn.Linear(3, 4), nn.ReLU())
    assert names(pre) == ["layer", "norm", "activation"]
    assert names(post) == ["layer", "activation", "norm"]
    none = slot(target=None).around(nn.Linear(3, 4), nn.ReLU())
    assert names(none) == ["layer", "activation"]


def test_a_layer_with_its_slot_computes_what_its_parts_compute():
    linear, x = nn.Linear(3, 4), torch.randn(8, 3)
    pre = slot(bias="keep").around(linear, nn.Tanh())
    mean, variance = linear(x).mean(0), linear(x).var(0, unbiased=False)
    expected = torch.tanh((linear(x) - mean) / torch.sqrt(variance + 1e-5))
    torch.testing.assert_close(pre(x), expected)


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, False),
        ({"bias": "keep"}, True),
        ({"placement": "post"}, True),  # the layer feeds the activation, not the norm
        ({"affine": False}, True),  # the norm has no shift of its own
        ({"target": None}, True),
        ({"target": "bn_experiments.norms.rms.RMSNorm", "momentum": None}, True),  # a scale, no shift
    ],
)
def test_auto_drops_the_bias_only_where_the_norm_has_a_shift(changes, kept):
    if "RMSNorm" in (changes.get("target") or ""):
        changed = Slot(changes["target"], **PLACE, over="example", eps=1e-5, affine=True)
    else:
        changed = slot(**changes)
    assert (changed.around(nn.Linear(3, 4), nn.ReLU()).layer.bias is not None) == kept


def test_layers_says_which_layers_get_the_norm():
    conv, linear = nn.Conv1d(1, 4, 3), nn.Linear(3, 4)
    assert [slot(layers="conv").fill(layer) is not None for layer in (conv, linear)] == [True, False]
    assert [slot(layers="linear").fill(layer) is not None for layer in (conv, linear)] == [False, True]
    assert "norm" not in names(slot(layers="conv").around(linear, nn.ReLU()))


def test_weight_norm_keeps_the_function_and_splits_length_from_direction():
    linear, x = nn.Linear(3, 4), torch.randn(8, 3)
    expected = linear(x).relu()
    layer = Slot("bn_experiments.norms.weight.weight_norm", **PLACE).around(linear, nn.ReLU())
    torch.testing.assert_close(layer(x), expected)
    assert names(layer) == ["layer", "activation"]


@pytest.mark.parametrize("layer", [nn.Linear(3, 4), nn.Conv1d(3, 4, 5), nn.Conv2d(3, 4, 5)])
def test_weight_norm_equals_torchs_in_its_parts_and_gradients(layer):
    ours, theirs = copy.deepcopy(layer), nn.utils.parametrizations.weight_norm(copy.deepcopy(layer))
    weight_norm(ours)
    for one in (ours, theirs):
        (one.weight * torch.arange(one.weight.numel()).view_as(one.weight)).sum().backward()
    torch.testing.assert_close(ours.weight, theirs.weight)
    for a, b in zip(ours.parametrizations.parameters(), theirs.parametrizations.parameters(), strict=True):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)


def test_a_users_class_is_found_by_its_path_and_given_the_width_and_its_options():
    own = Slot("tests.norms.test_slot.Doubling", **PLACE, strength=3.0)
    layer = own.around(nn.Linear(3, 4), nn.Identity())
    assert layer.norm.num_features == 4
    x = torch.randn(2, 3)
    torch.testing.assert_close(layer(x), 6 * layer.layer(x))


def test_layer_norm_as_one_group_equals_torchs_layer_norm():
    x = torch.randn(5, 6)
    norm = Slot("torch.nn.GroupNorm", **PLACE, num_groups=1, eps=1e-5, affine=True).make(6, dim=1)
    torch.testing.assert_close(norm(x), nn.LayerNorm(6)(x))
    images = torch.randn(5, 6, 3, 3)
    torch.testing.assert_close(norm(images), nn.LayerNorm([6, 3, 3])(images))


def test_groups_that_do_not_divide_the_width_are_refused_with_those_that_do():
    with pytest.raises(ValueError, match=r"norm\.num_groups=4.*allowed: 1, 2, 3, 6"):
        Slot("torch.nn.GroupNorm", **PLACE, num_groups=4, eps=1e-5, affine=True).make(6, dim=1)


def test_a_target_that_cannot_be_imported_is_named():
    with pytest.raises(ValueError, match=r"norm\._target_=torch\.nn\.NoSuchNorm: there is no NoSuchNorm in torch\.nn"):
        slot(target="torch.nn.NoSuchNorm").make(4, dim=1)


def test_norms_of_lists_the_norms_in_order_of_depth():
    network = nn.Sequential(slot().around(nn.Linear(2, 3), nn.ReLU()), slot().around(nn.Linear(3, 4), nn.ReLU()))
    found = norms_of(network)
    assert list(found) == ["0.norm", "1.norm"]
    assert [norm.num_features for norm in found.values()] == [3, 4]
