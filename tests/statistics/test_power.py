"""Power against statsmodels, scipy and simulated replicas."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from bn_experiments.statistics.evidence import Evidence
from bn_experiments.statistics.intervals import LEVEL, mean_interval, spread
from bn_experiments.statistics.looks import stops
from bn_experiments.statistics.power import (
    MOST,
    plan,
    power,
    replicas_for_difference,
    replicas_for_equivalence,
    smallest_difference,
    upper_limit,
)
from bn_experiments.statistics.rules import difference, equivalence, linear_over_exponential, slope

OPEN = np.array([0.1, 0.5, 0.3, 0.9, 0.2, 0.4, -0.1, 0.7])  # its mean is not yet decided against 0.2


def standard(n, mean=0.0):
    """n numbers of mean `mean` and standard deviation 1."""
    values = np.arange(n) - (n - 1) / 2
    return mean + values / values.std(ddof=1)


@pytest.mark.parametrize("level", [0.05, LEVEL, LEVEL / 7])
@pytest.mark.parametrize("effect", [0.0, 0.2, 0.7, 1.5, 4.0])
def test_the_power_equals_statsmodels_with_half_the_level_on_one_side(effect, level):
    n = np.array([6, 10, 34, 200])
    expected = [TTestPower().power(effect, each, level / 2, alternative="larger") for each in n]
    assert power(effect, n, level) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("level", [0.05, LEVEL, LEVEL / 7])
@pytest.mark.parametrize("effect", [0.25, 0.5, 1.0])
def test_the_replicas_for_a_difference_are_those_that_statsmodels_solves_for(effect, level):
    solved = TTestPower().solve_power(effect, None, level / 2, 0.8, alternative="larger")
    assert replicas_for_difference(effect, level) == math.ceil(solved)


@pytest.mark.parametrize("n", [6, 10, 80])
def test_the_smallest_difference_is_the_one_that_statsmodels_solves_for_with_the_upper_limit(n):
    solved = TTestPower().solve_power(None, n, LEVEL / 2, 0.8, alternative="larger")
    assert smallest_difference(3.0, n, LEVEL) == pytest.approx(upper_limit(3.0, n) * solved, rel=1e-5)


def test_five_replicas_find_no_difference_and_no_fewer_than_six_are_planned():
    assert math.isnan(smallest_difference(1.0, 5, LEVEL))
    assert replicas_for_difference(1e9, LEVEL) == replicas_for_equivalence(1e9, LEVEL) == 6


def test_more_replicas_than_are_counted_are_none():
    edge = next(effect for effect in np.linspace(0.1, 0.2, 200) if replicas_for_difference(effect, LEVEL))
    assert power(edge, MOST, LEVEL) >= 0.8 > power(edge - 1e-3, MOST, LEVEL)
    assert replicas_for_difference(0.0, LEVEL) is replicas_for_equivalence(0.01, LEVEL) is None


@pytest.mark.parametrize("n", [2, 6, 10, 30])
def test_the_upper_limit_lies_above_the_true_deviation_in_80_per_cent_of_samples(n):
    deviations = np.random.default_rng(n).normal(0, 2.0, (4000, n)).std(1, ddof=1)
    above = sum(upper_limit(sd, n) > 2.0 for sd in deviations)
    assert stats.binomtest(above, 4000, 0.8).pvalue > 0.001
    assert upper_limit(2.0, n) == pytest.approx(2.0 * ((n - 1) / stats.chi2.ppf(0.2, n - 1)) ** 0.5)


@pytest.mark.parametrize("effect", [0.4, 1.0])
def test_so_many_replicas_decide_a_difference_in_80_per_cent_of_simulated_experiments(effect):
    n = replicas_for_difference(effect, LEVEL)
    held = [simulated_power(count, lambda low, high: low > -effect) for count in (n - 1, n)]
    assert held[0] - 0.012 < 0.8 < held[1] + 0.012  # 4 standard errors of 20,000 draws


@pytest.mark.parametrize("margin", [0.4, 1.0])
def test_so_many_replicas_decide_an_equivalence_in_80_per_cent_of_simulated_experiments(margin):
    n = replicas_for_equivalence(margin, LEVEL)
    held = [simulated_power(count, lambda low, high: (-margin < low) & (high < margin)) for count in (n - 1, n)]
    assert held[0] - 0.012 < 0.8 < held[1] + 0.012


def simulated_power(n, holds):
    """The share of 20,000 samples of n standard normal numbers whose 99% interval is as it must be."""
    drawn = np.random.default_rng(n).normal(size=(20_000, n))
    half = stats.t.ppf(1 - LEVEL / 2, n - 1) * drawn.std(1, ddof=1) / n**0.5
    return np.mean(holds(drawn.mean(1) - half, drawn.mean(1) + half))


def test_an_open_difference_is_planned_for_the_smallest_effect_or_else_for_the_observed_one():
    found, sd = difference(OPEN, np.full(8, 0.2)), upper_limit(OPEN.std(ddof=1), 8)
    assert plan(found, LEVEL, 0.25) == (replicas_for_difference(0.25 / sd, LEVEL), 0.25, False)
    observed = OPEN.mean() - 0.2
    assert plan(found, LEVEL) == (replicas_for_difference(observed / sd, LEVEL), pytest.approx(observed), True)


def test_a_difference_that_points_the_other_way_is_planned_for_the_same_distance():
    there, back = difference(OPEN, np.full(8, 0.2)), difference(np.full(8, 0.2), OPEN)
    assert plan(there, LEVEL)[0] == plan(back, LEVEL)[0]


def test_an_open_equivalence_is_planned_for_its_margin_and_no_difference():
    found, sd = equivalence(OPEN, np.full(8, 0.2), margin=0.3), upper_limit(OPEN.std(ddof=1), 8)
    assert plan(found, LEVEL) == (replicas_for_equivalence(0.3 / sd, LEVEL), 0.3, False)
    near = slope(OPEN[:, None] * np.arange(4), near=0.2, margin=0.3)
    assert plan(near, LEVEL)[:2] == (plan(found, LEVEL)[0], pytest.approx(0.3))


def test_where_the_planned_replicas_are_there_and_the_claim_is_open_the_observed_distance_counts():
    found = equivalence(standard(60, 1.0), np.zeros(60), margin=1.05)
    assert stops([[(found.p, found.p_against)]], looks=1)[0].outcome == "inconclusive"
    assert replicas_for_equivalence(1.05 / upper_limit(1.0, 60), LEVEL) < 60
    planned = replicas_for_difference(0.05 / upper_limit(1.0, 60), LEVEL)
    assert plan(found, LEVEL) == (planned, pytest.approx(0.05), True)


@pytest.mark.parametrize("family", [1, 5])
def test_an_open_claim_is_never_planned_with_as_many_replicas_as_it_has(family):
    rng = np.random.default_rng(family)
    for n in (6, 10, 40):
        for row in rng.normal(0.4, 1, (40, n)):
            for found in (difference(row, np.zeros(n)), equivalence(row, np.zeros(n), margin=0.7)):
                planned = plan(found, LEVEL / family, 1.0 if found.region[1] == math.inf else None)
                if min(found.p, found.p_against) * family > LEVEL:
                    assert planned.replicas is None or planned.replicas > n


@pytest.mark.parametrize(
    "found",
    [
        difference([1.0], [0.5]),
        difference([], []),
        difference([1.0, math.nan, 2.0], [0.5] * 3),
        difference([1.0] * 6, [0.5] * 6),
        linear_over_exponential(-np.ones((6, 4))),
        Evidence(1.0, 0.5, 1.5, 10, 0.2, 1.0),
        Evidence(1.0, 0.5, 1.5, 10, 0.2, 1.0, region=(-math.inf, math.inf)),
    ],
)
def test_evidence_without_interval_spread_or_region_has_no_plan(found):
    assert plan(found, LEVEL) is None


def test_the_spread_is_read_off_the_interval():
    estimate = mean_interval(OPEN.tolist())
    assert spread(*estimate[1:]) == pytest.approx(OPEN.std(ddof=1))
    assert math.isnan(spread(math.nan, math.nan, 1))
