"""Networks of torchvision, of timm and of one's own, with the norm of an arm in place of theirs."""

import copy
import importlib.util
import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bn_experiments.models.existing.network import Existing, count_draws
from bn_experiments.models.existing.sources import of_timm, of_torchvision, own
from bn_experiments.models.existing.stem import keep_size
from bn_experiments.models.hidden import Dropout
from bn_experiments.norms.kinds import IS_NORM
from bn_experiments.norms.slot import KEPT, Slot, norms_of
from bn_experiments.refusal import Refusal
from bn_experiments.training.replicas import StackedReplicas

FAMILIES = {  # one network of each of torchvision's families with a norm, and the number of its norms
    "resnet18": 20,
    "resnext50_32x4d": 53,
    "wide_resnet50_2": 53,
    "vgg11_bn": 8,
    "densenet121": 121,
    "googlenet": 57,
    "inception_v3": 94,
    "mobilenet_v2": 52,
    "mobilenet_v3_small": 34,
    "shufflenet_v2_x0_5": 56,
    "mnasnet0_5": 52,
    "regnet_y_400mf": 53,
    "efficientnet_b0": 49,
    "efficientnet_v2_s": 110,
    "convnext_tiny": 23,
    "vit_b_16": 25,
    "swin_t": 29,
    "maxvit_t": 79,
}
SMALL = ["resnet18", "vgg11_bn", "mobilenet_v3_small", "shufflenet_v2_x0_5", "convnext_tiny"]
QUICK = ["resnet18", "convnext_tiny", "vit_tiny_patch16_224"]
TIMM = ["resnet10t", "vit_tiny_patch16_224", "convnext_atto", "efficientnet_b0", "mobilenetv3_small_050",
        "mixer_s32_224", "regnety_002", "resnetv2_18", "convmixer_768_32", "levit_128s", "ghostnet_050",
        "cait_xxs24_224", "deit_tiny_patch16_224", "poolformer_s12"]  # fmt: skip
REFUSED_BY_TIMM = {
    "swinv2_cr_tiny_224": "linalg_vector_norm",
    "nf_regnet_b0": "batch_norm",
    "repghostnet_050": "stands alone on a branch",
    "vgg11": "has no norm",
}
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch's attention in a stack


def quick_or_slow(names: Iterable[str]) -> list[Any]:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is an optional extra")
BN = Slot("torch.nn.BatchNorm{dim}d", layers="all", scale_init="kept", eps=1e-5, momentum=0.1, affine=True)
LN = Slot("torch.nn.GroupNorm", layers="all", num_groups=1, eps=1e-5, affine=True)
NONE, KEEP = Slot(None, layers="all"), Slot(KEPT, layers="all")
OPTIONS = {"replaces": "all", "small_images": False}


class Operations(TorchDispatchMode):
    """Counts the operations of torch that normalize."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if IS_NORM.search(func.name()):
            self.count[func.name()] += 1
        return func(*args, **(kwargs or {}))


def made(make: Any, name: str, norm: Slot, size: int, **options: Any) -> Existing:
    torch.manual_seed(3)
    return make((3, size, size), 10, norm, name=name, **{**OPTIONS, **options}).train()


def assert_replaced_without_numbers(make: Any, name: str, norms: int | None, size: int) -> None:
    """The network gives logits in each arm, keeps no norm under `none`, and stacks."""
    with torch.device("meta"):
        x, networks = torch.empty(2, 3, size, size), {}
        for arm, norm in {"none": NONE, "bn": BN, "ln": LN}.items():
            networks[arm] = made(make, name, norm, size)
            with Operations() as operations:
                assert networks[arm](x).shape == (2, 10)
            assert bool(operations.count) == (arm != "none"), operations.count
        names = {arm: {n for n, _ in network.named_parameters()} for arm, network in networks.items()}
        assert names["bn"] == names["ln"]
        placed = norms_of(networks["bn"])
        assert len(placed) == len(norms_of(networks["ln"])) == (norms or len(placed)) > 0
        others = {n for n in names["bn"] if n.rpartition(".")[0] not in placed}
        assert others == {n for n in names["none"] if n.rpartition(".")[0] not in placed}
        stacked = StackedReplicas([networks["bn"], made(make, name, BN, size)])
        assert stacked(torch.empty(2, 2, 3, size, size)).shape == (2, 2, 10)


def assert_equal_start(make: Any, name: str, size: int) -> None:
    """All weights beside the norms are equal in every arm, and a norm of the same kind gives the same logits."""
    kept, bn, none = (made(make, name, norm, size) for norm in (KEEP, BN, NONE))
    for norm in norms_of(kept).values():
        norm.eps = 1e-5
    x = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(5))
    own_norms = {n for n, module in norms_of(kept).items() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    if len(own_norms) == len(norms_of(kept)):
        assert torch.equal(bn.train()(x), kept.train()(x))
    weights = dict(none.named_parameters())
    for n, weight in bn.named_parameters():
        if n.rpartition(".")[0] not in norms_of(bn):
            assert torch.equal(weight, weights[n]), n
            assert torch.equal(weight, kept.get_parameter(n)), n


def assert_stacked_equals_separate(make: Any, name: str, size: int) -> None:
    torch.manual_seed(7)
    networks = [make((3, size, size), 10, BN, name=name, **OPTIONS).double().train() for _ in range(2)]
    x = torch.randn(2, 4, 3, size, size, dtype=torch.float64)
    stacked = StackedReplicas(networks)(x)
    for i, network in enumerate(networks):
        torch.testing.assert_close(stacked[i], network(x[i]), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", quick_or_slow(FAMILIES))
@pytest.mark.few(1)
def test_the_norms_of_every_family_of_torchvision_are_replaced(name):
    assert_replaced_without_numbers(of_torchvision, name, FAMILIES[name], 299 if name == "inception_v3" else 224)


@pytest.mark.parametrize("name", quick_or_slow(FAMILIES))
def test_arms_of_a_network_of_torchvision_start_equal(name):
    assert_equal_start(of_torchvision, name, {"inception_v3": 96, "maxvit_t": 224, "swin_t": 64}.get(name, 64))


@pytest.mark.parametrize("name", quick_or_slow(SMALL))
@pytest.mark.few(1)
def test_a_stack_of_a_network_of_torchvision_equals_its_replicas(name):
    assert_stacked_equals_separate(of_torchvision, name, 64)


@needs_timm
@pytest.mark.parametrize("name", quick_or_slow(TIMM))
def test_the_norms_of_networks_of_timm_are_replaced(name):
    assert_replaced_without_numbers(of_timm, name, None, 224)


@needs_timm
@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "resnetv2_18"])
@pytest.mark.few(1)
def test_arms_of_a_network_of_timm_start_equal(name):
    assert_equal_start(of_timm, name, 64)
    assert_stacked_equals_separate(of_timm, name, 64)


@needs_timm
@pytest.mark.parametrize("name", REFUSED_BY_TIMM)
def test_a_network_of_timm_that_normalizes_in_another_way_too_is_refused(name):
    with torch.device("meta"), pytest.raises(Refusal, match=REFUSED_BY_TIMM[name]):
        made(of_timm, name, BN, 256 if name == "swinv2_cr_tiny_224" else 224)


def test_activations_do_not_change_a_shortcut_in_place():
    class PreActivation(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.act, self.layer = nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Conv2d(3, 10, 4)

        def forward(self, x: Tensor) -> Tensor:
            return (self.layer(self.act(self.norm(x))) + self.layer(x)).flatten(1)

    network = Existing(PreActivation(), NONE, (3, 4, 4), "all", 3, "it")
    x = torch.randn(2, 3, 4, 4)
    layer = network.network.layer
    torch.testing.assert_close(network(x), (layer(x.relu()) + layer(x)).flatten(1))


def test_one_channel_is_given_three_times():
    network = of_torchvision((1, 32, 32), 10, KEEP, name="resnet18", **OPTIONS).eval()
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(network(x), network.network(x.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("mode", ["row", "batch"])
def test_stochastic_depth_drops_whole_examples_or_the_batch_and_keeps_the_mean(mode):
    from torchvision.ops import StochasticDepth

    network = nn.Sequential(StochasticDepth(0.4, mode))
    count_draws(network)
    x = torch.ones(1000, 2, 3)
    found = torch.stack([network.train()(x) for _ in range(200)])  # (200, B, 2, 3)
    assert found.unique().tolist() == [0.0, pytest.approx(1 / 0.6)]
    assert bool((found == found[..., :1, :1]).all()), "an example is dropped as a whole"
    assert bool((found == found[:, :1]).all()) == (mode == "batch")
    assert found.mean().item() == pytest.approx(1, abs=4 * (0.4 / 0.6 / (200 if mode == "batch" else 200_000)) ** 0.5)
    assert torch.equal(network.eval()(x), x)


def test_a_dropout_of_two_names_is_replaced_under_both():
    shared = nn.Dropout(0.5)
    network = nn.ModuleDict({"one": shared, "two": shared})
    count_draws(network)
    assert isinstance(network["one"], Dropout)
    assert network["one"] is network["two"]


def test_dropouts_without_a_draw_are_left():
    network = nn.Sequential(nn.Dropout(0.0), nn.Dropout2d(0.5))
    count_draws(network)
    assert type(network[0]) is nn.Dropout
    dropped = network[1](torch.ones(50, 8, 4, 4))
    assert isinstance(network[1], Dropout)
    assert bool((dropped == dropped[..., :1, :1]).all()), "a channel is dropped as a whole"


def test_small_images_keep_their_size_in_the_stem():
    network = of_torchvision((3, 32, 32), 10, KEEP, name="resnet18", replaces="all", small_images=True)
    shapes = []
    network.network.layer1.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    network(torch.zeros(2, 3, 32, 32))
    assert shapes == [(2, 64, 32, 32)]
    assert sum(p.numel() for p in network.parameters()) == 11_173_962  # as counted for CIFAR's ResNet-18 everywhere


def test_a_stem_that_is_small_already_is_refused():
    with pytest.raises(Refusal, match=r"model\.small_images=true"):
        keep_size(nn.Sequential(nn.Conv2d(3, 8, 3)), "it")


@pytest.mark.parametrize(
    ("make", "given", "line"),
    [
        (of_torchvision, {"name": "resnet19"}, r"model\.name=resnet19: .* did you mean resnet18\?"),
        (own, {"target": None}, r"model\.target: is missing"),
        (own, {"target": "nowhere.Net"}, r"model\.target=nowhere\.Net: cannot be imported"),
    ],
)
def test_a_network_that_there_is_not_is_refused(make, given, line):
    with pytest.raises(Refusal, match=line):
        make((3, 32, 32), 10, NONE, **given, **OPTIONS)


def small(num_classes: int, input_shape: tuple[int, ...], width: int, act: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(input_shape[0], width, 3),
        nn.BatchNorm2d(width),
        act,
        nn.Flatten(),
        nn.Linear(36 * width, num_classes),
    )


def test_a_network_of_ones_own_gets_what_it_asks_for():
    options = {**OPTIONS, "width": 5, "act": {"_target_": "torch.nn.Tanh"}}
    network = own((2, 8, 8), 7, KEEP, target=f"{__name__}.small", **options)
    assert network(torch.zeros(3, 2, 8, 8)).shape == (3, 7)
    assert isinstance(network.network[2], nn.Tanh)
    assert network.network[1].num_features == 5


def of_three_steps(bias: Any, norm: Slot) -> tuple[list[float], Tensor]:
    """The losses of three steps, and the outputs in evaluation mode after them."""
    torch.manual_seed(0)
    slot = copy.copy(norm)
    slot.bias = bias
    layers = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    network = Existing(layers, slot, (6,), "all", 6, "it").double()
    optimizer, losses = torch.optim.SGD(network.parameters(), lr=0.1), []
    for _ in range(3):
        loss = network(torch.randn(20, 6, dtype=torch.float64)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach().item())
    return losses, network.eval()(torch.ones(2, 6, dtype=torch.float64))


def test_without_the_bias_that_a_norm_cancels_training_is_the_same_and_evaluation_is_not_at_first():
    losses, evaluated = of_three_steps("auto", KEEP)
    of_keep, of_auto = (of_three_steps(bias, BN) for bias in ("keep", "auto"))
    assert of_keep[0] == losses
    assert torch.equal(of_keep[1], evaluated)
    assert of_auto[0] == pytest.approx(losses, rel=1e-12)
    assert (of_auto[1] - evaluated).detach().abs().max().item() > 1e-3


def three_channels(num_classes: int, repeats: bool) -> nn.Module:
    repeated = [Repeated()] if repeats else []
    return nn.Sequential(*repeated, nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(24, num_classes))


class Repeated(nn.Module):
    """A channel three times."""

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat(1, 3, 1)


@pytest.mark.parametrize("norm", [KEEP, NONE])
def test_a_network_of_ones_own_that_takes_three_channels_is_given_one_three_times_unless_it_does_that(norm):
    made = {}
    for repeats in (True, False):
        torch.manual_seed(0)
        made[repeats] = own((1, 8), 7, norm, target=f"{__name__}.three_channels", repeats=repeats, **OPTIONS)
    x = torch.randn(5, 1, 8)
    assert torch.equal(made[True](x), made[False](x))


@pytest.mark.parametrize("norm", [KEEP, NONE])
@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (
            lambda layer: setattr(layer, "lock", threading.Lock()),
            "model: 1, Linear, cannot be copied (cannot pickle '_thread.lock' object); allowed: a network that "
            "copy.deepcopy takes; make what cannot be copied where it is used, or give Linear a __deepcopy__",
        ),
        (
            nn.utils.weight_norm,
            "a network that copy.deepcopy takes; write torch.nn.utils.parametrizations.weight_norm for "
            "torch.nn.utils.weight_norm",
        ),
    ],
)
def test_a_network_that_cannot_be_copied_is_refused_with_the_module_that_is_the_reason(spoil, line, norm):
    network = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4))
    with warnings.catch_warnings(action="ignore"):  # that there is a newer weight_norm
        spoil(network[1])
    with pytest.raises(Refusal, match=re.escape(line)):
        Existing(network, norm, (4,), "all", 4, "it")


@pytest.mark.parametrize(("output", "name"), [(lambda x: (x, x), "tuple"), (lambda x: {"logits": x}, "dict")])
def test_a_network_that_returns_something_else_than_logits_is_refused(output, name):
    class Returning(nn.Sequential):
        def forward(self, x: Tensor) -> Any:
            return output(super().forward(x))

    network = Existing(Returning(nn.BatchNorm1d(4)), NONE, (4,), "all", 4, "it")
    line = f"model: Returning returns a {name}; allowed: logits of the shape (B, C), or an object with an attribute"
    with pytest.raises(Refusal, match=re.escape(line)):
        network(torch.zeros(3, 4))


def test_a_lazy_network_is_refused():
    with pytest.raises(Refusal, match=r"leaves the shape of 1\.weight to its first batch"):
        Existing(nn.Sequential(nn.BatchNorm1d(4), nn.LazyLinear(3)), NONE, (4,), "all", 4, "it")


def test_a_network_that_gives_an_object_with_logits_is_taken():
    class Output(dict):
        logits = property(lambda self: self["logits"])

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.MyLayerNorm = nn.LayerNorm(4)

        def forward(self, x: Tensor) -> Output:
            return Output(logits=self.MyLayerNorm(x))

    network = Existing(Wrapped(), NONE, (4,), "all", 4, "it")
    x = torch.randn(3, 4)
    assert torch.equal(network(x), x)
