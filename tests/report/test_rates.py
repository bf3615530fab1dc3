"""The figures of tuned arms, from records written by hand: the same seeds at the same value, and what trains."""

import numpy as np
import pytest

from bn_experiments.figures.arms import Arm, looks
from bn_experiments.records.quantities import NotMeasured
from bn_experiments.records.tuning import Tuning
from bn_experiments.report.rates import by_value, difference_by_value
from bn_experiments.statistics.intervals import mean_interval
from tests.cells_by_hand import a_result

RATES, SEEDS, CHANCE = [0.01, 0.1, 1.0, 10.0], [1000, 1001, 1002], 0.1
BN = [[0.5, 0.6, 0.5], [0.7, 0.8, 0.9], [0.6, 0.7, 0.8], [0.1, 0.1, 0.5]]  # (P, R)
NONE = [[0.3, 0.4, 0.5], [0.6, 0.7, 0.8], [0.1, 0.1, 0.1], [0.1, 0.1, 0.1]]
JUDGED = {"bn": [0.81, 0.8, 0.85], "none": [0.7, 0.72, 0.69]}


@pytest.fixture
def arms(tmp_path) -> dict[str, Arm]:
    look, found = looks({"bn": "bn", "none": "none"}), {}
    for name, accuracies in (("bn", BN), ("none", NONE)):
        losses = [[2.0 - value for value in row] for row in accuracies]
        points = [{"optimizer.lr": rate, "init": "torch"} for rate in RATES]
        points.append({"optimizer.lr": 0.1, "init": "own"})  # which is not on the line through what was chosen
        metrics = {"val/acc": [*accuracies, [0.2] * 3], "val/loss": [*losses, [3.0] * 3]}
        record = Tuning("0", points, SEEDS, metrics, [[False] * 3] * 5, 1, {}, [], 1.0)
        (tmp_path / name).mkdir()
        record.write(tmp_path / name)
        result = a_result(name, {"val/acc": JUDGED[name]}, tuned=record.summary, chance={"val/acc": CHANCE})
        found[name] = Arm(name, tmp_path / name, result, look[name])
    return found


def test_each_arm_is_drawn_at_the_values_that_were_tried(arms):
    drawing = by_value(arms, [])
    rows = drawing.data[(drawing.data["metric"] == "val/acc") & (drawing.data["arm"] == "none")]
    assert rows["value"].tolist() == RATES
    np.testing.assert_allclose(rows["mean"], [100 * np.mean(row) for row in NONE])
    expected = np.clip(mean_interval([100 * value for value in NONE[0]])[:3], 0, 100)  # as accuracies are
    np.testing.assert_allclose(rows[["mean", "low", "high"]].iloc[0], expected)


def test_the_largest_value_that_trains_is_that_of_each_replica(arms):
    # half of the way from .1 to the best mean, .8, is .45: bn trains up to 1, 1 and 10, none up to .1
    center, low, high, _ = mean_interval(np.log([1, 1, 10]).tolist())
    caption = by_value(arms, []).caption
    assert f"bn up to at least {np.exp(center):.3g} [{np.exp(low):.3g}, {np.exp(high):.3g}]" in caption
    assert "none up to 0.1, and not at 1" in caption


def test_the_difference_is_paired_by_the_seeds_that_tune_and_at_the_best_by_those_that_are_judged(arms):
    data = difference_by_value(arms, []).data
    assert set(data["arm"]) == {"bn"}
    same, best = (data[data["at"] == at] for at in ("the same value", "each arm's best"))
    for row, own, other in zip(same.to_dict("records"), BN, NONE, strict=True):
        expected = mean_interval([100 * (one - two) for one, two in zip(own, other, strict=True)])
        np.testing.assert_allclose([row["mean"], row["low"], row["high"]], expected[:3])
    expected = mean_interval([100 * (one - two) for one, two in zip(JUDGED["bn"], JUDGED["none"], strict=True)])
    np.testing.assert_allclose(best[["mean", "low", "high"]].to_numpy()[0], expected[:3])


def test_arms_that_are_not_tuned_have_no_such_figure(arms):
    plain = {"bn": Arm("bn", arms["bn"].folder, a_result("bn", {"val/acc": [0.5]}), arms["bn"].look)}
    with pytest.raises(NotMeasured):
        by_value(plain, [])


def test_all_points_of_a_search_are_drawn_and_no_difference_at_the_same_value(arms):
    config = {"tune.trials": 5}
    searched = {
        name: Arm(name, arm.folder, a_result(name, {"val/acc": JUDGED[name]}, config=config, tuned={"x": {}}), arm.look)
        for name, arm in arms.items()
    }
    drawing = by_value(searched, [])
    rows = drawing.data[(drawing.data["metric"] == "val/acc") & (drawing.data["arm"] == "bn")]
    assert sorted(rows["value"]) == sorted([*RATES, 0.1])
    assert sorted(rows["mean"]) == pytest.approx(sorted(100 * np.mean(row) for row in [*BN, [0.2] * 3]))
    assert "as many in every arm; they differ in init too" in drawing.caption
    with pytest.raises(NotMeasured, match="other values in every arm"):
        difference_by_value(searched, [])
