import copy
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bn_experiments.models.lenet import LeNet
from bn_experiments.models.residual_mlp import ResidualMLP
from bn_experiments.norms.slot import Slot, mark
from bn_experiments.probes.activations import Activations, hidden_activations, summary_statistics
from bn_experiments.probes.probe import fixed_batch
from bn_experiments.run import run
from bn_experiments.training.replicas import StackedReplicas
from tests.probes.drawn import EPOCHS, REPLICAS, draw
from tests.probes.runs import TINY, events, npz, refusal_of_one, refusals, saved, splits_of, steps

PLACE = {"bias": "auto", "scale_init": "ones", "layers": "all"}
LENET = {"channels": [2, 3], "kernel_size": 3, "padding": 0, "pooling": "max", "hidden": [5, 4], "activation": "relu"}


def batch_norm(placement: str) -> Slot:
    return Slot("torch.nn.BatchNorm{dim}d", placement=placement, **PLACE, eps=1e-5, momentum=0.1, affine=True)


def rms(placement: str) -> Slot:
    """A norm that is a formula of one example, so that what it gives can be computed by hand."""
    return Slot("bn_experiments.norms.rms.RMSNorm", placement=placement, **PLACE, over="example", eps=0.5, affine=True)


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


@pytest.mark.parametrize("seed", range(3))
def test_statistics_equal_numpys(seed):
    array = np.random.default_rng(seed).gamma(2.0, 1 + seed, (7, 5, 3)).astype(np.float32)
    found = summary_statistics(torch.from_numpy(array), bins=11)
    values = array.astype(np.float64)
    np.testing.assert_allclose(found["mean"], values.mean(), rtol=1e-12)
    np.testing.assert_allclose(found["variance"], ((values - values.mean()) ** 2).mean(), rtol=1e-12)
    for q in (15, 50, 85):
        np.testing.assert_allclose(found[f"percentile_{q}"], np.percentile(values, q), rtol=1e-12)
    low, high, edges = values.min(), values.max(), found["edges"].numpy()
    np.testing.assert_allclose(edges, low + (high - low) * np.arange(12) / 11, rtol=1e-12)
    inner = [((a <= values) & (values < b)).sum() for a, b in pairwise(edges[:-1])]
    assert found["histogram"].tolist() == [*inner, values.size - sum(inner)]


def test_statistics_of_known_numbers():
    found = summary_statistics(torch.tensor([[0.0, 1.0], [2.0, 4.0]]), bins=4)
    assert found["mean"].item() == 1.75
    assert found["variance"].item() == (1.75**2 + 0.75**2 + 0.25**2 + 2.25**2) / 4
    assert found["percentile_50"].item() == 1.5
    assert found["edges"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert found["histogram"].tolist() == [1, 1, 1, 1], "an edge belongs to the bin above it"


@pytest.mark.parametrize("constant", [0.0, -2.5, 1e20])
def test_a_constant_has_a_histogram(constant):
    found = summary_statistics(torch.full((3, 2), constant), bins=5)
    assert found["variance"].item() == 0
    assert found["percentile_15"].item() == found["percentile_85"].item() == torch.tensor(constant).item()
    assert found["histogram"].sum() == 6
    assert found["edges"].isfinite().all()


def test_numbers_that_are_not_finite_are_not_counted_and_do_no_harm():
    nan, inf = math.nan, math.inf
    some = [[1.0, nan, 3.0], [inf, -inf, 2.0], [nan, nan, nan], [0.0, 4.0, inf], [0.0, 2.0, 4.0]]
    found = [summary_statistics(torch.tensor(values), bins=2) for values in some]
    assert [each["histogram"].tolist() for each in found] == [[1, 1], [1, 0], [0, 0], [1, 1], [1, 2]]
    assert [each["edges"].tolist() for each in found[:4:3]] == [[1.0, 2.0, 3.0], [0.0, 2.0, 4.0]]
    assert all(each["edges"].isfinite().all() for each in found)
    for name in ("variance", "mean"):
        assert [bool(each[name].isfinite()) for each in found] == [False] * 4 + [True]
    huge = summary_statistics(torch.tensor([-1e200, 1e200], dtype=torch.float64), bins=2)
    assert huge["histogram"].tolist() == [1, 1]
    assert huge["variance"].item() == inf, "too large for a double"


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_a_hidden_layer_shows_what_goes_into_and_out_of_its_norm_and_activation(placement):
    norm = mark(nn.BatchNorm1d(2, eps=1e-30, dtype=torch.float64))
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
    options |= {"branch_scale": "none", "branch_scale_start": 0.0}
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
        statistics = summary_statistics(found[f"{name}.norm_out"], bins=3)
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


POINTS = ("norm_in", "norm_out", "pre_activation", "activation")
LAYERS = [f"hidden.{i}.{point}" for i in (0, 1) for point in POINTS]
SHAPES = {"histogram": (8, 7), "edges": (8, 8)}
SHAPES |= dict.fromkeys(("mean", "variance", "percentile_15", "percentile_50", "percentile_85"), (8,))
PROBE = (*TINY, "probes=[activations]", "probes.activations.bins=7")


@pytest.mark.parametrize("option", ["probes.activations.mode=eval", "probes.activations.every_n_epochs=1"])
def test_every_option_trains(compose_cell, option):
    cell = compose_cell(option, "data.train_examples=120", "data.batch_size=54")
    assert refusals(cell) == []
    assert not any(run(cell).diverged)


def test_its_readings_hold_every_point_of_every_layer_and_tensorboard_shows_their_histograms(compose_cell):
    cell = compose_cell("norm=bn", *PROBE, "probes.activations.every_n_epochs=2", "trainer.max_epochs=5")
    result = run(cell)
    arrays, drawn = npz(cell), events(cell)
    assert arrays["activations/epochs"].tolist() == [0, 2, 4, 5]
    assert arrays["activations/layer"].tolist() == LAYERS
    assert {q: arrays[f"activations/{q}"].shape for q in SHAPES} == {q: (4, 2, *shape) for q, shape in SHAPES.items()}
    assert set(arrays) == {"activations/epochs", "activations/layer", *(f"activations/{q}" for q in SHAPES)}
    assert set(result.probes["activations"]) == {q for q, shape in SHAPES.items() if len(shape) == 1}
    assert all(list(by_layer) == LAYERS for by_layer in result.probes["activations"].values())
    assert set(drawn.Tags()["histograms"]) == {f"activations/{layer}" for layer in LAYERS}
    for j, layer in enumerate(LAYERS):
        histograms = drawn.Histograms(f"activations/{layer}")
        assert steps(histograms) == [0, 2, 4, 5]
        for t, event in enumerate(histograms):
            shown, edges = event.histogram_value, [event.histogram_value.min, *event.histogram_value.bucket_limit]
            assert shown.num == 2 * 25 * (8, 6)[j >= 4], "replicas, validation examples, units"
            assert sum(shown.bucket) == pytest.approx(shown.num), "over all replicas"
            own = arrays["activations/edges"][t, :, j]
            assert (shown.min, shown.max) == (own.min(), own.max())
            mean = arrays["activations/mean"][t, :, j].mean()
            assert shown.sum / shown.num == pytest.approx(mean, abs=(edges[1] - edges[0]) / 2), "within half a bin"


def test_the_last_reading_is_that_of_the_saved_networks(compose_cell):
    cell = compose_cell("norm=bn", *PROBE, "trainer.max_epochs=5")
    result = run(cell)
    x, _ = fixed_batch(splits_of(cell).val, (3, 4), 200)  # there are 25: all of them
    for i in range(2):
        network = saved(cell).replica(i)
        h = x[i].flatten(1) @ network.hidden[0].layer.weight.T
        mean = result.probes["activations"]["mean"]["hidden.0.norm_in"][i]
        assert mean == pytest.approx(h.mean().item(), rel=1e-4, abs=1e-6)
        normalized = (h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt()
        out = normalized * network.hidden[0].norm.weight + network.hidden[0].norm.bias
        variance = result.probes["activations"]["variance"]["hidden.0.norm_out"][i]
        assert variance == pytest.approx(out.var(correction=0).item(), rel=1e-4)


def test_the_statistics_of_a_replica_that_diverged_are_null(compose_cell):
    wild = ["optimizer.lr=1e6", "trainer.max_epochs=2", "model.hidden=[100,100]"]
    cell = compose_cell("norm=none", *PROBE, *wild)
    result = run(cell)
    assert result.diverged == [True, True]
    assert result.probes["activations"]["mean"]["hidden.1.activation"] == [None, None]
    assert np.isfinite(npz(cell)["activations/mean"][0]).all(), "before training"


def test_a_batch_of_one_is_refused_where_the_norm_needs_two(compose_cell):
    one = ["norm=bn", "probes=[activations]", "probes.activations.examples=1"]
    assert refusals(compose_cell(*one)) == [refusal_of_one("probes.activations.examples", 1, "val", 25)]
    test = refusal_of_one("probes.activations.examples", 1, "test", 1000)
    assert refusals(compose_cell(*one, "probes.activations.split=test")) == [test]
    assert refusals(compose_cell(*one, "probes.activations.mode=eval")) == []
    assert refusals(compose_cell("norm=ln", *one[1:])) == []


def read(norm):
    layers = [f"hidden.0.{name}" for name in (("norm_in", "norm_out") if norm == "bn" else ()) + ("pre_activation",)]
    counts = np.arange(2 * REPLICAS * len(layers) * 5).reshape(2, REPLICAS, len(layers), 5) % 7 + 1
    edges = np.broadcast_to(np.linspace(-1, 1, 6), (2, REPLICAS, len(layers), 6))
    return {"epochs": [0, EPOCHS], "layer": layers, "histogram": counts, "edges": edges}


def test_the_report_draws_the_densities_at_the_start_and_at_the_end(tmp_path):
    drawn = draw(tmp_path, "activations", read)
    assert list(drawn) == ["activations_start", "activations_end"]
    for name, moment in {"activations_start": 0, "activations_end": -1}.items():
        data = drawn[name].data
        own = data[(data["arm"] == "bn") & (data["point"] == "pre_activation")]
        assert own["count"].tolist() == read("bn")["histogram"][moment].sum(0)[2].tolist()
        assert (own["density"] * (own["right"] - own["left"])).sum() == pytest.approx(1)


def test_the_report_says_which_points_of_a_layer_its_panels_are(tmp_path):
    def normalized(norm):  # what leaves the norm is what goes into the activation
        found = read("bn")
        return found | {"histogram": np.ones_like(found["histogram"])}

    way = "The values in a layer (a row) on their way into the norm; "
    both = draw(tmp_path / "both", "activations", read)["activations_end"].caption
    assert f"{way}out of the norm; into the activation (a column). Without a norm (none) there is the last" in both
    caption = draw(tmp_path / "bn", "activations", normalized)["activations_end"].caption
    assert f"{way}into the activation, as they leave the norm (a column). Densities" in caption


def test_the_report_leaves_out_panels_of_activations_that_are_nowhere_finite(tmp_path):
    def nowhere_finite_at_the_end(norm):
        found = read(norm)
        found["histogram"][-1] = 0
        return found

    assert list(draw(tmp_path, "activations", nowhere_finite_at_the_end)) == ["activations_start"]
