"""Weight standardization against its formula and timm's, which is for 2-D convolutions."""

import copy
import math

import pytest
import torch
from torch import nn

from bn_experiments.norms.weight import scaled_weight_standardization, weight_standardization
from bn_experiments.refusal import Refusal

LAYERS = [nn.Linear(3, 4), nn.Conv1d(3, 4, 5), nn.Conv2d(3, 4, 5)]
EPS, GAMMA = 1e-4, 1.7


def standardized(row: list[float]) -> list[float]:
    mean = sum(row) / len(row)
    var = sum((value - mean) ** 2 for value in row) / len(row)
    return [(value - mean) / math.sqrt(var + EPS) for value in row]


@pytest.mark.parametrize("layer", LAYERS)
def test_each_row_of_the_weight_is_standardized(layer):
    plain, layer = copy.deepcopy(layer).double(), copy.deepcopy(layer).double()
    weight_standardization(layer, eps=EPS)
    for row, before in zip(layer.weight, plain.weight, strict=True):
        assert row.flatten().tolist() == pytest.approx(standardized(before.flatten().tolist()))


@pytest.mark.parametrize("layer", LAYERS)
def test_scaled_rows_have_the_length_of_gamma_times_their_gain(layer):
    plain, layer = copy.deepcopy(layer).double(), copy.deepcopy(layer).double()
    scaled_weight_standardization(layer, gamma=GAMMA, eps=EPS)
    gains = layer.parametrizations.weight.original1
    assert gains.tolist() == [1.0] * 4
    nn.init.uniform_(gains, 0.5, 1.5)
    for row, before, gain in zip(layer.weight, plain.weight, gains, strict=True):
        factor = gain.item() * GAMMA / math.sqrt(row.numel())
        expected = [factor * value for value in standardized(before.flatten().tolist())]
        assert row.flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("scaled", [False, True])
def test_weights_and_gradients_are_timms(scaled):
    layers = pytest.importorskip("timm.layers", reason="timm, which it is compared with, is not installed")
    plain, x = nn.Conv2d(3, 4, 5).double(), torch.randn(2, 3, 9, 9).double()
    if scaled:
        theirs = layers.ScaledStdConv2d(3, 4, 5, padding=0, gamma=GAMMA, eps=EPS).double()
    else:
        theirs = layers.StdConv2d(3, 4, 5, padding=0, bias=True, eps=EPS).double()
    theirs.load_state_dict(plain.state_dict(), strict=False)
    ours = copy.deepcopy(plain)
    if scaled:
        scaled_weight_standardization(ours, gamma=GAMMA, eps=EPS)
    else:
        weight_standardization(ours, eps=EPS)
    torch.testing.assert_close(ours(x), theirs(x))
    for layer in (ours, theirs):
        layer(x).sin().sum().backward()
    originals = dict(ours.parametrizations.weight.named_parameters())
    weight = originals.pop("original0" if scaled else "original")
    torch.testing.assert_close(weight.grad, theirs.weight.grad)
    if scaled:
        torch.testing.assert_close(originals["original1"].grad, theirs.gain.grad.flatten())


def test_the_gain_of_a_relu_is_that_of_the_source():
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gamma = 1.7128585504496627  # conf/norm/scaled_ws.yaml
    assert gamma == pytest.approx((2 / (1 - 1 / math.pi)) ** 0.5)
    assert (gamma * x.relu()).var().item() == pytest.approx(1, abs=4 * (4 / 1e6) ** 0.5)


@pytest.mark.parametrize("standardize", [weight_standardization, scaled_weight_standardization])
def test_one_weight_for_each_unit_is_refused_in_one_line(standardize):
    options = {"eps": EPS} | ({"gamma": GAMMA} if standardize is scaled_weight_standardization else {})
    with pytest.raises(Refusal, match="norm: Linear has one weight for each unit"):
        standardize(nn.Linear(1, 4), **options)
