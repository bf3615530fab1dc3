"""Networks as people write them, in which a norm hides, or a bias is needed that looks redundant."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bn_experiments.models.existing.network import Existing
from bn_experiments.models.hidden import Dropout
from bn_experiments.norms.slot import KEPT, Slot
from bn_experiments.norms.surgery import replace_norms
from bn_experiments.refusal import Refusal

BN = Slot("torch.nn.BatchNorm{dim}d", layers="all", eps=1e-5, momentum=0.1, affine=True)
NONE = Slot(None, layers="all")


class Hidden(nn.Module):
    """A convolution with a norm, which is held in another place too and called from there."""

    def __init__(self, kind: str):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        norm = self.norm
        self.held: Any = {
            "pairs": [(self.conv, [norm])],
            "tables": {"a": {"n": norm}},
            "object": type("Settings", (), {})(),
            "closure": lambda x: norm(x) + 0,
        }[kind]
        if kind == "object":
            self.held.norm = norm
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        if self.kind == "pairs":
            return self.held[0][1][0](h)
        if self.kind == "tables":
            return self.held["a"]["n"](h)
        return self.held.norm(h) if self.kind == "object" else self.held(h)


class Conditional(nn.Module):
    """A norm for large batches alone."""

    def __init__(self, by_size: bool):
        super().__init__()
        self.layer, self.first, self.second = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.BatchNorm1d(5)
        self.by_size = by_size

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(self.layer(x))
        is_called = len(x) >= 16 if self.by_size else bool(x.abs().max() > 0)
        return self.second(h) if is_called else h


class SequenceFirst(nn.Module):
    """Tokens (T, B, C), as torch's transformers have them by default; 65 is the number of a CIFAR image's patches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(x.transpose(0, 1))).mean(0)


class Recomputed(nn.Module):
    """A block whose activations are not kept for the backward pass."""

    def __init__(self, reentrant: bool):
        super().__init__()
        self.layer, self.reentrant = nn.Linear(6, 5), reentrant
        self.block = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        made = checkpoint(self.block, self.layer(x), use_reentrant=self.reentrant)
        assert isinstance(made, Tensor)
        return made


@pytest.mark.parametrize("norm", [NONE, BN])
@pytest.mark.parametrize(
    ("network", "shape", "reason"),
    [
        *((Hidden(kind), (3, 8, 8), "norm of it is held") for kind in ("pairs", "tables", "object")),
        (Hidden("closure"), (3, 8, 8), "normalizes in its forward without a norm module"),  # no copy has its own
        (Conditional(by_size=True), (6,), "second of it is not called"),
        (Conditional(by_size=False), (6,), "second of it is not called"),
        (SequenceFirst(), (65, 4), "does not have the examples on the first axis"),
        (SequenceFirst(), (26, 4), "does not have the examples on the first axis"),
        (Recomputed(reentrant=True), (6,), r"computes block once more in the backward pass \(torch"),
        (Recomputed(reentrant=False), (6,), r"computes block once more in the backward pass \(torch"),
    ],
)
def test_a_norm_that_an_arm_would_not_replace_is_refused(network, shape, reason, norm):
    with pytest.raises(Refusal, match=reason):
        replace_norms(network, norm, shape, "all", "it")


def test_a_norm_that_is_never_called_may_be_left_out():
    network = Conditional(by_size=True)
    replace_norms(network, NONE, (6,), "first", "it")
    assert type(network.second) is nn.BatchNorm1d


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_dropout_that_is_computed_once_more_is_refused_with_kept_norms_too(reentrant):
    network = Existing(Recomputed(reentrant), Slot(KEPT, layers="all"), (3, 6), "all", 3, "it")
    loss = network.network(torch.randn(4, 6)).sum()
    with pytest.raises(Refusal, match="computes a dropout once more"):
        loss.backward()


class Activating(nn.Conv2d):
    """A layer that does more than its class."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


class Gated(nn.Module):
    """The layer's output is changed in place before the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.gate, self.norm = nn.Linear(6, 5), nn.Parameter(torch.rand(5)), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        h *= self.gate
        return self.norm(h)


class InPlace(nn.Module):
    """The activation before the norm overwrites the layer's output."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(6, 5), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.relu(self.layer(x), inplace=True))


class Nodes(nn.Module):
    """The norm is over nodes, (B, N, C), and the layer's biases are over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(6, 5), nn.BatchNorm1d(7)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(x))


class Reused(nn.Module):
    """The layer's parameters are used once more, without the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(6, 5), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(x)) + F.linear(x, self.layer.weight, self.layer.bias)


class Frozen(nn.Module):
    """The layer's output goes to two places, without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(6, 5), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            h = self.layer(x)
        return self.norm(h) + h.tanh()


@pytest.mark.parametrize(
    ("network", "shape", "layer"),
    [
        (nn.Sequential(Activating(3, 8, 3), nn.BatchNorm2d(8)), (3, 8, 8), "0"),
        (Gated(), (6,), "layer"),
        (InPlace(), (6,), "layer"),
        (Nodes(), (7, 6), "layer"),
        (Reused(), (6,), "layer"),
        (Frozen(), (6,), "layer"),
    ],
)
def test_a_bias_that_the_norm_does_not_cancel_stays_and_the_logits_are_those_of_the_untouched_network(
    network, shape, layer
):
    x = torch.randn(9, *shape)
    with torch.no_grad():
        network.get_submodule(layer).bias.uniform_(0.5, 1)
        expected = network.train()(x)
        replace_norms(network, BN, shape, "all", "it")
        assert network.get_submodule(layer).bias is not None
        torch.testing.assert_close(network.train()(x), expected)


def test_of_a_norm_over_several_axes_the_layer_before_it_tells_the_channels():
    network = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm((7, 5)))
    replace_norms(network, BN, (7, 6), "all", "it")
    assert network[1].norm.num_features == 5
    assert network[1].channels_last


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(5, 5), nn.Linear(5, 5), nn.BatchNorm1d(5)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.norm(self.first(x)))


def test_tied_weights_stay_tied_with_a_parametrization_too():
    network = Tied()
    wn = Slot("bn_experiments.norms.weight.weight_norm", layers="all")
    notes = replace_norms(network, wn, (5,), "all", "it")
    assert network.second.weight is network.first.weight
    assert notes == [
        "1 of the 1 norms that were replaced do not directly follow a layer with weights of its own, "
        "so nothing stands in their place"
    ]


class DropPath(nn.Module):
    """Drops examples; `p` is what people mean by it: of dropping, or of keeping."""

    keeps = False

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        kept = self.p if self.keeps else 1 - self.p
        if not self.training:
            return x * kept if self.keeps else x
        mask = torch.rand(len(x), 1) < kept
        return x * mask if self.keeps else x * mask / kept


class KeepingDropPath(DropPath):
    """The same with the other meaning."""

    keeps = True


@pytest.mark.parametrize("keeps", [True, False])
def test_a_class_named_as_stochastic_depth_is_counted_where_it_is_that(keeps):
    torch.manual_seed(0)
    assert isinstance(counted(KeepingDropPath(0.9) if keeps else DropPath(0.1)), Dropout) == (not keeps)


def counted(last: nn.Module) -> nn.Module:
    """What becomes of the last module of a network whose norms are kept."""
    network = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), last)
    made = Existing(network, Slot(KEPT, layers="all"), (3, 6), "all", 3, "it").network
    assert isinstance(made, nn.Sequential)
    return made[2]


def of_depth(mode: str, keeps: bool, block: nn.Module | None = None) -> nn.Module:
    """Stochastic depth in a class of torchvision's name."""

    class StochasticDepth(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p, self.mode = 0.2, mode
            if block:
                self.block = block

        def forward(self, x: Tensor) -> Tensor:
            own = x + self.block(x) if block else x
            kept = self.p if keeps else 1 - self.p
            if not self.training:
                return own * kept if keeps else own
            drawn = torch.rand(len(x) if mode == "row" else 1, 1) < kept
            return own * drawn if keeps else own * drawn / kept

    return StochasticDepth()


@pytest.mark.parametrize("mode", ["row", "batch"])
def test_a_class_with_torchvisions_name_is_counted_where_it_does_what_torchvisions_does(mode):
    torch.manual_seed(0)
    assert isinstance(counted(of_depth(mode, keeps=False)), Dropout)
    assert not isinstance(counted(of_depth(mode, keeps=True)), Dropout)
    holding = counted(of_depth(mode, keeps=False, block=nn.Linear(5, 5)))
    assert not isinstance(holding, Dropout)
    assert type(holding.block) is nn.Linear
    other = of_depth("batch" if mode == "row" else "row", keeps=False)
    other.mode = mode
    assert not isinstance(counted(other), Dropout), "draws for each example, and says for the batch, or the reverse"


class NamedDropPath(nn.Module):
    """Drops examples, with its probability under the name that timm gives it."""

    def __init__(self, drop_prob: float):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        kept = 1 - self.drop_prob
        return x * (torch.rand(len(x), 1) < kept) / kept if self.training else x


@pytest.mark.parametrize(
    ("made", "name"), [(NamedDropPath(0.1), "drop_prob"), (of_depth("row", keeps=False), "p"), (nn.Dropout(0.1), "p")]
)
def test_a_probability_that_a_network_changes_is_the_one_that_is_drawn_with(made, name):
    kind, calls = type(made), []
    made.register_forward_hook(lambda *_: calls.append(1))
    drops = counted(made)
    assert isinstance(drops, kind), "a network that looks for its dropouts finds them by their class"
    assert isinstance(drops, Dropout)
    x = torch.ones(4000, 5)
    for p in (0.7, 0.0, 1.0):
        setattr(drops, name, p)
        assert float((drops.train()(x) == 0).float().mean()) == pytest.approx(p, abs=0.05)
    assert len(calls) == 3, "its hooks are its own, and no trial calls them"


def test_a_dropout_with_more_of_its_own_draws_as_before():
    more = NamedDropPath(0.1)
    more.steps = 0  # such as a schedule within its forward
    assert type(counted(more)) is NamedDropPath


class ZeroCentred(nn.Module):
    """RMSNorm with 1 + w for its scale, as Gemma has it (arXiv:2403.08295)."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * (1 + self.weight)


class ZeroCentredNorm(ZeroCentred):
    """The same under a name that tells."""


def test_a_scale_around_zero_is_kept_as_what_it_multiplies_by():
    network = nn.Sequential(nn.Linear(6, 5), ZeroCentredNorm(5))
    with torch.no_grad():
        network[1].weight[0] = 0.5
    kept = Slot("torch.nn.BatchNorm{dim}d", layers="all", scale_init="kept", eps=1e-5, momentum=0.1, affine=True)
    assert replace_norms(network, kept, (6,), "all", "it") == []
    assert network[1].weight.tolist() == [1.5, 1, 1, 1, 1]


class FixedShiftNorm(nn.Module):
    """LayerNorm whose shift is a buffer of zeros, as several transformers have it."""

    beta: Tensor

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.register_buffer("beta", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.gamma, self.beta)


def test_a_shift_that_is_not_learned_leaves_none():
    network = nn.Sequential(nn.Linear(6, 5), FixedShiftNorm(5))
    replace_norms(network, NONE, (6,), "all", "it")
    assert [name for name, _ in network.named_parameters()] == ["0.weight", "0.bias"]


def test_settings_and_scales_that_norms_shared_are_said():
    network = nn.Sequential(nn.BatchNorm1d(6, affine=False, track_running_stats=False))
    assert replace_norms(network, BN, (6,), "all", "it") == [
        "norms of the same kind had affine=False and have affine=True (norm.affine)",
        "norms of the same kind had track_running_stats=False and have track_running_stats=True",
    ]
    shared = nn.Sequential(nn.BatchNorm1d(6), nn.Tanh(), nn.BatchNorm1d(6))
    shared[2].weight, shared[2].bias = shared[0].weight, shared[0].bias
    assert replace_norms(shared, BN, (6,), "all", "it") == [
        "the norms that were replaced shared 2 scales or shifts, which are now apart"
    ]
