import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bn_experiments.statistics.intervals import mean_interval, prediction_interval, rarest_failure

samples = st.lists(st.floats(-100, 100), min_size=2, max_size=30).filter(lambda x: np.std(x) > 1e-3)


@given(samples, st.sampled_from([0.5, 0.1, 0.05, 0.01]))
@settings(deadline=None)
def test_the_interval_of_a_mean_equals_scipys(values, level):
    estimate = mean_interval(values, level)
    expected = stats.t.interval(1 - level, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert (estimate.mean, estimate.n) == (pytest.approx(np.mean(values)), len(values))


@pytest.mark.parametrize("n", [2, 6])
def test_the_99_per_cent_interval_covers_the_mean_in_99_per_cent_of_experiments(n):
    trials = 2000
    draws = np.random.default_rng(n).normal(3.0, 2.0, (trials, n))
    covered = sum(estimate.low <= 3.0 <= estimate.high for estimate in map(mean_interval, draws))
    assert stats.binomtest(covered, trials, 0.99).pvalue > 0.001


def test_the_interval_of_one_further_run_holds_it_in_95_per_cent_of_experiments():
    draws = np.random.default_rng(1).normal(3.0, 2.0, (2000, 7))
    held = sum(low <= row[6] <= high for row in draws for _, low, high, _ in [prediction_interval(row[:6])])
    assert stats.binomtest(held, 2000, 0.95).pvalue > 0.001


def test_one_replica_has_a_mean_and_no_interval_and_none_has_nothing():
    assert mean_interval([0.25])[:1] + mean_interval([0.25])[3:] == (0.25, 1)
    assert mean_interval([]).n == 0
    assert all(map(math.isnan, [*mean_interval([0.25])[1:3], *mean_interval([])[:3]]))


@pytest.mark.parametrize("n", [1, 6, 10, 20])
def test_a_failure_rarer_than_the_bound_stays_unseen_in_more_than_five_per_cent_of_experiments(n):
    assert stats.binom.pmf(0, n, rarest_failure(n)) == pytest.approx(0.05)
    assert rarest_failure(n) == pytest.approx(stats.binomtest(0, n).proportion_ci(0.9).high)
