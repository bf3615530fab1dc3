"""Norms with an activation of their own, against their formula and against timm's, which takes images alone."""

import pytest
import torch
from torch import nn

from bn_experiments.norms.fused import EvoNormB0, EvoNormS0, FilterResponseNorm
from bn_experiments.norms.slot import Slot
from bn_experiments.refusal import Refusal
from tests.norms.test_batch import F, drawn, inputs

PLACE = {"placement": "pre", "bias": "auto", "scale_init": "ones", "layers": "all"}
MAKE = {
    "frn": lambda: FilterResponseNorm(F, eps=1e-3),
    "s0": lambda: EvoNormS0(F, num_groups=2, eps=1e-3),
    "b0": lambda: EvoNormB0(F, momentum=0.1, eps=1e-3),
}
SHAPES = [(5, F, 3), (4, F, 3, 2)]


def by_formula(kind: str, norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The outputs of each feature of each example in training mode, one after the other."""
    y = torch.empty_like(x)
    for example in range(len(x)):
        for feature in range(F):
            own = x[example, feature]
            gamma, beta = norm.weight[feature], norm.bias[feature]
            if kind == "frn":
                z = own / (own.pow(2).mean() + 1e-3).sqrt()
                y[example, feature] = (gamma * z + beta).clamp(min=norm.threshold[feature].item())
                continue
            v = norm.v[feature]
            if kind == "s0":
                first = feature // 2 * 2
                group = x[example, first : first + 2].flatten()
                z = own * torch.sigmoid(v * own) / ((group - group.mean()).pow(2).mean() + 1e-3).sqrt()
            else:
                batch = x[:, feature].flatten()
                sd = ((batch - batch.mean()).pow(2).mean() + 1e-3).sqrt()
                z = own / torch.max(sd, v * own + ((own - own.mean()).pow(2).mean() + 1e-3).sqrt())
            y[example, feature] = gamma * z + beta
    return y


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_follow_the_formula(kind, shape):
    norm, x = drawn(MAKE[kind]()), inputs(*shape)
    torch.testing.assert_close(norm(x), by_formula(kind, norm, x).detach())


def test_evonorm_s0_takes_features_alone():
    norm, x = drawn(MAKE["s0"]()), inputs(6, F)
    torch.testing.assert_close(norm(x), by_formula("s0", norm, x[..., None]).squeeze(-1).detach())


def timms(kind: str) -> nn.Module:
    layers = pytest.importorskip("timm.layers", reason="timm, which it is compared with, is not installed")
    if kind == "frn":
        return layers.FilterResponseNormTlu2d(F, eps=1e-3)
    return layers.EvoNorm2dS0(F, groups=2, eps=1e-3) if kind == "s0" else layers.EvoNorm2dB0(F, eps=1e-3, momentum=0.1)


@pytest.mark.parametrize("kind", MAKE)
def test_outputs_gradients_and_state_are_timms(kind):
    ours, theirs = drawn(MAKE[kind]()).float(), timms(kind)
    names = {"tau": "threshold"}
    theirs.load_state_dict({own: ours.state_dict()[names.get(own, own)] for own in theirs.state_dict()})
    for step in range(3):
        one, two = ((inputs(4, F, 3, 2) + step).float().requires_grad_() for _ in range(2))
        for norm, x in ((ours, one), (theirs, two)):
            (norm(x) * inputs(4, F, 3, 2).sin()).sum().backward()
        torch.testing.assert_close(ours(one), theirs(two))
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-4, atol=1e-5)
    state = {own: ours.state_dict()[names.get(own, own)] for own in theirs.state_dict()}
    torch.testing.assert_close(state, dict(theirs.state_dict()))
    x = inputs(4, F, 3, 2).float()
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize(("kind", "shape"), [("frn", (6, F)), ("frn", (6, F, 1, 1)), ("b0", (6, F)), ("b0", (6, F, 1))])
def test_one_position_is_refused_in_one_line(kind, shape):
    with pytest.raises(Refusal, match=r"norm: gets one position of each feature, .* set norm\.layers=conv"):
        MAKE[kind]()(torch.randn(shape))


def test_a_group_of_one_value_is_refused_in_one_line():
    with pytest.raises(Refusal, match=r"norm\.num_groups=4: leaves one value in a group.* allowed: 1 to 2; lower it"):
        EvoNormS0(F, num_groups=F, eps=1e-3)(torch.randn(6, F))


S0 = {"target": "bn_experiments.norms.fused.EvoNormS0", "num_groups": 2, "eps": 1e-3}


def test_the_slot_leaves_out_the_activation_of_the_network():
    layer, x = Slot(**PLACE | S0).around(nn.Linear(3, F), nn.ReLU()), torch.randn(6, 3)
    assert [name for name, _ in layer.named_children()] == ["layer", "norm", "activation"]
    assert layer.layer.bias is None
    torch.testing.assert_close(layer(x), layer.norm(layer.layer(x)))
    assert layer(x).min() < 0


def test_where_the_norm_has_no_place_the_activation_stays():
    layer = Slot(**PLACE | S0 | {"layers": "conv"}).around(nn.Linear(3, F), nn.ReLU())
    assert isinstance(layer.activation, nn.ReLU)


def test_an_activation_that_cannot_be_left_out_is_refused_in_one_line():
    with pytest.raises(Refusal, match="EvoNormS0: has an activation of its own, and this network places"):
        Slot(**PLACE | S0).fill(nn.Linear(3, F))
    with pytest.raises(Refusal, match=r"norm\.placement=post: .*the norm has its own; allowed: pre"):
        Slot(**PLACE | S0 | {"placement": "post"}).around(nn.Linear(3, F), nn.ReLU())


def test_groups_that_do_not_divide_are_refused_with_those_that_do():
    with pytest.raises(Refusal, match=r"norm\.num_groups=3.*allowed: 1, 2, 4"):
        Slot(**PLACE | S0 | {"num_groups": 3}).make(F, dim=1)
