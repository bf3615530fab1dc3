"""The figure of directions: means by layer, and what theory says where a claim names it."""

import numpy as np
import pytest

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import Arm, looks
from bn_experiments.probes.directions_figures import directions
from bn_experiments.records.quantities import Quantity
from tests.cells_by_hand import a_result, write_cell

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
