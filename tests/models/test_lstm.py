import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bn_experiments.config import objects
from bn_experiments.config.check import check
from bn_experiments.models.lstm import LSTM
from bn_experiments.models.recurrent import time_steps
from bn_experiments.norms.slot import Slot, norms_of
from bn_experiments.training.initialization import initialize
from bn_experiments.training.replicas import StackedReplicas
from tests.models.test_models import count, linear, splits

PLACE = {"placement": "pre", "bias": "auto", "scale_init": "ones", "layers": "all"}
TARGETS = {
    "none": {"target": None},
    "bn": {"target": "torch.nn.BatchNorm{dim}d", "eps": 1e-5, "momentum": 0.1, "affine": True},
    "ln": {"target": "torch.nn.GroupNorm", "num_groups": 1, "eps": 1e-5, "affine": True},
    "gn": {"target": "torch.nn.GroupNorm", "num_groups": 2, "eps": 1e-5, "affine": True},
    "rms": {"target": "bn_experiments.norms.rms.RMSNorm", "over": "example", "eps": 1e-5, "affine": True},
    "wn": {"target": "bn_experiments.norms.weight.weight_norm"},
}
NORMS = ["input.norm", "hidden.norm", "cell.norm"]
CLASSES, HIDDEN, STEPS, FEATURES, BATCH = 5, 6, 7, 3, 16


def lstm(norm: str, shape=(FEATURES, STEPS), reading="rows", norms="terms", seed=0, **changes) -> LSTM:
    """In float64, and with scales and shifts that no one would notice missing if they were ones and zeros."""
    slot = Slot(**{**PLACE, **TARGETS[norm], **changes})
    network = LSTM(shape, CLASSES, slot, hidden=HIDDEN, reading=reading, norms=norms).double()
    initialize(network, seed, "torch", "ones")
    generator = torch.Generator().manual_seed(1)
    for one in norms_of(network).values():
        for parameter in one.parameters():
            nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    return network


def signals(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def written_out(network: LSTM, x: torch.Tensor, norm) -> torch.Tensor:
    """The equations of the paper, step by step; `norm` is called with a term's name, the term and its step."""
    weights = dict(network.named_parameters())
    h = c = torch.zeros(len(x), HIDDEN, dtype=x.dtype)
    for t in range(x.shape[2]):
        gates = norm("hidden", h @ weights["hidden.layer.weight"].T, t)
        gates = gates + norm("input", x[:, :, t] @ weights["input.layer.weight"].T, t)
        gates = gates + weights.get("input.layer.bias", 0.0)
        i, f, g, o = (gates[:, k * HIDDEN : (k + 1) * HIDDEN] for k in range(4))
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(norm("cell", c, t))
    return h @ weights["output.weight"].T + weights["output.bias"]


def batch_normalized(network: LSTM, terms: dict):
    """Batch norm written out; `terms` collects each (name, step)."""

    def norm(name, v, t):
        terms[name, t] = v.detach()
        scale = network.get_submodule(f"{name}.norm")
        variance, mean = torch.var_mean(v, 0, correction=0)
        return (v - mean) / torch.sqrt(variance + 1e-5) * scale.weight + scale.bias

    return norm


def test_without_a_norm_it_is_torchs_lstm_in_its_outputs_and_gradients():
    ours, x = lstm("none"), signals(BATCH, FEATURES, STEPS)
    theirs = nn.LSTM(FEATURES, HIDDEN, batch_first=True).double()
    theirs.load_state_dict(
        {
            "weight_ih_l0": ours.input.layer.weight.detach(),
            "weight_hh_l0": ours.hidden.layer.weight.detach(),
            "bias_ih_l0": ours.input.layer.bias.detach(),
            "bias_hh_l0": torch.zeros(4 * HIDDEN, dtype=torch.float64),
        }
    )
    expected = ours.output(theirs(x.transpose(1, 2))[0][:, -1])
    torch.testing.assert_close(ours(x), expected, rtol=1e-12, atol=1e-12)
    layers = [ours.input.layer.weight, ours.hidden.layer.weight, ours.input.layer.bias]
    gradients = torch.autograd.grad(ours(x).square().sum(), layers)
    due = torch.autograd.grad(expected.square().sum(), [theirs.weight_ih_l0, theirs.weight_hh_l0, theirs.bias_ih_l0])
    for gradient, one in zip(gradients, due, strict=True):
        torch.testing.assert_close(gradient, one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("bias", ["auto", "keep"])
def test_batch_norm_stands_where_the_equations_have_it_and_its_statistics_are_those_of_each_step(bias):
    network, x, terms = lstm("bn", bias=bias), signals(BATCH, FEATURES, STEPS), {}
    expected = written_out(network, x, batch_normalized(network, terms))
    torch.testing.assert_close(network(x), expected, rtol=1e-10, atol=1e-12)
    assert len(terms) == 3 * STEPS
    for (name, t), v in terms.items():
        norm = network.get_submodule(f"{name}.norm").shared
        torch.testing.assert_close(norm.running_mean[t], 0.1 * v.mean(0))
        torch.testing.assert_close(norm.running_var[t], 0.9 + 0.1 * v.var(0))
        assert norm.num_batches_tracked[t] == 1


def test_one_batch_norm_can_stand_on_the_sum_of_the_terms():
    network, x = lstm("bn", norms="sum"), signals(BATCH, FEATURES, STEPS)
    assert list(norms_of(network)) == ["norm", "cell.norm"]
    assert network.input.layer.bias is None
    h = c = torch.zeros(BATCH, HIDDEN, dtype=x.dtype)

    def normalized(norm, v, t):
        return F.batch_norm(v, None, None, norm.weight, norm.bias, training=True)

    for t in range(STEPS):
        z = h @ network.hidden.layer.weight.T + x[:, :, t] @ network.input.layer.weight.T
        i, f, g, o = normalized(network.norm, z, t).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * normalized(network.cell.norm, c, t).tanh()
    torch.testing.assert_close(network(x), network.output(h), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("length", [STEPS, STEPS + 4])
def test_evaluation_uses_each_steps_own_statistics_and_the_last_ones_after_the_last(length):
    network = lstm("bn")
    for _ in range(3):
        network(signals(BATCH, FEATURES, STEPS))
    network.eval()

    def norm(name, v, t):
        norm = network.get_submodule(f"{name}.norm").shared
        mean, variance = (b[min(t, STEPS - 1)] for b in (norm.running_mean, norm.running_var))
        return (v - mean) / torch.sqrt(variance + 1e-5) * norm.weight + norm.bias

    x = signals(4, FEATURES, length)
    torch.testing.assert_close(network(x), written_out(network, x, norm), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("norm", ["ln", "rms"])
def test_norms_without_statistics_stand_in_the_same_places(norm):
    network, x = lstm(norm), signals(BATCH, FEATURES, STEPS)

    def normalized(name, v, t):
        layer = network.get_submodule(f"{name}.norm")
        if norm == "ln":
            return F.layer_norm(v, v.shape[1:], layer.weight, layer.bias)
        return F.rms_norm(v, v.shape[1:], layer.weight, 1e-5)

    torch.testing.assert_close(network(x), written_out(network, x, normalized), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("norm", "changes", "kept"),
    [
        ("none", {}, True),
        ("bn", {}, False),
        ("ln", {}, False),
        ("bn", {"bias": "keep"}, True),
        ("bn", {"affine": False}, True),
        ("rms", {}, True),  # a scale, no shift
        ("wn", {}, True),
    ],
)
def test_auto_drops_the_bias_only_where_the_norms_have_shifts(norm, changes, kept):
    assert (lstm(norm, **changes).input.layer.bias is not None) == kept


@pytest.mark.parametrize("norm", ["none", "bn", "ln", "gn", "rms", "wn"])
@pytest.mark.few(3)
def test_it_has_the_weights_of_its_maps_and_norms(compose_cell, norm):
    cell = compose_cell("model=lstm", f"norm={norm}", "model.hidden=10")
    maps = 40 * (1 + 10) + linear(10, 10)
    added = {"none": 40, "bn": 2 * (40 + 40 + 10), "rms": 40 + 40 + 40 + 10, "wn": 40 + 40 + 40}
    assert count(objects.network(cell.config, splits((1, 40)))) == maps + added.get(norm, added["bn"])


def test_three_norms_can_be_found_and_every_module_gives_a_tensor_a_step_to_look_at():
    network, shapes = lstm("bn"), {}
    assert list(norms_of(network)) == NORMS
    parts = ["input", "hidden", "cell", "cell.activation"]
    for name in (*parts, *NORMS):
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: shapes.setdefault(name, []).append(tuple(output.shape))
        )
    network(signals(BATCH, FEATURES, STEPS))
    wide, narrow = [(BATCH, 4 * HIDDEN)] * STEPS, [(BATCH, HIDDEN)] * STEPS
    assert shapes == dict(zip((*parts, *NORMS), [wide, wide, narrow, narrow, wide, wide, narrow], strict=True))
    plain = lstm("none")
    assert norms_of(plain) == {}
    assert all(plain.get_submodule(name) for name in parts)


def test_scale_init_sets_all_three_scales(compose_cell):
    cell = compose_cell("model=lstm", "norm=bn", "norm.scale_init=0.1")
    network = objects.initial_network(cell.config, splits((1, 40)), 0)
    scales = [network.get_submodule(name).shared.weight for name in NORMS]
    assert [scale.numel() for scale in scales] == [400, 400, 100]
    assert all((scale == 0.1).all() for scale in scales)


@pytest.mark.parametrize("init", ["torch", "he_uniform"])
@pytest.mark.parametrize("norm", ["bn", "ln", "rms", "wn"])
@pytest.mark.few(2)
def test_arms_start_from_the_same_weights(compose_cell, norm, init):
    def start(norm: str) -> nn.Module:
        config = compose_cell("model=lstm", f"norm={norm}", f"init={init}").config
        return objects.initial_network(config, splits((1, 40)), 3)

    arm, baseline = start(norm), start("none")
    for name in ("input.layer", "hidden.layer", "output"):
        ours, theirs = arm.get_submodule(name), baseline.get_submodule(name)
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-6 if norm == "wn" else 0, atol=0)
        if ours.bias is not None:
            assert torch.equal(ours.bias, theirs.bias)
    assert baseline.input.layer.bias.any() == (init == "torch")


def test_weights_are_drawn_as_torchs_lstm_draws_them():
    slot = Slot(**PLACE, target=None)
    network = LSTM((1, 40), 10, slot, hidden=64, reading="rows", norms="terms")
    initialize(network, 0, "torch", "ones")
    bound = 1 / math.sqrt(64)
    for draw in (network.input.layer.weight, network.input.layer.bias, network.hidden.layer.weight):
        assert 0.95 * bound < draw.abs().max() <= bound
        # the variance of U(-b, b) is b^2 / 3; its estimate's relative spread is sqrt(0.8 / n)
        assert draw.square().mean().item() == pytest.approx(bound**2 / 3, rel=5 * math.sqrt(0.8 / draw.numel()))


def test_weight_norm_splits_both_maps_and_keeps_the_function():
    network, x = lstm("wn"), signals(BATCH, FEATURES, STEPS)
    for layer in (network.input.layer, network.hidden.layer):
        assert nn.utils.parametrize.is_parametrized(layer, "weight")
    assert not nn.utils.parametrize.is_parametrized(network.output)
    torch.testing.assert_close(network(x), lstm("none")(x))
    network(x).square().sum().backward()
    assert all(parameter.grad.any() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("reading", "steps", "features"), [("rows", 5, 2 * 4), ("pixels", 5 * 4, 2)]
)  # images of 2 x 5 x 4
def test_images_are_read_by_rows_or_by_pixels(reading, steps, features):
    x = signals(3, 2, 5, 4)
    image = lstm("none", shape=(2, 5, 4), reading=reading)
    signal = lstm("none", shape=(features, steps))
    assert image.input.layer.weight.shape == (4 * HIDDEN, features)
    by_hand = torch.stack(
        [x[:, :, t].flatten(1) if reading == "rows" else x[:, :, t // 4, t % 4] for t in range(steps)], dim=2
    )
    assert torch.equal(image(x), signal(by_hand))


def test_permuted_pixels_are_those_of_the_image_each_once_in_an_order_that_is_no_networks_own():
    x = torch.arange(2 * 5 * 4).view(1, 2, 5, 4).double()
    order = [step[0, 0].int().item() for step in time_steps(x, "permuted")]
    assert sorted(order) == list(range(20)) != order
    torch.manual_seed(5)
    assert [step[0, 1].int().item() - 20 for step in time_steps(x, "permuted")] == order, "of the second channel too"
    assert [step[0, 0].int().item() for step in time_steps(x.flatten(2), "permuted")] == order, "of a signal too"
    image, signal = (lstm("bn", shape=(2, 5, 4), reading=reading) for reading in ("permuted", "pixels"))
    images = signals(BATCH, 2, 5, 4)
    torch.testing.assert_close(image(images), signal(images.flatten(2)[:, :, order].view(BATCH, 2, 5, 4)))


@pytest.mark.parametrize("norm", ["none", "bn", "ln"])
def test_the_last_step_still_sees_the_first(norm):
    x = signals(BATCH, FEATURES, STEPS).requires_grad_()
    (gradient,) = torch.autograd.grad(lstm(norm)(x).square().sum(), x)
    assert gradient[:, :, 0].abs().amax(1).min() > 0


def trained(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    """A step of SGD on each of the batches x (K, ..., C, L) with labels y (K, ...)."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for inputs, labels in zip(x, y, strict=True):
        optimizer.zero_grad()
        logits = network(inputs)
        F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum").div(BATCH).backward()
        optimizer.step()
    return network


@pytest.mark.parametrize(("norm", "norms"), [*((norm, "terms") for norm in TARGETS), ("bn", "sum"), ("wn", "sum")])
def test_stacked_replicas_equal_solo_runs(norm, norms):
    singles = [lstm(norm, norms=norms, seed=seed) for seed in range(4)]
    x = signals(3, 4, BATCH, FEATURES, STEPS)
    y = torch.randint(CLASSES, (3, 4, BATCH), generator=torch.Generator().manual_seed(3))
    stacked = trained(StackedReplicas([copy.deepcopy(network) for network in singles]), x, y)
    shared = signals(9, FEATURES, STEPS)
    together = stacked.eval()(shared[None])
    for i, network in enumerate(singles):
        before = copy.deepcopy(network.state_dict())
        trained(network, x[:, i], y[:, i])
        ours = stacked.replica(i).state_dict()
        for name, tensor in network.state_dict().items():
            assert not torch.equal(tensor, before[name]), f"{name} is trained"
            torch.testing.assert_close(ours[name], tensor, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
        torch.testing.assert_close(together[i], network.eval()(shared), rtol=1e-9, atol=1e-12)


def test_norms_after_the_activations_are_refused(compose_cell):
    refused = r"norm\.placement=post: .*; allowed: pre; set norm\.placement=pre"
    with pytest.raises(ValueError, match=refused):
        lstm("bn", placement="post")
    (line,) = map(str, check(compose_cell("model=lstm", "norm=bn", "norm.placement=post")))
    assert line.startswith("norm.placement=post")
    assert norms_of(lstm("none", placement="post")) == {}, "without a norm it has no say"


@pytest.mark.parametrize("shape", [(40,), (1, 2, 3, 4)])
def test_examples_without_steps_are_refused(shape):
    with pytest.raises(ValueError, match=f"model=lstm: got examples of shape {'x'.join(map(str, shape))}; allowed"):
        lstm("none", shape=shape)


@pytest.mark.parametrize("changes", [["norm=in"], ["norm=bn", "norm.layers=conv"]])
def test_a_norm_that_finds_no_place_is_refused(compose_cell, changes):
    (line,) = map(str, check(compose_cell("model=lstm", *changes)))
    assert "adds nothing to model=lstm" in line


@pytest.mark.parametrize("reading", ["rows", "pixels", "permuted"])
def test_mnist_is_read_both_ways(compose_cell, reading):
    config = compose_cell("model=lstm", "norm=bn", f"model.reading={reading}", "model.hidden=8").config
    network = objects.network(config, splits((1, 28, 28)))
    steps = 28 if reading == "rows" else 784
    assert network.input.norm.shared.running_mean.shape == (steps, 32)
    assert network(torch.randn(4, 1, 28, 28)).shape == (4, 10)
    assert network.input.norm.shared.num_batches_tracked.tolist() == [1] * steps
