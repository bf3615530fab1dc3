"""Scale: an invariant network, and one with a gradient that is known by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import Arm, looks
from bn_experiments.norms.weight import weight_norm
from bn_experiments.probes.layers import weights_of_layers
from bn_experiments.probes.weight_scale import Scaling, WeightScale, scaling
from bn_experiments.probes.weight_scale_figures import scale_by_arm
from bn_experiments.run import run
from tests.cells_by_hand import a_result, write_cell
from tests.probes.runs import npz

TORCH = torch.Generator().manual_seed(0)
X = torch.randn(30, 5, generator=TORCH, dtype=torch.float64)
Y = torch.randint(3, (30,), generator=TORCH)


def network(norm: nn.Module) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 8, bias=False), norm, nn.ReLU(), nn.Linear(8, 3)).double()


@pytest.mark.parametrize("factor", [0.1, 10.0])
@pytest.mark.parametrize("norm", [nn.BatchNorm1d(8, eps=1e-12), nn.LayerNorm(8, eps=1e-12)])
def test_before_a_norm_all_is_zero_but_the_rows_of_a_norm_of_examples(norm, factor):
    found = scaling(network(norm), X, Y, factor, lr=0.3)
    assert [*found] == ["0", "3"]
    is_batch = isinstance(norm, nn.BatchNorm1d)
    for name, value in found["0"]._asdict().items():
        if is_batch or name != "radial_of_units":
            assert abs(value) < 1e-8, name
    assert is_batch or found["0"].radial_of_units > 0.05
    assert min(abs(value) for value in found["3"]) > 1e-3, "the last layer is followed by no norm"


def test_the_error_of_batch_norm_is_that_of_its_eps():
    eps, factor = 1e-3, 0.2
    one = nn.Sequential(nn.Linear(5, 1, bias=False), nn.BatchNorm1d(1, eps=eps), nn.Linear(1, 3)).double()
    variance = (X @ one[0].weight.detach().T).var(correction=0).item()

    def gain(a: float) -> float:  # of the gradient with respect to the direction, of a weight of the length a
        return 1 / math.sqrt(a**2 * variance + eps)

    radial = scaling(one, X, Y, factor, lr=0.1)["0"].radial
    assert 0 < radial < 3 * eps / variance
    found = scaling(one, X, Y, factor, lr=0.1)["0"].gradient_change
    assert found == pytest.approx(factor * gain(factor) / gain(1.0) - 1, rel=0.1), "to the change of the loss"


def test_a_linear_classifier_is_what_numpy_says():
    torch.manual_seed(0)
    one = nn.Sequential(nn.Linear(5, 3, bias=False)).double()
    w, x, labels = one[0].weight.detach().numpy(), X.numpy(), np.eye(3)[Y.numpy()]

    def loss_and_gradient(weight):
        z = x @ weight.T
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        return -np.log((p * labels).sum(1)).mean(), (p - labels).T @ x / len(x)

    a, lr = 2.0, 0.5
    (loss, g), (scaled, other) = loss_and_gradient(w), loss_and_gradient(a * w)
    square = np.square(g).sum()
    rows = np.abs((w * g).sum(1)) / np.linalg.norm(w, axis=1) / np.linalg.norm(g, axis=1)
    expected = Scaling(
        scaled - loss,
        a * np.linalg.norm(other) / np.linalg.norm(g) - 1,
        abs((w * g).sum()) / np.linalg.norm(w) / np.linalg.norm(g),
        rows.mean(),
        (np.square(w - lr * g).sum() - np.square(w).sum()) / (lr**2 * square) - 1,
    )
    assert scaling(one, X, Y, a, lr)["0"] == pytest.approx(expected)


def test_the_network_is_left_as_it_is_and_of_a_parametrized_weight_the_direction_is_scaled():
    one = network(nn.Identity())
    weight_norm(one[0])
    before = {name: tensor.clone() for name, tensor in one.state_dict().items()}
    assert [tuple(weight.shape) for weight in weights_of_layers(one).values()] == [(8, 5), (3, 8)]
    found = scaling(one, X, Y, 0.1, 0.1)
    assert max(map(abs, found["0"])) < 1e-10
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.state_dict().items())


def test_a_row_without_a_gradient_has_the_cosine_zero():
    one = network(nn.Identity())
    with torch.no_grad():
        one[0].weight[0] = 0  # a unit that no example activates
    assert math.isfinite(scaling(one, X, Y, 0.1, 0.1)["0"].radial_of_units)


def test_replicas_have_their_own_readings_in_float64(compose_cell):
    cell = compose_cell(
        "norm=bn", "model.bias=false", "probes=[weight_scale]", "probes.weight_scale.factor=0.5", "norm.eps=1e-12"
    )
    run(cell)
    arrays = npz(cell)
    assert arrays["weight_scale/epochs"][0] == 0
    assert arrays["weight_scale/gradient_change"].dtype == np.float64
    hidden = abs(arrays["weight_scale/gradient_change"][:, :, :-1])
    assert hidden.max() < 1e-6
    assert len(np.unique(arrays["weight_scale/radial"][0, :, -1])) == 2


def test_the_figure_shows_the_sizes_of_all_distances(tmp_path):
    values = np.random.default_rng(0).normal(size=(1, 6, 3)) * 1e-5
    readings = {"weight_scale/epochs": np.array([0]), "weight_scale/layer": np.array(["0", "1", "last"])}
    readings |= {f"weight_scale/{name}": values for name in Scaling._fields}
    metrics = {"test/acc": [0.5] * 6}
    folder = write_cell(tmp_path / "bn", "bn", metrics, probes=readings)
    arm = Arm("bn", folder, a_result("bn", metrics), looks({"bn": "bn"})["bn"])
    data = scale_by_arm({"bn": arm}, list[Claim]()).data
    rows = data[data["quantity"] == "gradient_change"]
    np.testing.assert_allclose(rows["mean"], np.abs(values[0]).mean(axis=0))
    assert rows["is_last"].tolist() == [False, False, True]


class Drawing(nn.Sequential):
    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.5))


def test_each_pass_draws_what_the_others_draw():
    drawing = Drawing(nn.Linear(5, 8, bias=False), nn.BatchNorm1d(8, eps=1e-12), nn.Linear(8, 3)).double()
    assert abs(scaling(drawing, X, Y, 0.1, 0.3)["0"].loss_change) < 1e-8


def test_a_weight_that_layers_share_takes_one_step():
    one = nn.Sequential(nn.Linear(5, 5, bias=False), nn.Tanh(), nn.Linear(5, 5, bias=False)).double()
    one[2].weight = one[0].weight
    found = scaling(one, X, Y, 2.0, 0.3)
    assert [*found] == ["0"]
    w = one[0].weight
    (g,) = torch.autograd.grad(nn.functional.cross_entropy(one(X), Y), [w])
    growth = (w - 0.3 * g).square().sum() - w.square().sum()
    assert found["0"].step_growth == pytest.approx((growth / (0.09 * g.square().sum()) - 1).item())


def test_a_network_without_layers_is_refused():
    probe = WeightScale(factor=0.1, lr=0.1, batch_size=5)
    (refusal,) = probe.refusals(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(3)), torch.zeros(2, 3))
    line = "probes.weight_scale: the network has no linear or convolutional layer that is trained"
    assert str(refusal).startswith(line)
