"""Moments: against NumPy, batch norm on a sphere, and dropout's shift."""

import numpy as np
import pytest
import torch
from torch import nn

from bn_experiments import oracles
from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import Arm, looks
from bn_experiments.probes.moments import moments, outputs
from bn_experiments.probes.moments_figures import variance_by_place
from bn_experiments.probes.moments_oracles import largest, log_dropout_shift, scaled_ws_variance
from bn_experiments.run import run
from tests.cells_by_hand import a_result, write_cell
from tests.probes.runs import npz, refusals


def test_the_moments_are_numpys():
    z = np.random.default_rng(0).normal(1, 2, size=(6, 3, 4))
    found = {name: value.item() for name, value in moments(torch.from_numpy(z)).items()}
    by_unit = z.transpose(1, 0, 2).reshape(3, -1)
    expected = {"second_moment": (z**2).mean(), "variance": by_unit.var(axis=1).mean(), "fourth_moment": (z**4).mean()}
    expected |= {"rectified": np.maximum(z, 0).mean(), "largest": abs(z).max()}
    assert found == pytest.approx(expected)


def test_outputs_are_those_of_layers_and_norms_before_what_changes_them_in_place():
    norm = nn.BatchNorm1d(3)
    norm.is_norm = True
    network = nn.Sequential(nn.Linear(2, 3), norm, nn.ReLU(inplace=True), nn.Linear(3, 1)).eval()
    batches = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(0))
    found = outputs(network, batches)
    assert [*found] == ["0", "1", "3"]
    torch.testing.assert_close(found["0"], network[0](batches.flatten(0, 1)))
    torch.testing.assert_close(found["1"], norm(network[0](batches.flatten(0, 1)))), "not rectified"


NOISE = ["data=gaussian", "data.train_examples=null", "data.shape=[1,100]", "data.examples=600", "init=he_uniform"]
NOISE += ["trainer.max_epochs=0", "probes=[moments]", "probes.moments.examples=400", "model.hidden=[100,100]"]


@pytest.mark.parametrize("batch", [2, 5])
def test_batch_norm_puts_gaussian_numbers_on_a_sphere(compose_cell, batch):
    cell = compose_cell(*NOISE, f"data.batch_size={batch}", "norm=bn", "norm.eps=1e-12", "trainer.precision=64-true")
    run(cell)
    arrays = npz(cell)
    at = arrays["moments/place"].tolist().index("hidden.0.norm")
    found = {key.partition("/")[2]: arrays[key][0, :, at].mean() for key in arrays if key.startswith("moments/train")}
    assert found["train_second_moment"] == pytest.approx(1, rel=1e-6)
    assert found["train_largest"] <= largest(cell.config) + 1e-9
    assert found["train_fourth_moment"] == pytest.approx(oracles.fourth_moment(batch), rel=0.03)
    assert found["train_rectified"] == pytest.approx(oracles.rectified_mean(batch), rel=0.03)
    assert arrays["moments/eval_rectified"][0, :, at].mean() == pytest.approx(0.3989, rel=0.05)


def test_dropout_shifts_the_variance_of_the_next_layer_by_the_oracle(compose_cell):
    cell = compose_cell(*NOISE, "data.batch_size=400", "norm=bn", "model.dropout=0.5", "model.bias=false")
    run(cell)
    arrays = npz(cell)
    at = arrays["moments/place"].tolist().index("hidden.1.layer")
    ratio = arrays["moments/eval_variance"][0, :, at] / arrays["moments/train_variance"][0, :, at]
    assert np.log(ratio).mean() == pytest.approx(log_dropout_shift(cell.config), abs=0.05)


def test_scaled_weight_standardization_loses_one_over_its_inputs(compose_cell):
    keys = ["data.batch_size=100", "norm=scaled_ws", "model.hidden=[100]", "model.repeat=4", "model.bias=false"]
    cell = compose_cell(*NOISE, *keys, "replicas=6", "data.normalization=given", "data.mean=0", "data.std=2.0")
    run(cell)
    arrays = npz(cell)
    expected = scaled_ws_variance(cell.config)
    places = [arrays["moments/place"].tolist().index(name) for name in expected]
    found = arrays["moments/train_variance"][0][:, places]
    spread = found.std(axis=0, ddof=1) / 6**0.5
    assert next(iter(expected.values())) == pytest.approx(0.99 * 0.99 * 1.7128585504496627**2 / 4)
    np.testing.assert_array_less(abs(found.mean(axis=0) - list(expected.values())), 4 * spread + 0.01)


def test_statistics_that_cannot_be_estimated_anew_are_refused(compose_cell):
    (line,) = refusals(compose_cell("norm=renorm", "probes=[moments]"))
    assert "cannot be estimated anew" in line
    assert refusals(compose_cell("norm=ln", "probes=[moments]")) == []


def test_the_figure_shows_the_variance_in_both_modes(tmp_path):
    rng, places = np.random.default_rng(0), ["a", "b", "c"]
    readings = {"moments/epochs": np.array([0]), "moments/place": np.array(places)}
    readings |= {f"moments/{mode}_variance": rng.uniform(1, 2, (1, 6, 3)) for mode in ("train", "eval")}
    metrics = {"test/acc": [0.5] * 6}
    folder = write_cell(tmp_path / "bn", "bn", metrics, probes=readings)
    arm = Arm("bn", folder, a_result("bn", metrics), looks({"bn": "bn"})["bn"])
    data = variance_by_place({"bn": arm}, list[Claim]()).data
    for mode in ("train", "eval"):
        rows = data[data["mode"] == mode]
        assert rows["place"].tolist() == places
        np.testing.assert_allclose(rows["mean"], readings[f"moments/{mode}_variance"][0].mean(axis=0))


def test_units_of_torchs_own_maps_of_tokens_are_on_the_last_axis():
    network = nn.Sequential(nn.Linear(4, 3)).eval()
    x = torch.randn(1, 6, 5, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(x[0]).flatten(0, 1).var(0, correction=0).mean()
    found = moments(outputs(network, x)["0"])["variance"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
