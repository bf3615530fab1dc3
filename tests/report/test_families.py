"""The figure of a family: a point for each arm that a claim names, beside what theory says."""

import numpy as np
import pytest

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import Arm, looks
from bn_experiments.records.quantities import NotMeasured, Quantity
from bn_experiments.report.families import family
from bn_experiments.statistics.intervals import mean_interval
from tests.cells_by_hand import a_result, write_cell

SIZES = (8, 64, 512)
RNG = np.random.default_rng(0)
SEEDS = {8: [0, 1, 2, 3], 64: [3, 2, 1, 0], 512: [1, 2, 3, 4]}  # of which all have 1, 2 and 3


def rate_of(config) -> float:
    return config["data"]["batch_size"] / 100


@pytest.fixture
def arms(tmp_path) -> dict[str, Arm]:
    look, found = looks({"bn": "bn", "none": "none"}), {}
    for norm in ("bn", "none"):
        for size in SIZES:
            metrics = {"test/acc": RNG.uniform(0.2, 0.9, 4).tolist()}
            of_it = {"config": {"data.batch_size": size}, "seeds": SEEDS[size]}
            folder = write_cell(tmp_path / f"{norm}-{size}", norm, metrics, **of_it)
            name = f"{norm}_{size}"
            found[name] = Arm(name, folder, a_result(norm, metrics, **of_it), look[norm])
    return found


def claim(norm: str, **more) -> Claim:
    quantity = Quantity([f"{norm}_{size}" for size in SIZES], "test/acc")
    return Claim("c", "agreement", {"values": quantity, "margin": 0.1}, **more)


def test_a_point_for_each_arm_of_the_seeds_that_all_have_against_what_tells_them_apart(arms):
    drawing = family(arms, [claim("bn", oracle=f"{__name__}.rate_of"), claim("none", oracle=0.5)])
    assert "data.batch_size" in drawing.title
    for norm in ("bn", "none"):
        rows = drawing.data[drawing.data["arm"] == norm]
        assert rows["value"].tolist() == list(SIZES)
        for size, row in zip(SIZES, rows.to_dict("records"), strict=True):
            result = arms[f"{norm}_{size}"].result
            own = [100 * result.metrics["test/acc"][result.seeds.index(seed)] for seed in (1, 2, 3)]
            np.testing.assert_allclose([row[key] for key in ("mean", "low", "high", "n")], mean_interval(own)[:4])
    assert "theory" in drawing.caption
    pair = Quantity(["bn_8", "bn_64"], "test/acc")
    smaller = Claim("c", "ordering", {"upper": pair, "lower": Quantity(["bn_64", "bn_512"], "test/acc")})
    again = family(arms, [claim("bn", oracle=f"{__name__}.rate_of"), claim("none", oracle=0.5), smaller])
    assert again.data.equals(drawing.data), "the whole family, not a part of it that another claim names"
    assert "theory" not in family(arms, [claim("bn")]).caption


def test_families_of_one_norm_are_told_apart_by_what_their_arms_names_begin_with(arms):
    more = arms | {f"bn_late_{size}": arms[f"none_{size}"] for size in SIZES}
    late = Quantity([f"bn_late_{size}" for size in SIZES], "test/acc")
    drawing = family(more, [claim("bn"), Claim("c", "agreement", {"values": late, "margin": 0.1}, oracle=0.5)])
    assert drawing.data["arm"].unique().tolist() == ["bn", "bn_late"]
    plain = {f"{size}": arms[f"bn_{size}"] for size in SIZES}
    of_norm = Claim("c", "agreement", {"values": Quantity(list(plain), "test/acc"), "margin": 0.1}, oracle=0.5)
    assert family(plain, [of_norm]).data["arm"].unique().tolist() == ["bn"]


def test_where_no_claim_is_about_a_family_nothing_is_drawn(arms):
    alone = Claim("c", "difference", {"left": Quantity("bn_8", "test/acc"), "right": 0.5})
    with pytest.raises(NotMeasured):
        family(arms, [alone])
    with pytest.raises(NotMeasured):
        family({"bn_8": arms["bn_8"]}, [claim("bn")])


def test_a_panel_for_each_metric_and_none_of_what_a_difference_should_be(arms):
    pair = {
        side: Quantity([f"{norm}_{size}" for size in SIZES], "test/acc")
        for side, norm in (("left", "bn"), ("right", "none"))
    }
    beside = Claim("c", "equivalence", {**pair, "margin": 0.1}, oracle=0.5)
    drawing = family(arms, [beside])
    assert set(drawing.data["arm"]) == {"bn", "none"}
    assert "theory" not in drawing.caption, "the oracle is of the difference"
