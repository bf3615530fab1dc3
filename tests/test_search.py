"""Search: points that Optuna proposes, as many in every arm, and the same whenever they are asked for."""

import json
import math
import signal
import sys

import pytest

from bn_experiments.config import search, space
from bn_experiments.config.check import check_cells
from bn_experiments.records import tuning
from bn_experiments.run import run
from bn_experiments.system import interruption
from bn_experiments.training.module import Classification

SPACE = ["++tune.optimizer.lr=1e-3..10", "++tune.optimizer.weight_decay=1e-5..1e-2", "++tune.data.batch_size=8..256"]
SPACE += ["++tune.init=[torch,he_uniform]", "++tune.optimizer.momentum=[0,0.5,0.9]"]
SMALL = ["probes=[]", "++tune.replicas=2", "data.train_examples=150", "data.batch_size=25"]


def searched(config, trials, accuracy):
    """The points of a whole search, and how many were proposed at once."""
    points, sizes = [], []
    while proposed := search.proposed(config, points, [accuracy(point) for point in points]):
        points += proposed
        sizes.append(len(proposed))
    return points, sizes


def likes_a_rate_of_one(point) -> float:
    return 1 - abs(math.log10(point["optimizer.lr"])) / 3


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_stays_in_its_space_and_spends_its_budget(compose_cell, sampler):
    config = compose_cell(*SPACE, "++tune.trials=20", f"++tune.sampler={sampler}").config
    points, sizes = searched(config, 20, likes_a_rate_of_one)
    assert sizes == [8, 8, 4]
    for point in points:
        assert 1e-3 <= point["optimizer.lr"] <= 10
        assert 1e-5 <= point["optimizer.weight_decay"] <= 1e-2
        assert type(point["data.batch_size"]) is int
        assert 8 <= point["data.batch_size"] <= 256
        assert point["init"] in ("torch", "he_uniform")
        assert point["optimizer.momentum"] in (0, 0.5, 0.9)
        assert point["optimizer.lr"] == float(f"{point['optimizer.lr']:.4g}")
    assert len({json.dumps(point) for point in points}) == 20
    assert {point["init"] for point in points} == {"torch", "he_uniform"}


def test_a_search_is_a_function_of_what_was_tried_and_starts_alike_in_every_arm(compose_cell):
    keys = [*SPACE, "++tune.trials=24"]
    one, other = (compose_cell(f"norm={norm}", *keys).config for norm in ("bn", "none"))
    points, _ = searched(one, 24, likes_a_rate_of_one)
    assert searched(one, 24, likes_a_rate_of_one)[0] == points
    assert search.proposed(one, points[:8], [likes_a_rate_of_one(point) for point in points[:8]]) == points[8:16]
    assert search.proposed(other, [], []) == points[:8]
    assert searched(one, 24, lambda point: -likes_a_rate_of_one(point))[0][16:] != points[16:]


def test_the_search_goes_where_the_accuracy_is_high_and_a_random_one_does_not(compose_cell):
    def distance(points):
        return sum(abs(math.log10(point["optimizer.lr"])) for point in points[24:]) / len(points[24:])

    tpe, random = (
        compose_cell("++tune.optimizer.lr=1e-3..1000", "++tune.trials=48", f"++tune.sampler={sampler}").config
        for sampler in ("tpe", "random")
    )
    found = [distance(searched(config, 48, likes_a_rate_of_one)[0]) for config in (tpe, random)]
    assert found[0] < 1.5 / 2  # 1.5 is the mean distance of a random point, in powers of ten
    assert found[1] > 1.5 / 2


def test_the_ends_of_a_range_are_its_outermost_tenths(compose_cell):
    config = compose_cell("++tune.optimizer.lr=1e-3..10", "++tune.optimizer.momentum=[0,0.5,0.9]", "++tune.trials=9")
    for rate, momentum, expected in (
        (2e-3, 0.5, {"optimizer.lr": "low"}),
        (3e-3, 0.5, {}),
        (3.9, 0.9, {"optimizer.momentum": "high"}),
        (4.1, 0, {"optimizer.lr": "high", "optimizer.momentum": "low"}),
    ):
        point = {"optimizer.lr": rate, "optimizer.momentum": momentum}
        tried = [point, {"optimizer.lr": 0.1, "optimizer.momentum": 0}, {"optimizer.lr": 1, "optimizer.momentum": 0.9}]
        assert search.edges(config.config, tried, point) == expected


def test_an_arm_is_judged_at_the_best_point_and_a_search_that_is_cut_ends_alike(compose_cell, monkeypatch):
    keys = ["++tune.optimizer.lr=1e-3..10", "++tune.optimizer.weight_decay=1e-5..1e-2", "++tune.trials=10", *SMALL]
    whole, cut = (compose_cell(*keys, f"name={name}") for name in ("whole", "cut"))
    expected = run(whole)
    record = tuning.read(whole.folder)
    assert len(record.points) == 10
    best = max(range(10), key=lambda i: sum(record.metrics["val/acc"][i]))
    assert sum(record.metrics["val/acc"][best]) == sum(record.metrics["val/acc"][record.chosen])
    assert expected.tuned["optimizer.lr"]["value"] == record.points[record.chosen]["optimizer.lr"]
    step, taken = Classification.training_step, []

    def counted(self, block, index):
        taken.append(self.replicas.size)
        if taken.count(4) == 1:  # in the second round, of two points
            signal.raise_signal(signal.SIGTERM)
        return step(self, block, index)

    monkeypatch.setattr(Classification, "training_step", counted)
    with pytest.raises(interruption.Interrupted), interruption.listening(), interruption.deferred():
        run(cut)
    monkeypatch.undo()
    assert run(cut).metrics == expected.metrics
    again = tuning.read(cut.folder)
    assert (again.points, again.metrics, again.chosen) == (record.points, record.metrics, record.chosen)


@pytest.mark.parametrize(("trials", "accuracy"), [(19, likes_a_rate_of_one), (12, lambda point: 0.5)])
def test_of_a_grid_no_point_is_tried_twice(compose_cell, trials, accuracy):
    keys = ["++tune.optimizer.lr=[0.01,0.03,0.1,0.3,1]", "++tune.optimizer.momentum=[0,0.5,0.9,0.95]"]
    points, _ = searched(compose_cell(*keys, f"++tune.trials={trials}").config, trials, accuracy)
    assert len({json.dumps(point) for point in points}) == len(points) == trials


def test_a_point_that_cannot_be_trained_counts_as_the_worst(compose_cell):
    cell = compose_cell("norm=gn", "++tune.norm.num_groups=1..10", "++tune.trials=9", *SMALL)
    assert check_cells([cell]) == []
    result, record = run(cell), tuning.read(cell.folder)
    groups = [point["norm.num_groups"] for point in record.points]
    assert len(set(groups)) == 9
    refused = [group for group in groups if 100 % group]
    assert len(refused) >= 3, "of 3, 6, 7, 8 and 9"
    for group, accuracies, diverged in zip(groups, record.metrics["val/acc"], record.diverged, strict=True):
        assert (accuracies == [None, None] and diverged == [True, True]) == (group in refused)
    assert 100 % result.tuned["norm.num_groups"]["value"] == 0


def test_points_that_give_the_same_numbers_are_trained_once(compose_cell, monkeypatch):
    keys = ["norm=none", "++tune.norm.scale_init=0.1..10", "++tune.optimizer.lr=[0.01,0.1]", "++tune.trials=12", *SMALL]
    cell, sizes = compose_cell(*keys), []
    start = Classification.on_train_start
    monkeypatch.setattr(
        Classification, "on_train_start", lambda self: (sizes.append(self.replicas.size), start(self))[1]
    )
    run(cell)
    record = tuning.read(cell.folder)
    assert len(record.points) == 12, "the budget is that of every arm"
    assert sizes == [4, 2], "two rates with two seeds, and the judged run"
    by_rate = {
        point["optimizer.lr"]: found for point, found in zip(record.points, record.metrics["val/acc"], strict=True)
    }
    for point, found in zip(record.points, record.metrics["val/acc"], strict=True):
        assert found == by_rate[point["optimizer.lr"]]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["++tune.optimizer.lr=1e-3..10"], "tune.optimizer.lr=1e-3..10: says not how many values"),
        (["++tune.optimizer.lr=10..1", "++tune.trials=9"], "tune.optimizer.lr=10..1: is no range"),
        (["++tune.data.batch_size=1.5..9", "++tune.trials=9"], "tune.data.batch_size=1.5..9: is no range"),
        (["++tune.trials=9"], "tune.trials=9: nothing is tuned"),
        (["++tune.replicas=5"], "tune.replicas=5: nothing is tuned"),
        (["++tune.optimizer.lr=1e-3..10:9", "++tune.trials=9"], "tune.trials=9: all there is are 9 points"),
        (["++tune.optimizer.lr=1e-3..10", "++tune.trials=1"], "tune.trials=1: wrong value"),
        (["++tune.optimizer.lr=1e-3..10", "++tune.trials=9", "++tune.sampler=cma"], "tune.sampler=cma: wrong value"),
        (["++tune.norm.num_groups=1..9", "norm=gn", "++tune.trials=9"], "norm.num_groups=9"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_its_key(compose_cell, overrides, line):
    assert str(check_cells([compose_cell(*overrides)])[0]).startswith(line)


def test_without_optuna_the_refusal_says_what_to_install(compose_cell, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    (refusal,) = check_cells([compose_cell("++tune.optimizer.lr=1e-3..10", "++tune.trials=9")])
    assert str(refusal).startswith("tune.trials: optuna is not installed; allowed: optuna")
    assert space.trials_of(compose_cell().config) is None
    assert check_cells([compose_cell("++tune.optimizer.lr=[0.1,1]")]) == []
