import math

import pytest
import torch
from torch import nn

from bn_experiments.config import objects
from bn_experiments.norms.slot import norms_of
from bn_experiments.seeds import derive
from bn_experiments.training.initialization import initialize
from tests.models.test_models import splits

NORMS = ["bn", "gn", "ln", "rms", "in", "wn"]


def network(compose_cell, seed: int, *overrides: str) -> torch.nn.Module:
    cell = compose_cell(*overrides)
    return objects.initial_network(cell.config, splits((1, 40)), seed)


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Each linear and convolutional layer's weight by name, as it acts."""
    return {name: module.weight.detach() for name, module in network.named_modules() if name.endswith(("layer", "put"))}


@pytest.mark.parametrize("init", ["torch", "he_uniform", "xavier_uniform"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("model", ["mlp", "lenet", "residual_mlp"])
@pytest.mark.few(5)
def test_arms_start_from_the_same_weights(compose_cell, model, norm, init):
    if norm == "in" and model != "lenet":
        pytest.skip("instance norm has no place in a fully connected network")
    arm = weights(network(compose_cell, 3, f"model={model}", f"norm={norm}", f"init={init}"))
    baseline = weights(network(compose_cell, 3, f"model={model}", "norm=none", f"init={init}"))
    assert list(arm) == list(baseline)
    for name, weight in baseline.items():
        torch.testing.assert_close(arm[name], weight, rtol=1e-6 if norm == "wn" else 0, atol=0)


def test_seeds_and_layers_draw_unrelated_weights(compose_cell):
    first, second = (network(compose_cell, seed, "model=residual_mlp") for seed in (0, 1))
    draws = [first.links[0].layer.weight, first.links[1].layer.weight, second.links[0].layer.weight]
    for i in range(3):
        for j in range(i):
            correlation = torch.corrcoef(torch.stack([draws[i].flatten(), draws[j].flatten()]))[0, 1]
            assert abs(correlation) < 5 / math.sqrt(draws[i].numel())


def test_torchs_own_initialization_is_what_torchs_layers_draw(compose_cell):
    layer = network(compose_cell, 0, "model=mlp", "norm=none").hidden[0].layer
    bound = 1 / math.sqrt(40)  # nn.Linear: weight and bias from U(-1/sqrt(fan_in), 1/sqrt(fan_in))
    for draw in (layer.weight, layer.bias):
        assert draw.abs().max() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize(("model", "fan_ins"), [("mlp", [40, 100]), ("lenet", [5, 30, 112, 120])])
def test_he_uniform_has_the_variance_of_its_formula_and_zero_biases(compose_cell, model, fan_ins):
    made = network(compose_cell, 0, f"model={model}", "norm=none", "init=he_uniform")
    layers = [module for name, module in made.named_modules() if name.endswith("layer")]
    for layer, fan_in in zip(layers, fan_ins, strict=True):
        count = layer.weight.numel()
        bound = math.sqrt(6 / fan_in)
        assert layer.weight.abs().max() <= bound
        # the second moment of U(-b, b) is b^2 / 3 = 2 / fan_in; its estimate's relative spread is sqrt(0.8 / n)
        assert layer.weight.square().mean().item() == pytest.approx(2 / fan_in, rel=5 * math.sqrt(0.8 / count))
        assert not layer.bias.any()


@pytest.mark.parametrize("layer", [nn.Linear(7, 5), nn.Conv1d(2, 6, 3), nn.Conv2d(2, 4, 3, bias=False)])
def test_xavier_uniform_draws_what_torch_draws_and_zero_biases(layer):
    expected = nn.init.xavier_uniform_(
        torch.empty_like(layer.weight), generator=torch.Generator().manual_seed(derive(3, "0"))
    )
    initialize(nn.Sequential(layer), 3, "xavier_uniform", "ones")
    assert torch.equal(layer.weight, expected)
    assert layer.bias is None or not layer.bias.any()


@pytest.mark.parametrize("norm", ["none", "wn"])
def test_xavier_uniform_counts_the_outputs_of_queries_keys_and_values_one_by_one(compose_cell, norm):
    made = network(compose_cell, 0, "model=transformer", f"norm={norm}", "init=xavier_uniform", "model.width=64")
    bound = math.sqrt(6 / (64 + 64))
    for weight in made.blocks[0].attention.branch.inputs.weight.detach().chunk(3):  # (D, D) each
        assert 0.98 * bound < weight.abs().max() <= bound * (1 + 1e-6)
        assert weight.square().mean().item() == pytest.approx(bound**2 / 3, rel=5 * math.sqrt(0.8 / weight.numel()))


def test_scale_init_sets_the_norms_scales_and_nothing_else(compose_cell):
    ones = network(compose_cell, 0, "norm=bn")
    half = network(compose_cell, 0, "norm=bn", "norm.scale_init=0.5")
    uniform = network(compose_cell, 0, "norm=bn", "norm.scale_init=uniform")
    for name in norms_of(ones):
        assert (ones.get_submodule(name).weight == 1).all()
        assert (half.get_submodule(name).weight == 0.5).all()
        scale = uniform.get_submodule(name).weight
        assert 0 <= scale.min() < 0.1
        assert 0.9 < scale.max() <= 1
        assert not uniform.get_submodule(name).bias.any()
    for name, weight in weights(ones).items():
        assert torch.equal(weight, weights(uniform)[name])


def test_a_scale_for_a_norm_that_has_none_is_refused(compose_cell):
    with pytest.raises(ValueError, match=r"norm\.scale_init=0\.5: the norm has no scale"):
        network(compose_cell, 0, "norm=bn", "norm.affine=false", "norm.scale_init=0.5")


def test_the_global_generator_is_given_back_as_it_was(compose_cell):
    made = network(compose_cell, 0)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    initialize(made, 0, "torch", "uniform")
    assert torch.equal(torch.rand(3), expected)
