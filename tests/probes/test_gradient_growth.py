"""Gradient growth: the squared gradient of linear networks by hand, and the rate that theory gives batch norm."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from bn_experiments.config.check import check
from bn_experiments.data.examples import Examples
from bn_experiments.data.splits import Splits
from bn_experiments.oracles import bn_gradient_factor
from bn_experiments.probes.gradient_growth import GradientGrowth, squared_gradients
from bn_experiments.probes.layers import outputs_of_layers, slope
from bn_experiments.run import run
from bn_experiments.training.replicas import SeparateReplicas, StackedReplicas
from tests.probes.runs import npz


def test_the_gradient_of_a_linear_network_is_that_of_its_matrices():
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Linear(a, b) for a, b in ((5, 4), (4, 6), (6, 3)))).double()
    x = torch.randn(7, 5, dtype=torch.float64)
    found = squared_gradients(network, x, torch.Generator().manual_seed(1))
    direction = torch.randn(7, 3, generator=torch.Generator().manual_seed(1)).double()
    last, middle = network[2].weight, network[1].weight
    expected = [direction @ last @ middle, direction @ last, direction]
    torch.testing.assert_close(found, torch.stack([each.square().sum() for each in expected]))


def test_an_activation_in_place_and_a_layer_that_is_called_twice_change_nothing():
    torch.manual_seed(0)
    one = nn.Linear(4, 4)
    x = torch.randn(6, 4)
    plain = squared_gradients(nn.Sequential(one, nn.ReLU(), one), x, torch.Generator().manual_seed(1))
    in_place = squared_gradients(nn.Sequential(one, nn.ReLU(inplace=True), one), x, torch.Generator().manual_seed(1))
    assert torch.equal(plain, in_place)
    assert len(plain) == 2
    with torch.no_grad():
        outputs = outputs_of_layers(nn.Sequential(one, nn.ReLU(inplace=True)), x)
    assert torch.equal(outputs[0], one(x))


def test_the_slope_is_numpys():
    values = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(slope(values), np.polyfit(np.arange(7), values.T.numpy(), 1)[0])


def growing(factor: float) -> nn.Sequential:
    """Layers that multiply a gradient by the factor on its way back, whatever it is."""
    network = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(9)))
    for layer in network:
        nn.init.eye_(layer.weight)
        layer.weight.data *= factor
    return network


@pytest.mark.parametrize("kind", [StackedReplicas, SeparateReplicas])
def test_the_rate_is_that_of_a_layer_without_those_at_the_ends(kind):
    replicas = kind([growing(factor) for factor in (2.0, 0.5, 1.0)])
    one = Examples(torch.randn(20, 1, 4), torch.zeros(20).long(), torch.ones(1, 1), torch.zeros(1, 1))
    probe = GradientGrowth(batch_size=5, skip=2)
    probe.seeds = (3, 4, 5)
    reading = probe.measure(replicas, Splits(one, one, one, ("a",)))
    assert reading.labels == [str(i) for i in range(1, 10)]
    np.testing.assert_allclose(reading.values["rate"], [2 * math.log(factor) for factor in (2.0, 0.5, 1.0)], atol=1e-6)
    torch.testing.assert_close(
        reading.values["squared_norm"][0, :-1] / reading.values["squared_norm"][0, 1:], torch.full((8,), 4.0).double()
    )
    few = GradientGrowth(batch_size=5, skip=4)
    few.seeds = (3, 4, 5)
    assert few.measure(replicas, Splits(one, one, one, ("a",))).values["rate"].isnan().all()


def test_in_a_wide_network_the_rate_of_batch_norm_is_the_oracles(compose_cell):
    keys = [
        "data=gaussian",
        "data.train_examples=null",
        "data.shape=[1,200]",
        "data.examples=200",
        "data.batch_size=32",
    ]
    keys += ["model.hidden=[200]", "model.repeat=20", "model.bias=false", "trainer.max_epochs=0"]
    keys += ["init=he_uniform", "probes=[gradient_growth]", "data.classes=200", "replicas=6"]
    for norm, expected in (("bn", math.log(bn_gradient_factor(32))), ("none", 0.0)):
        cell = compose_cell(*keys, f"norm={norm}")
        assert check(cell) == []
        run(cell)
        rates = npz(cell)["gradient_growth/rate"][0]
        assert rates.shape == (6,)
        assert abs(rates.mean() - expected) < 4 * rates.std(ddof=1) / 6**0.5 + 1 / 200  # noise, and the finite width
