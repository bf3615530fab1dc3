import math

import pytest
import torch
from torch import nn

from bn_experiments.config import objects
from bn_experiments.models.branch import BranchScale, scale_of
from tests.models.test_models import splits


def network(compose_cell, *overrides, seed=0):
    return objects.initial_network(compose_cell(*overrides).config, splits((1, 40)), seed)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (3, 4, 5, 6)])
def test_a_scale_multiplies_the_whole_branch_or_each_feature(shape):
    x = torch.randn(shape)
    assert torch.equal(BranchScale(None, 0.5)(x), 0.5 * x)
    each = BranchScale(4, 1.0)
    each.weight.data = torch.arange(4.0)
    for f in range(4):
        assert torch.equal(each(x)[:, f], f * x[:, f])


@pytest.mark.parametrize(
    ("scaling", "start", "size", "value"),
    [
        ("skipinit", 0.3, 1, 0.3),
        ("skipinit", "inverse_sqrt_branches", 1, 1 / math.sqrt(9)),
        ("rezero", 0.3, 1, 0.0),
        ("layer_scale", 1e-4, 8, 1e-4),
        ("fixup", 0.3, 1, 1.0),
    ],
)
def test_scales_start_as_their_papers_have_it(scaling, start, size, value):
    scale = scale_of(scaling, start, size=8, branches=9)
    scale.weight.data.fill_(7)
    scale.reset_parameters()
    assert scale.weight.numel() == size
    assert scale.weight.eq(torch.tensor(value)).all()


@pytest.mark.parametrize("model", ["residual_mlp", "resnet", "resnet model.pre_activation=true", "transformer"])
@pytest.mark.parametrize("norm", ["none", "bn"])
def test_a_branch_scaled_by_zero_gives_nothing(compose_cell, model, norm):
    made = network(compose_cell, *f"model={model}".split(), f"norm={norm}", "model.branch_scale=rezero")
    x = torch.randn(6, 1, 40)
    before = made(x)
    changed = [module for name, module in made.named_modules() if name.endswith(("second.layer", "outputs"))]
    changed += [link.layer for link in getattr(made, "links", ())]
    for layer in changed:
        nn.init.normal_(layer.weight)
    assert changed
    torch.testing.assert_close(made(x), before)
    for scale in (module for module in made.modules() if isinstance(module, BranchScale)):
        nn.init.ones_(scale.weight)
    assert not torch.allclose(made(x), before)


@pytest.mark.parametrize("init", ["torch", "he_uniform"])
def test_fixup_starts_layers_as_its_rules_say(compose_cell, init):
    plain = network(compose_cell, "model=resnet", "norm=none", f"init={init}")
    fixup = network(compose_cell, "model=resnet", "norm=none", f"init={init}", "model.branch_scale=fixup")
    for own, drawn in zip(fixup.blocks, plain.blocks, strict=True):
        # 9 branches of m = 2 layers: 9^(-1 / 2)
        torch.testing.assert_close(own.first.layer.weight, drawn.first.layer.weight / 3)
        assert not own.second.layer.weight.any()
        assert not own.first.layer.bias.any()
        assert own.scale.weight == 1
    assert torch.equal(fixup.stem.layer.weight, plain.stem.layer.weight)
    assert not fixup.output.weight.any()
    assert not fixup.output.bias.any()
    links = network(compose_cell, "model=residual_mlp", "norm=none", "model.branch_scale=fixup").links
    assert not any(link.layer.weight.any() for link in links)


def test_a_network_that_keeps_its_own_start_keeps_that_of_fixup(compose_cell):
    made = network(compose_cell, "model=resnet", "norm=none", "init=own", "model.branch_scale=fixup")
    assert not made.blocks[3].second.layer.weight.any()
    assert made.blocks[3].first.layer.weight.abs().max() <= 1 / math.sqrt(16 * 3) / 3


def test_fixup_of_a_parametrized_weight_is_refused(compose_cell):
    line = r"model\.branch_scale=fixup: starts layers at zero, where a parametrized weight has no direction"
    with pytest.raises(ValueError, match=line):
        network(compose_cell, "model=resnet", "norm=wn", "model.branch_scale=fixup")


def test_a_norm_free_link_reads_the_trunk_at_its_expected_spread_and_adds_alpha_times_its_branch(compose_cell):
    keys = ["model=residual_mlp", "norm=none", "model.branch_scale=nf", "model.branch_scale_start=0.3", "model.links=4"]
    made = network(compose_cell, *keys, "model.activation=tanh")
    x = torch.randn(6, 1, 40)
    h = made.input(x.flatten(1))
    for i, link in enumerate(made.links):
        h = h + 0.3 * link.layer(torch.tanh(h / math.sqrt(1 + i * 0.09)))
    torch.testing.assert_close(made(x), made.output(h))
    assert not [name for name, _ in made.named_parameters() if "scale" in name], "alpha is not learned"
