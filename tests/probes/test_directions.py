"""Directions: cosines and effective rank against NumPy, and what theory says of networks with and without a norm."""

import numpy as np
import pytest
import torch
from torch import nn

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import Arm, looks
from bn_experiments.oracles import bn_cosine, cosines_by_depth
from bn_experiments.probes.directions import effective_rank, mean_cosine
from bn_experiments.probes.directions_figures import directions
from bn_experiments.records.quantities import Quantity
from bn_experiments.run import run
from tests.cells_by_hand import a_result, write_cell
from tests.probes.runs import npz


def test_the_mean_cosine_and_the_effective_rank_are_those_of_numpy():
    z = np.random.default_rng(0).normal(size=(7, 3, 4))
    flat = z.reshape(7, -1)
    cosines = [
        flat[i] @ flat[j] / np.linalg.norm(flat[i]) / np.linalg.norm(flat[j]) for i in range(7) for j in range(i)
    ]
    singular = np.linalg.svd(flat, compute_uv=False) ** 2
    assert mean_cosine(torch.from_numpy(z)).item() == pytest.approx(np.mean(cosines))
    assert effective_rank(torch.from_numpy(z)).item() == pytest.approx(singular.sum() ** 2 / (singular**2).sum())


def test_parallel_and_orthogonal_examples():
    parallel = torch.tensor([[1.0, 2.0], [2.0, 4.0], [0.5, 1.0]])
    assert mean_cosine(parallel).item() == pytest.approx(1)
    assert effective_rank(parallel).item() == pytest.approx(1)
    centred = nn.BatchNorm1d(50, affine=False)(torch.randn(10, 50))
    assert mean_cosine(torch.eye(10)).item() == pytest.approx(0)
    assert mean_cosine(centred).item() == pytest.approx(-1 / 9, abs=0.01), "as far apart as ten examples can be"
    assert mean_cosine(torch.zeros(2, 3)).isnan()


def test_wide_networks_follow_the_oracles(compose_cell):
    keys = [
        "data=gaussian",
        "data.train_examples=null",
        "data.shape=[1,300]",
        "data.examples=200",
        "data.batch_size=20",
    ]
    keys += ["model.hidden=[300]", "model.repeat=8", "model.bias=false", "trainer.max_epochs=0"]
    keys += ["probes=[directions]", "data.classes=300", "replicas=6"]
    for norm, expected in (
        ("none", cosines_by_depth(9)),
        ("ln", cosines_by_depth(9)),
        ("bn", [0.0, *[bn_cosine(20)] * 8]),
    ):
        cell = compose_cell(*keys, f"norm={norm}")
        run(cell)
        arrays = npz(cell)
        found = arrays["directions/cosine"][0]
        assert arrays["directions/layer"].tolist() == [str(i) for i in range(1, 10)]
        spread = found.std(axis=0, ddof=1) / 6**0.5
        np.testing.assert_array_less(abs(found.mean(axis=0) - expected), 4 * spread + 2 / 300)


LAYERS = ["1", "2", "3"]


def theory(config) -> dict[str, float]:
    return {"1": 0.0, "2": 0.3, "3": 0.5}


@pytest.mark.parametrize("oracle", [None, f"{__name__}.theory"])
def test_the_figure_shows_the_means_and_the_theory(tmp_path, oracle):
    rng = np.random.default_rng(0)
    cosine, rank = rng.uniform(0, 1, (1, 5, 3)), rng.uniform(1, 9, (1, 5, 3))
    readings = {"directions/epochs": np.array([0]), "directions/layer": np.array(LAYERS)}
    readings |= {"directions/cosine": cosine, "directions/effective_rank": rank}
    metrics = {"test/acc": [0.5] * 5}
    folder = write_cell(tmp_path / "bn", "bn", metrics, probes=readings)
    arm = Arm("bn", folder, a_result("bn", metrics), looks({"bn": "bn"})["bn"])
    values = Quantity("bn", "directions/cosine", moment="start")
    claims = [Claim("c", "agreement", {"values": values, "margin": 0.1}, oracle=oracle)] if oracle else []
    drawing = directions({"bn": arm}, claims)
    for quantity, expected in (("cosine", cosine), ("effective_rank", rank)):
        rows = drawing.data[drawing.data["quantity"] == quantity]
        assert rows["layer"].tolist() == LAYERS
        np.testing.assert_allclose(rows["mean"], expected[0].mean(axis=0))
    assert ("theory" in drawing.caption) == (oracle is not None)
    assert ("theory" in drawing.svg) == (oracle is not None)
