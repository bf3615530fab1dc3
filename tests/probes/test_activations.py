import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bn_experiments.models.lenet import LeNet
from bn_experiments.models.residual_mlp import ResidualMLP
from bn_experiments.norms.slot import Slot
from bn_experiments.probes.activations import Activations, hidden_activations, summary_statistics
from bn_experiments.training.replicas import StackedReplicas

PLACE = {"bias": "auto", "scale_init": "ones", "layers": "all"}
LENET = {"channels": [2, 3], "kernel_size": 3, "padding": 0, "pooling": "max", "hidden": [5, 4], "activation": "relu"}


def batch_norm(placement: str) -> Slot:
    return Slot("torch.nn.BatchNorm{dim}d", placement=placement, **PLACE, eps=1e-5, momentum=0.1, affine=True)


def rms(placement: str) -> Slot:
    """A norm that is a formula of one example, so that what it gives can be computed by hand."""
    return Slot("bn_experiments.norms.rms.RMSNorm", placement=placement, **PLACE, eps=0.5, affine=True)


def drawn(network: nn.Module) -> nn.Module:
    """The network in double precision, with every parameter, norms' scales and shifts included, drawn anew."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.double().parameters():
        nn.init.uniform_(parameter, -1, 1, generator=generator)
    return network


def gaussian(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def by_hand_batch_norm(x: Tensor, norm: nn.Module) -> Tensor:
    axes = [0, *range(2, x.dim())]
    shape = (1, -1, *(1,) * (x.dim() - 2))
    mean = x.mean(axes, keepdim=True)
    variance = (x - mean).square().mean(axes, keepdim=True)
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight.view(shape) + norm.bias.view(shape)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected), "in the order of the forward pass"
    for label, tensor in expected.items():
        torch.testing.assert_close(found[label], tensor)


def test_statistics_equal_numpys():
    arrays = [np.random.default_rng(seed).gamma(2.0, 1 + seed, (7, 5, 3)).astype(np.float32) for seed in range(3)]
    found = summary_statistics([torch.from_numpy(array) for array in arrays], bins=11)
    doubles = [array.astype(np.float64) for array in arrays]
    np.testing.assert_allclose(found["mean"], [array.mean() for array in doubles], rtol=1e-12)
    np.testing.assert_allclose(found["variance"], [((a - a.mean()) ** 2).mean() for a in doubles], rtol=1e-12)
    for q in (15, 50, 85):
        np.testing.assert_allclose(found[f"percentile_{q}"], [np.percentile(a, q) for a in doubles], rtol=1e-12)
    low, high = min(a.min() for a in doubles), max(a.max() for a in doubles)
    for array, histogram, edges in zip(doubles, found["histogram"], found["edges"], strict=True):
        np.testing.assert_allclose(edges, low + (high - low) * np.arange(12) / 11, rtol=1e-12)
        assert histogram.sum() == array.size
        inner = [
            ((a <= array) & (array < b)).sum() for a, b in zip(edges[:-2].numpy(), edges[1:-1].numpy(), strict=True)
        ]
        assert histogram.tolist() == [*inner, array.size - sum(inner)]


def test_statistics_of_known_numbers():
    found = summary_statistics([torch.tensor([[0.0, 1.0], [2.0, 4.0]]), torch.tensor([[8.0, 8.0], [8.0, 8.0]])], bins=4)
    assert found["mean"].tolist() == [1.75, 8.0]
    assert found["variance"].tolist() == [(1.75**2 + 0.75**2 + 0.25**2 + 2.25**2) / 4, 0.0]
    assert found["percentile_50"].tolist() == [1.5, 8.0]
    assert found["edges"].tolist() == [[0.0, 2.0, 4.0, 6.0, 8.0]] * 2, "of all replicas"
    assert found["histogram"].tolist() == [[2, 1, 1, 0], [0, 0, 0, 4]], "an edge belongs to the bin above it"


@pytest.mark.parametrize("constant", [0.0, -2.5, 1e20])
def test_a_constant_has_a_histogram(constant):
    found = summary_statistics([torch.full((3, 2), constant)], bins=5)
    assert found["variance"].item() == 0
    assert found["percentile_15"].item() == found["percentile_85"].item() == torch.tensor(constant).item()
    assert found["histogram"].sum() == 6
    assert found["edges"].isfinite().all()


def test_numbers_that_are_not_finite_are_not_counted_and_do_no_harm():
    nan, inf = math.nan, math.inf
    values = [[1.0, nan, 3.0], [inf, -inf, 2.0], [nan, nan, nan], [0.0, 4.0, inf], [0.0, 2.0, 4.0]]
    found = summary_statistics([torch.tensor(each) for each in values], bins=2)
    assert found["edges"][0].tolist() == [0.0, 2.0, 4.0]
    assert found["histogram"].tolist() == [[1, 1], [0, 1], [0, 0], [1, 1], [1, 2]]
    assert found["variance"].isfinite().tolist() == found["mean"].isfinite().tolist() == [False] * 4 + [True]
    huge = summary_statistics([torch.tensor([-1e200, 1e200], dtype=torch.float64)], bins=2)
    assert huge["histogram"].tolist() == [[1, 1]]
    assert huge["variance"].item() == inf, "too large for a double"
    nothing = summary_statistics([torch.tensor([nan, inf])], bins=3)
    assert nothing["histogram"].tolist() == [[0, 0, 0]]
    assert nothing["edges"].isfinite().all()


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_a_hidden_layer_shows_what_goes_into_and_out_of_its_norm_and_activation(placement):
    norm = nn.BatchNorm1d(2, eps=1e-30, dtype=torch.float64)
    norm.weight.data, norm.bias.data = torch.tensor([[2.0, 1.0], [-1.0, 0.5]], dtype=torch.float64)
    layer = nn.Linear(1, 2, dtype=torch.float64)
    layer.weight.data, layer.bias.data = torch.tensor([[1.0], [-2.0]]).double(), torch.tensor([0.0, 2.0]).double()
    network = nn.Sequential(nn.Sequential())
    for name in ("layer", "norm", "activation") if placement == "pre" else ("layer", "activation", "norm"):
        network[0].add_module(name, {"layer": layer, "norm": norm, "activation": nn.ReLU()}[name])
    # x = -1, 1 gives units (-1, 1) and (4, 0): mean 0 and 2, deviation 1 and 2
    if placement == "pre":
        expected = {
            "0.norm_in": [[-1, 4], [1, 0]],
            "0.norm_out": [[-3, 1.5], [1, -0.5]],  # 2 (-1) - 1 and 2 (1) - 1; (4 - 2) / 2 + 0.5 and (0 - 2) / 2 + 0.5
            "0.pre_activation": [[-3, 1.5], [1, -0.5]],
            "0.activation": [[0, 1.5], [1, 0]],
        }
    else:  # relu gives (0, 1) and (4, 0): mean 0.5 and 2, deviation 0.5 and 2
        expected = {
            "0.pre_activation": [[-1, 4], [1, 0]],
            "0.activation": [[0, 4], [1, 0]],
            "0.norm_in": [[0, 4], [1, 0]],
            "0.norm_out": [[-3, 1.5], [1, -0.5]],
        }
    found = hidden_activations(network, torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    assert_same(found, {label: torch.tensor(rows, dtype=torch.float64) for label, rows in expected.items()})


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_a_convolutional_network_shows_its_hidden_layers_in_two_dimensions(placement):
    network = drawn(LeNet((1, 14, 14), 3, batch_norm(placement), **LENET, dropout=0.0))
    x = gaussian(6, 1, 14, 14)
    expected, h = {}, x
    with torch.no_grad():
        for i in range(4):
            name = f"features.{i}" if i < 2 else f"hidden.{i - 2}"
            block = network.get_submodule(name)
            if i < 2:
                h = nn.functional.conv2d(h, block.layer.weight, block.layer.bias)
            else:
                h = h.flatten(1) @ block.layer.weight.T + (0 if block.layer.bias is None else block.layer.bias)
            for part in ("norm", "activation") if placement == "pre" else ("activation", "norm"):
                before, after = ("norm_in", "norm_out") if part == "norm" else ("pre_activation", "activation")
                expected[f"{name}.{before}"] = h
                h = by_hand_batch_norm(h, block.norm) if part == "norm" else h.clamp(min=0)
                expected[f"{name}.{after}"] = h
            if i < 2:  # the largest of each square of four
                h = h[..., : h.shape[2] // 2 * 2, : h.shape[3] // 2 * 2]
                h = h.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax((3, 5))
    assert expected["features.1.norm_in"].shape == (6, 3, 4, 4)
    assert_same(hidden_activations(network.train(), x), expected)


@pytest.mark.parametrize(("norm_position", "placement"), [("branch", "pre"), ("branch", "post"), ("trunk", "pre")])
def test_a_residual_network_shows_each_links_norm_and_activation(norm_position, placement):
    options = {"links": 2, "width": 4, "activation": "tanh", "dropout": 0.0, "norm_position": norm_position}
    network = drawn(ResidualMLP((1, 3), 2, rms(placement), **options))
    x = gaussian(5, 1, 3)
    expected = {}
    with torch.no_grad():
        h = x.flatten(1) @ network.input.weight.T + network.input.bias
        for i, link in enumerate(network.links):

            def norm(v: Tensor, link: nn.Module = link) -> Tensor:
                return v / (v.square().mean(1, keepdim=True) + 0.5).sqrt() * link.norm.weight

            parts = {"pre": (norm, torch.tanh), "post": (torch.tanh, norm)}[placement]
            first, second = parts[0](h), parts[1](parts[0](h))
            points = [h, first, first, second]
            names = ["norm_in", "norm_out", "pre_activation", "activation"]
            names = names if placement == "pre" else names[2:] + names[:2]
            expected |= {f"links.{i}.{name}": point for name, point in zip(names, points, strict=True)}
            trunk = first if norm_position == "trunk" else h
            h = trunk + second @ link.layer.weight.T + link.layer.bias
    assert_same(hidden_activations(network, x), expected)


def test_in_training_mode_batch_norm_gives_mean_beta_and_variance_gamma_squared():
    network = LeNet((1, 14, 14), 3, batch_norm("pre"), **LENET, dropout=0.0).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.zeros_(module.bias)
    found = hidden_activations(network.train(), gaussian(50, 1, 14, 14))
    for name in ("features.0", "features.1", "hidden.0", "hidden.1"):
        out, into = (found[f"{name}.norm_{side}"].transpose(0, 1).flatten(1) for side in ("out", "in"))
        torch.testing.assert_close(out.mean(1), torch.zeros(len(out)).double(), atol=1e-12, rtol=0)
        variance = into.var(1, correction=0)
        torch.testing.assert_close(out.var(1, correction=0), variance / (variance + 1e-5))
        statistics = summary_statistics([found[f"{name}.norm_out"]], bins=3)
        assert statistics["variance"].item() == pytest.approx(1, abs=1e-2)
        assert statistics["mean"].item() == pytest.approx(0, abs=1e-12)


def test_a_module_that_is_called_several_times_is_put_together_along_the_batch():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.activation = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            for step in range(3):
                x = self.activation(x - step)
            return x

    found = hidden_activations(Recurrent(), torch.tensor([[1.0, 5.0], [-1.0, 2.0]]))
    assert found["pre_activation"].tolist() == [[1, 5], [-1, 2], [0, 4], [-1, 1], [-2, 2], [-2, -1]]
    assert found["activation"].tolist() == [[1, 5], [0, 2], [0, 4], [0, 1], [0, 2], [0, 0]]


def test_no_hook_stays_behind_even_where_the_network_fails():
    network = LeNet((1, 14, 14), 3, batch_norm("pre"), **LENET, dropout=0.0)
    hidden_activations(network, torch.zeros(2, 1, 14, 14))
    with pytest.raises(RuntimeError):
        hidden_activations(network, torch.zeros(2, 7, 14, 14))
    assert not any(module._forward_hooks for module in network.modules())


def test_looking_without_a_norm_shows_the_activations_alone():
    network = LeNet((1, 10), 3, Slot(None, placement="pre", **PLACE), **{**LENET, "channels": [2]}, dropout=0.0)
    labels = ("pre_activation", "activation")
    names = ("features.0", "hidden.0", "hidden.1")
    assert list(hidden_activations(network, torch.zeros(2, 1, 10))) == [
        f"{n}.{label}" for n in names for label in labels
    ]


def test_the_probe_leaves_the_running_statistics_of_what_it_is_given(compose_cell):
    from bn_experiments.config import objects

    splits = objects.splits(compose_cell().config).to(torch.device("cpu"), torch.float32)
    probe = Activations(mode="train", split="val", examples=20, bins=4)
    probe.seeds = range(2)
    slot = batch_norm("pre")
    replicas = StackedReplicas([LeNet((1, 40), 10, slot, **LENET, dropout=0.0) for _ in range(2)])
    before = copy.deepcopy(replicas.state_dict())
    reading = probe.measure(replicas, splits)
    assert reading.values["mean"].shape == (2, 16)
    assert reading.values["histogram"].shape == (2, 16, 4)
    for name, tensor in replicas.state_dict().items():
        assert torch.equal(tensor, before[name])
