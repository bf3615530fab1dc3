"""The norms of an existing network, replaced by the norm of an arm."""

import pytest
import torch
from torch import Tensor, nn

from bn_experiments.norms.places import Place, Shift
from bn_experiments.norms.slot import KEPT, Slot, norms_of
from bn_experiments.norms.surgery import replace_norms
from bn_experiments.refusal import Refusal

BN = {"eps": 1e-5, "momentum": 0.1, "affine": True}


def slot(target: str | None, **options) -> Slot:
    return Slot(target, **{"layers": "all", **options})


def operate(network: nn.Module, norm: Slot, shape=(3, 8, 8), replaces="all") -> nn.Module:
    replace_norms(network, norm, shape, replaces, "it")
    return network


def convolutional(bias: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=bias), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)
    )


def images(batch: int = 4) -> Tensor:
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_a_network_without_norms_has_a_shift_of_zeros_in_their_place():
    network = operate(convolutional(), slot(None))
    assert isinstance(network[1], Shift)
    assert not network[1].bias.any()
    assert norms_of(network) == {}
    plain = nn.Sequential(*convolutional()[:1], *convolutional()[2:])
    torch.testing.assert_close(network(images()), plain(images()), rtol=0, atol=0)


def test_the_shift_of_zeros_learns_what_the_bias_of_the_layer_would():
    one, other = operate(convolutional(bias=True), slot(None)), convolutional(bias=True)
    with torch.no_grad():
        one[1].bias.copy_(other[0].bias)
    assert one[0].bias is None  # norm.bias=auto
    torch.testing.assert_close(one(images()), nn.Sequential(other[0], *other[2:])(images()))


def test_biases_stay_where_they_are_to_be_kept():
    assert operate(convolutional(bias=True), slot(None, bias="keep"))[0].bias is not None


def test_a_norm_without_a_shift_leaves_none():
    network = convolutional()
    network[1] = nn.BatchNorm2d(8, affine=False)
    replaced = operate(network, slot(None))[1]
    x = images()
    assert torch.equal(replaced(x), x)
    assert replaced(x) is not x
    assert not list(replaced.parameters())


def test_kept_norms_are_marked_and_left():
    network = convolutional()
    norm = network[1]
    assert list(norms_of(operate(network, slot(KEPT)))) == ["1"]
    assert network[1] is norm


def test_channels_on_the_last_axis_are_normalized_as_channels():
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x)

    x = torch.randn(4, 8, 8, 3)
    network = operate(Last(), slot("torch.nn.BatchNorm{dim}d", **BN), (8, 8, 3))
    expected = (x - x.mean((0, 1, 2))) / (x.var((0, 1, 2), correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(network(x), expected)


def test_norm_dropout_and_activation_in_one_keep_what_is_no_norm():
    class BatchNormAct2d(nn.BatchNorm2d):
        def __init__(self, width: int):
            super().__init__(width)
            self.drop, self.act = nn.Identity(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.drop(super().forward(x)))

    x = images()
    network = operate(nn.Sequential(nn.Conv2d(3, 8, 3), BatchNormAct2d(8)), slot(None))
    torch.testing.assert_close(network(x), network[0](x).relu())


def test_a_shared_norm_of_two_names_is_replaced_once():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.alias = self.norm

        def forward(self, x: Tensor) -> Tensor:
            return self.alias(x)

    network = operate(Tied(), slot("torch.nn.GroupNorm", num_groups=1))
    assert isinstance(network.alias, nn.GroupNorm)
    assert network.alias is network.norm


def test_scales_start_at_one_or_as_the_removed_ones():
    def zero_scaled() -> nn.Sequential:
        network = convolutional()
        nn.init.zeros_(network[1].weight)
        return network

    gn = {"target": "torch.nn.GroupNorm", "num_groups": 2}
    assert bool((operate(zero_scaled(), slot(**gn))[1].weight == 1).all())
    assert not operate(zero_scaled(), slot(**gn, scale_init="kept"))[1].weight.any()
    notes = replace_norms(zero_scaled(), slot(None), (3, 8, 8), "all", "it")
    assert notes == ["1 of the 1 norms that were replaced had scales of zeros; norm=none has no scale"]


def test_a_parametrization_goes_on_the_layers_before_the_norms():
    network = operate(convolutional(), slot("bn_experiments.norms.weight.weight_norm"))
    assert nn.utils.parametrize.is_parametrized(network[0], "weight")
    assert not nn.utils.parametrize.is_parametrized(network[4])
    assert isinstance(network[1], Shift)


def test_a_norm_for_convolutions_leaves_tokens_without_one():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 4), nn.BatchNorm1d(4))
    operate(network, slot("torch.nn.InstanceNorm{dim}d", layers="conv", affine=True))
    assert isinstance(network[1], nn.InstanceNorm2d)
    assert isinstance(network[4], Shift)


@pytest.mark.parametrize(
    ("replaces", "replaced"), [("all", [1, 4]), ("batch", [1]), ("layer", [4]), ("4", [4]), ("*", [1, 4])]
)
def test_the_norms_that_are_replaced_can_be_chosen(replaces, replaced):
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 4), nn.LayerNorm(4))
    operate(network, slot(None), replaces=replaces)
    assert [i for i, module in enumerate(network) if isinstance(module, Shift)] == replaced


class Cosine(nn.Module):
    """Normalizes without a module."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(x, dim=1)


class Twice(nn.Module):
    """Calls a norm twice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.norm(x).relu())


REFUSED = {
    "has no norm": nn.Conv2d(3, 8, 3),
    "normalizes in 1 without a norm module (linalg_vector_norm)": nn.Sequential(nn.BatchNorm2d(3), Cosine()),
    "the norm norm of it is called more than once": Twice(),
    "it cannot take examples of shape 3x8x8": nn.Sequential(nn.BatchNorm2d(3), nn.MaxPool2d(9)),
    "does not have its channels on the first or last axis": nn.Sequential(nn.LayerNorm([8, 8])),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_replaced_is_refused_in_a_line(reason):
    with pytest.raises(Refusal) as refusal:
        operate(REFUSED[reason], slot(None))
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_pattern_of_no_norm_names_one():
    with pytest.raises(Refusal, match=r"model\.replaces=.layer1.*the first is 1"):
        operate(convolutional(), slot(None), replaces="layer1.*")


def test_norms_after_the_activation_are_refused():
    with pytest.raises(Refusal, match=r"norm\.placement=post"):
        operate(convolutional(), slot(None, placement="post"))


def test_a_norm_with_an_activation_of_its_own_is_refused():
    with pytest.raises(Refusal, match="has an activation of its own, and the network keeps its activations"):
        operate(convolutional(), slot("bn_experiments.norms.fused.EvoNormS0", num_groups=2, eps=1e-5))


class Hooked(nn.Sequential):
    """A norm whose activation is a hook."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        self[1].register_forward_hook(lambda module, inputs, output: output.relu())


class Listed(nn.Sequential):
    """A norm that is called from a plain list."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        self.norms = [self[1]]


class ActNorm(nn.BatchNorm2d):
    """A norm with an activation that is a function."""

    act = None

    def __init__(self, width: int):
        super().__init__(width)
        self.act = torch.relu


class BetaNorm(nn.Module):
    """A norm with other names for scale and shift."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * nn.functional.layer_norm(x, x.shape[-1:]) + self.beta


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Hooked(), "does more than to normalize"),
        (nn.Sequential(nn.Conv2d(3, 8, 3), ActNorm(8)), "does more than to normalize"),
        (Listed(), "is held in a list or another plain attribute too"),
    ],
)
def test_what_would_survive_or_be_lost_is_refused(network, reason):
    with pytest.raises(Refusal, match=reason):
        operate(network, slot(None))


def test_scales_and_shifts_of_other_names_count_too():
    network = nn.Sequential(nn.Linear(4, 6, bias=False), BetaNorm(6))
    notes = replace_norms(network, slot(None), (4,), "all", "it")
    assert isinstance(network[1], Shift)
    assert notes == ["1 of the 1 norms that were replaced had scales of zeros; norm=none has no scale"]


def test_settings_that_change_and_norms_that_were_frozen_are_said():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, eps=0.1)).requires_grad_(False)
    assert replace_norms(network, slot("torch.nn.BatchNorm{dim}d", **BN), (3, 8, 8), "all", "it") == [
        "norms of the same kind had eps=0.1 and have eps=1e-05 (norm.eps)",
        "1 of the 1 norms that were replaced were frozen, and those in their place are trained",
    ]


@pytest.mark.parametrize("norm_first", [True, False])
def test_torchs_transformer_gives_in_evaluation_what_its_replaced_norms_make(norm_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=norm_first)
    network = operate(layer, slot(None), (5, 8))
    x = torch.randn(3, 5, 8)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(x), network.train()(x))
    assert isinstance(network.norm1, Place)
