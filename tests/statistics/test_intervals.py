import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bn_experiments.statistics.intervals import mean_interval, paired_difference

samples = st.lists(st.floats(-100, 100), min_size=2, max_size=30).filter(lambda x: np.std(x) > 1e-3)
pairs = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30).filter(
    lambda pairs: np.std([a - b for a, b in pairs]) > 1e-3
)


@given(samples, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
@settings(deadline=None)
def test_the_interval_of_a_mean_equals_scipys(values, confidence):
    estimate = mean_interval(values, confidence)
    expected = stats.t.interval(confidence, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert (estimate.mean, estimate.n) == (pytest.approx(np.mean(values)), len(values))


@given(pairs, st.sampled_from([0.9, 0.95]))
@settings(deadline=None)
def test_the_paired_difference_equals_scipys_paired_t_test(pairs, confidence):
    arm, baseline = zip(*pairs, strict=True)
    found = paired_difference(arm, baseline, confidence)
    expected = stats.ttest_rel(arm, baseline)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert found[1:3] == pytest.approx(expected.confidence_interval(confidence), rel=1e-9, abs=1e-9)
    assert found.mean == pytest.approx(np.mean(arm) - np.mean(baseline), abs=1e-12)
    assert found.n == len(pairs)


@given(pairs)
@settings(deadline=None)
def test_the_interval_excludes_zero_just_where_p_is_below_five_per_cent(pairs):
    arm, baseline = zip(*pairs, strict=True)
    found = paired_difference(arm, baseline)
    if abs(found.p - 0.05) > 1e-9:
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)


@pytest.mark.parametrize("n", [2, 6])
def test_the_95_per_cent_interval_covers_the_mean_in_95_per_cent_of_experiments(n):
    trials = 600
    draws = np.random.default_rng(n).normal(3.0, 2.0, (trials, n))
    covered = sum(estimate.low <= 3.0 <= estimate.high for estimate in map(mean_interval, draws))
    assert stats.binomtest(covered, trials, 0.95).pvalue > 0.001


def test_pairing_takes_out_what_both_arms_share():
    rng = np.random.default_rng(0)
    shared, noise = rng.normal(0, 1, 10), rng.normal(0, 0.01, (2, 10))
    found = paired_difference(shared + noise[0] + 0.1, shared + noise[1])
    assert found.low > 0
    assert found.high - found.low < 0.05


def test_swapping_the_arms_turns_the_difference_around():
    arm, baseline = np.random.default_rng(1).uniform(size=(2, 8))
    found, turned = paired_difference(arm, baseline), paired_difference(baseline, arm)
    assert turned[:4] == pytest.approx((-found.mean, -found.high, -found.low, 8))
    assert turned.p == pytest.approx(found.p)


def test_one_replica_has_a_mean_and_no_interval_and_none_has_nothing():
    assert mean_interval([0.25])[:1] + mean_interval([0.25])[3:] == (0.25, 1)
    assert mean_interval([]).n == 0
    numbers = [*mean_interval([0.25])[1:3], *mean_interval([])[:3]]
    one, none = paired_difference([0.75], [0.25]), paired_difference([], [])
    assert (one.mean, one.n, none.n) == (0.5, 1, 0)
    assert all(map(math.isnan, [*numbers, one.low, one.high, one.p, none.mean, none.low, none.high, none.p]))


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (0.25, 0.0), (-0.25, 0.0)])
def test_a_difference_without_spread_is_known_exactly(shift, p):
    baseline = [0.5, 0.25, 0.75]
    assert paired_difference([x + shift for x in baseline], baseline) == (shift, shift, shift, 3, p)


def test_a_difference_whose_spread_is_rounding_gives_no_warning():
    found = paired_difference([0.9, 0.8, 0.7], [0.8, 0.7, 0.6])
    assert found[:3] == pytest.approx((0.1, 0.1, 0.1))
    assert found.p < 1e-6


def test_arms_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 replicas against 3"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])
