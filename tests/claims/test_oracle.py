"""Claims with an oracle: numbers, or a function of the configuration of the arm that is judged."""

import numpy as np
import pytest

from bn_experiments.claims.protocol import parse
from bn_experiments.claims.verdicts import judge
from bn_experiments.records.results import done_below
from bn_experiments.statistics.rules import agreement, equivalence, slope
from tests.cells_by_hand import write_cell

SIZES = (8, 16, 32)
RNG = np.random.default_rng(0)


def of_batch_size(config) -> float:
    return 1 + 1 / config["data"]["batch_size"]


def by_layer(config) -> dict[str, float]:
    return {"a": 1.0, "b": 2.0, "c": 3.0 + config["data"]["batch_size"]}


def without_the_label(config) -> dict[str, float]:
    return {"a": 1.0}


def curves(size: int) -> np.ndarray:
    """A probe's readings (R, L) near what `by_layer` says."""
    return np.array([1.0, 2.0, 3.0 + size]) + RNG.normal(0, 0.02, (8, 3))


@pytest.fixture
def sweep(tmp_path):
    """An arm for each batch size, with readings near what the oracles say."""
    for size in SIZES:
        readings = {"p/epochs": np.array([1]), "p/layer": np.array(["a", "b", "c"]), "p/x": curves(size)[None]}
        accuracies = (1 + 1 / size + RNG.normal(0, 0.005, 8)).tolist()
        config = {"data.batch_size": size}
        overrides = [f"data.batch_size={size}"]
        write_cell(
            tmp_path / f"{size}", "bn", {"test/acc": accuracies}, None, readings, config=config, overrides=overrides
        )
    return tmp_path


def protocol(*claims):
    arms = {f"bn_{size}": {"norm": "bn", "data.batch_size": size} for size in SIZES}
    block = {"name": "n", "title": "t", "source": "s", "arms": arms, "published": [], "claims": list(claims)}
    return parse(block)


def judged(sweep, **claim):
    found, refusals = protocol({"claim": "c", **claim})
    assert not refusals
    (verdict,) = judge(found, done_below(sweep))
    return verdict


def readings(sweep, size):
    with np.load(sweep / str(size) / "probes.npz") as arrays:
        return arrays["p/x"][0]


def accuracies(sweep):
    found = done_below(sweep)
    return np.stack([found[sweep / str(size)].metrics["test/acc"] for size in SIZES], axis=1)


OF_ALL = {"arm": [f"bn_{size}" for size in SIZES], "metric": "test/acc"}


def test_a_curve_over_arms_is_judged_against_the_oracle_of_each_arms_configuration(sweep):
    found = judged(sweep, rule="agreement", values=OF_ALL, oracle=f"{__name__}.of_batch_size", margin=0.02)
    expected = agreement(accuracies(sweep), [1 + 1 / size for size in SIZES], margin=0.02)
    assert (found.verdict, found.estimate, found.p, found.at) == ("holds", *expected[:1], expected.p, expected.at)


def test_a_curve_over_arms_goes_to_every_rule_for_curves(sweep):
    found = judged(sweep, rule="slope", values=OF_ALL, above=0.0)
    assert found.verdict == "fails"
    assert found.estimate == pytest.approx(slope(accuracies(sweep), above=0.0).estimate)


@pytest.mark.parametrize("labels", [None, ["c", "a"]])
def test_an_oracle_by_label_is_taken_at_the_labels_of_the_quantity(sweep, labels):
    quantity = {"arm": "bn_16", "metric": "p/x", **({"labels": labels} if labels else {})}
    found = judged(sweep, rule="agreement", values=quantity, oracle=f"{__name__}.by_layer", margin=0.1)
    columns = [2, 0] if labels else [0, 1, 2]
    expected = agreement(readings(sweep, 16)[:, columns], np.array([1.0, 2.0, 19.0])[columns], margin=0.1)
    assert (found.verdict, found.p, found.at) == ("holds", expected.p, expected.at)


def test_an_oracle_is_the_right_side_of_an_equivalence_and_the_middle_of_a_slope(sweep):
    quantity = {"arm": "bn_8", "metric": "p/x", "label": "c"}
    found = judged(sweep, rule="equivalence", left=quantity, oracle=f"{__name__}.by_layer", margin=0.2)
    assert found.p == equivalence(readings(sweep, 8)[:, 2], np.full(8, 11.0), margin=0.2).p
    found = judged(sweep, rule="slope", values={"arm": "bn_8", "metric": "p/x"}, oracle=5.0, margin=0.2)
    assert (found.verdict, found.p) == ("holds", slope(readings(sweep, 8), near=5.0, margin=0.2).p)


def test_what_an_oracle_cannot_answer_is_not_judged_and_says_why(sweep):
    quantity = {"arm": "bn_8", "metric": "p/x"}
    found = judged(sweep, rule="agreement", values=quantity, oracle=f"{__name__}.without_the_label", margin=0.1)
    assert found.verdict == "not judged"
    assert found.reason.startswith(f"the oracle {__name__}.without_the_label has no number here")


def test_several_arms_give_a_number_each(sweep):
    several = {"arm": ["bn_8", "bn_16"], "metric": "p/x"}
    assert "name a label" in judged(sweep, rule="slope", values=several, above=0.0).reason
    found = judged(sweep, rule="slope", values={**several, "label": "c"}, above=0.0)
    assert found.estimate == pytest.approx((readings(sweep, 16) - readings(sweep, 8))[:, 2].mean())


def test_a_quantity_of_a_probe_may_be_one_number_for_each_replica(tmp_path):
    for size in SIZES:
        own = {"p/epochs": np.array([1]), "p/layer": np.array(["a"]), "p/rate": RNG.normal(size, 0.1, (1, 8))}
        options = {"config": {"data.batch_size": size}, "overrides": [f"data.batch_size={size}"]}
        write_cell(tmp_path / f"{size}", "bn", {"test/acc": [0.5] * 8}, None, own, **options)
    sides = {side: {"arm": f"bn_{size}", "metric": "p/rate"} for side, size in (("left", 16), ("right", 8))}
    found = judged(tmp_path, rule="difference", **sides, above=7.0)
    assert (found.verdict, found.n) == ("holds", 8)
    assert found.estimate == pytest.approx(8, abs=0.3)


@pytest.mark.parametrize(
    ("claim", "line"),
    [
        ({"oracle": "nowhere.at_all"}, "experiment.claims[0].oracle=nowhere.at_all: its module nowhere cannot"),
        ({"oracle": "math.pi"}, "experiment.claims[0].oracle=math.pi: there is no function pi in math"),
        ({"oracle": []}, "experiment.claims[0].oracle=[]: wrong value"),
        ({"oracle": [True]}, "experiment.claims[0].oracle=[true]: wrong value"),
        ({"oracle": [1.0, 2.0]}, "experiment.claims[0]: agreement: 3 points against an oracle of the shape (2,)"),
        ({"oracle": 1.0, "rule": "ordering"}, "experiment.claims[0].oracle: ordering has no place for it"),
        ({}, "experiment.claims[0]: agreement got values, margin"),
        ({"oracle": 1.0, "values": {"arm": ["bn_8", "x"], "metric": "test/acc"}}, "experiment: x is no arm"),
    ],
)
def test_an_oracle_that_is_none_is_refused_before_anything_trains(claim, line):
    block = {"claim": "c", "rule": "agreement", "values": OF_ALL, "margin": 0.1, **claim}
    _, refusals = protocol(block)
    assert str(refusals[0]).startswith(line)


def of_the_ratio(config) -> float:
    return np.log(2.0)


def test_the_oracle_of_an_equivalence_of_two_quantities_is_what_their_difference_is_near(tmp_path):
    left, right = np.exp(RNG.normal(0, 0.01, (2, 1, 8, 3)))
    readings = {"p/epochs": np.array([1]), "p/layer": np.array(["a", "b", "c"]), "p/x": 2 * left, "p/y": right}
    overrides, config = ["data.batch_size=8"], {"data.batch_size": 8}
    for size in SIZES:
        config, overrides = {"data.batch_size": size}, [f"data.batch_size={size}"]
        write_cell(
            tmp_path / f"{size}", "bn", {"test/acc": [0.5] * 8}, None, readings, config=config, overrides=overrides
        )
    sides = {
        side: {"arm": "bn_8", "metric": f"p/{name}", "labels": ["a", "b"]}
        for side, name in (("left", "x"), ("right", "y"))
    }
    options = {"rule": "equivalence", "log": True, "margin": 0.05, **sides}
    near = judged(tmp_path, oracle=f"{__name__}.of_the_ratio", **options)
    assert near.verdict == "holds"
    assert abs(near.estimate) < 0.02
    assert judged(tmp_path, **options).verdict == "fails"
    expected = equivalence(2 * left[0, :, :2], right[0, :, :2], margin=0.05, log=True, near=np.log(2))
    assert near.estimate == pytest.approx(expected.estimate)


def test_a_spread_of_accuracies_that_is_below_chance_is_judged(tmp_path):
    values = 0.5 + RNG.normal(0, 0.01, (3, 8, 1))
    readings = {"p/epochs": np.array([1, 2, 3]), "p/split": np.array(["test"]), "p/eval_acc": values}
    for size in SIZES:
        config, overrides = {"data.batch_size": size}, [f"data.batch_size={size}"]
        write_cell(
            tmp_path / f"{size}", "bn", {"test/acc": [0.5] * 8}, None, readings, config=config, overrides=overrides
        )
    side = {"arm": "bn_8", "metric": "p/eval_acc", "label": "test", "moment": "spread"}
    assert judged(tmp_path, rule="difference", left=side, right=0.0).verdict == "holds"
