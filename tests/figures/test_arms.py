import numpy as np
import pandas as pd
import pytest

from bn_experiments.figures.arms import PERCENT, Arm, arms_in, joined, looks, points
from bn_experiments.records.quantities import NotMeasured
from bn_experiments.statistics.intervals import mean_interval


def test_every_arm_looks_its_own_way_and_none_is_grey():
    found = looks({name: name for name in ("bn", "none", "gn", "ln", "in", "rms", "wn")})
    assert found["none"].color == "#444444"
    assert len({look.color for look in found.values()}) == 7
    assert len({(str(look.dash), look.marker) for look in found.values()}) == 7


def test_points_leave_out_what_is_not_finite():
    values = np.array([[1.0, 2.0], [3.0, np.nan], [8.0, np.inf]])
    found = points(values, arm="bn", place=["a", "b"])
    assert found["arm"].tolist() == ["bn", "bn"]
    assert found["place"].tolist() == ["a", "b"]
    assert found["n"].tolist() == [3, 1]
    assert found["mean"].tolist() == [4.0, 2.0]
    assert found["low"].iloc[0] == mean_interval([1.0, 3.0, 8.0]).low


def test_intervals_end_at_what_can_be():
    values = np.array([[0.0, 50.0, 100.0], [100.0, 50.0, 100.0], [np.nan, 50.1, 100.0]])
    found = points(values, within=PERCENT)
    assert found["mean"].tolist() == pytest.approx([50.0, 50.0333, 100.0], abs=1e-3)
    assert found["low"].tolist() == pytest.approx([0.0, mean_interval([50, 50, 50.1]).low, 100.0])
    assert found["high"].tolist() == pytest.approx([100.0, mean_interval([50, 50, 50.1]).high, 100.0])
    assert np.isnan(points(values[:1], within=PERCENT)[["low", "high"]]).all(axis=None), "one replica has no interval"


def test_arms_without_numbers_are_not_drawn(tmp_path):
    arms = {name: Arm(name, tmp_path, None, None) for name in ("bn", "gn", "none")}
    assert [arm.name for arm in arms_in(pd.DataFrame({"arm": ["none", "bn", "none"]}), arms)] == ["bn", "none"]


def test_parts_are_joined_in_their_order_and_nothing_is_not_measured():
    assert joined(pd.DataFrame({"arm": [name]}) for name in ("bn", "none"))["arm"].tolist() == ["bn", "none"]
    with pytest.raises(NotMeasured):
        joined([])
