import math

import pytest
import torch

from bn_experiments.norms.pointwise import DynamicErf, DynamicTanh
from tests.norms.test_batch import SHAPES, F, drawn, inputs


@pytest.mark.parametrize("shape", SHAPES)
def test_each_number_follows_the_formula_in_both_modes(shape):
    x = inputs(*shape)
    for norm in (drawn(DynamicTanh(F, alpha=0.5)), drawn(DynamicErf(F, alpha=0.5, shift=0.0))):
        alpha, shift = norm.alpha.item(), getattr(norm, "shift", torch.tensor(0.0)).item()
        bounded = math.tanh if type(norm) is DynamicTanh else math.erf
        for feature in range(F):
            gamma, beta = norm.weight[feature].item(), norm.bias[feature].item()
            expected = [gamma * bounded(alpha * value + shift) + beta for value in x[:, feature].flatten().tolist()]
            assert norm(x)[:, feature].flatten().tolist() == pytest.approx(expected)
        assert torch.equal(norm.train()(x), norm.eval()(x))


def test_slope_and_shift_start_where_they_are_told_to():
    norm = DynamicErf(F, alpha=0.7, shift=0.2)
    start = {name: parameter.clone() for name, parameter in norm.named_parameters()}
    drawn(norm).float().reset_parameters()
    assert {name: parameter.shape for name, parameter in start.items()} == {
        "alpha": (), "weight": (F,), "bias": (F,), "shift": (),
    }  # fmt: skip
    assert (start["alpha"].item(), start["shift"].item()) == pytest.approx((0.7, 0.2))
    assert all(torch.equal(parameter, start[name]) for name, parameter in norm.named_parameters())
