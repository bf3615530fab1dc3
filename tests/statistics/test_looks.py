"""Looks against Bonferroni's correction, the rule that judges, and simulated experiments."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from benchmarks.calibration import LOOKS, over_looks, p_at_looks
from bn_experiments.statistics.decisions import holm
from bn_experiments.statistics.intervals import LEVEL, widened
from bn_experiments.statistics.looks import first_decided, p_over_looks, stops
from bn_experiments.statistics.rules import difference
from bn_experiments.statistics.sizes import doubling, parsed

probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=6)


@given(probabilities)
@settings(deadline=None, max_examples=50)
def test_p_over_all_looks_is_the_smallest_of_bonferronis(ps):
    assert p_over_looks(ps, len(ps)) == pytest.approx(min(multipletests(ps, method="bonferroni")[1]))


@given(probabilities)
def test_further_looks_never_raise_p_and_p_is_below_the_level_just_where_a_look_decided(ps):
    so_far = [float(p_over_looks(ps[:k], 6)) for k in range(1, len(ps) + 1)]
    assert so_far == sorted(so_far, reverse=True)
    for k, p in enumerate(so_far, start=1):
        at = int(first_decided(ps[:k], 6, 0.3))
        assert (at >= 0) == (p <= 0.3)
        assert at == next((i for i in range(k) if 6 * ps[i] <= 0.3), -1)


def test_a_look_without_p_decides_nothing():
    assert p_over_looks([math.nan, 0.01], 3) == pytest.approx(0.03)
    assert math.isnan(p_over_looks([math.nan], 3))
    assert first_decided([[math.nan, 0.001], [math.nan, math.nan]], 3).tolist() == [1, -1]


@pytest.mark.parametrize("ps", [[], [0.1, 0.2, 0.3]])
def test_p_of_more_looks_than_were_fixed_are_refused(ps):
    for function in (p_over_looks, first_decided):
        with pytest.raises(ValueError, match=f"looks: {len(ps)} p for 2 looks; give one for each look so far"):
            function(ps, 2)


@pytest.mark.parametrize(("first", "last"), [(0, 10), (20, 10), (-5, -1)])
def test_looks_that_do_not_rise_are_refused(first, last):
    with pytest.raises(ValueError, match=f"doubling: from {first} to {last} replicas; give 1 <= first <= last"):
        doubling(first, last)


@given(st.integers(1, 50), st.integers(0, 500))
def test_looks_double_until_the_last_one(first, more):
    *sizes, last = doubling(first, first + more)
    assert [*sizes, last][0] == first
    assert last == first + more
    assert all(2 * one == two for one, two in itertools.pairwise(sizes))
    assert not sizes or sizes[-1] < last <= 2 * sizes[-1]


@given(st.lists(st.floats(-5, 5), min_size=6, max_size=20).filter(lambda x: np.ptp(x) > 1e-2), st.integers(1, 5))
@settings(deadline=None)
def test_the_interval_of_a_look_excludes_zero_just_where_its_p_is_at_most_the_level(values, looks):
    found = difference(values, np.zeros(len(values)))
    interval = widened(found.low, found.high, found.n, LEVEL / looks)
    low, high = stats.t.interval(1 - LEVEL / looks, len(values) - 1, np.mean(values), stats.sem(values))
    assert interval == pytest.approx((low, high), rel=1e-6, abs=1e-9)
    p = looks * min(found.p, found.p_against)
    if abs(p - LEVEL) > 1e-9:
        assert (p <= LEVEL) == (not interval[0] <= 0 <= interval[1])


def test_the_simulated_p_are_those_of_the_rule_that_judges():
    values = np.random.default_rng(0).normal(0.3, 1, (30, LOOKS[-1]))
    for row, ps in zip(values, p_at_looks(values, LOOKS), strict=True):
        for size, p in zip(LOOKS, ps, strict=True):
            found = difference(row[:size], np.zeros(size))
            assert p == pytest.approx(min(found.p, found.p_against), rel=1e-6)


@pytest.mark.parametrize("level", [0.05, LEVEL])
def test_looks_err_in_no_more_cases_than_their_level_where_peeking_errs_in_more(level):
    draws = 10_000
    found = over_looks(0.0, level, draws)
    assert stats.binomtest(round(found.decided * draws), draws, level, alternative="greater").pvalue > 0.001
    assert stats.binomtest(round(found.peeking * draws), draws, level, alternative="greater").pvalue < 1e-6
    assert stats.binomtest(round(found.at_once * draws), draws, level).pvalue > 0.001


def test_looks_find_a_large_effect_with_fewer_replicas_than_all_at_once():
    found = over_looks(1.2, LEVEL, 2000)
    assert found.decided > 0.99
    assert found.replicas < 25


@given(probabilities)
def test_one_claim_alone_stops_at_the_first_look_that_decides_it(ps):
    (stop,) = stops([[(p, 1.0) for p in ps]], 6)
    at = int(first_decided(ps, 6))
    assert (stop.outcome == "holds") == (at >= 0)
    assert stop.look == (at if at >= 0 else len(ps) - 1)
    assert stop.p == pytest.approx(float(p_over_looks(ps[: stop.look + 1], 6)))


@given(st.lists(st.lists(st.floats(0, 0.02), min_size=3, max_size=3), min_size=1, max_size=5))
def test_what_is_decided_is_not_asked_again_and_what_holm_says_is_of_all_claims(ps):
    found = stops([[(p, 1.0) for p in own] for own in ps], 3)
    seen, decided = [], set()  # look by look, as a sweep does that trains on what is open
    for k in range(3):
        so_far = [own[: k + 1] if i not in decided else seen[-1][i] for i, own in enumerate(ps)]
        seen.append(so_far)
        adjusted = holm([min(1.0, 3 * min(own)) for own in so_far])
        decided |= {i for i, p in enumerate(adjusted) if p <= LEVEL}
    assert {i for i, stop in enumerate(found) if stop.outcome == "holds"} == decided
    assert [stop.p for stop in found] == pytest.approx(adjusted)


@pytest.mark.parametrize(
    "text", ["80..10", "0..10", "10..10", [20, 10], [10], [10, 10], [0, 10], [1.5, 3], 10, "10", None]
)
def test_what_does_not_rise_is_no_looks(text):
    assert parsed(text) is None
