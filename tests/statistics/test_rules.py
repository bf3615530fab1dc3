import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from bn_experiments.statistics.intervals import mean_interval
from bn_experiments.statistics.looks import stops
from bn_experiments.statistics.rules import (
    RULES,
    Evidence,
    agreement,
    difference,
    equivalence,
    exponential_over_linear,
    interaction,
    linear_over_exponential,
    ordering,
    slope,
    slope_difference,
)

samples = st.lists(st.floats(-10, 10), min_size=2, max_size=20).filter(lambda x: np.ptp(x) > 1e-2)
probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=8)
POINTS = 6
STEPS = np.arange(POINTS)
EVEN = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
HALF = stats.t.ppf(0.995, 4) * EVEN.std(ddof=1) / 5**0.5  # of EVEN's 99% interval


def decide(evidence):
    """Where claims stand after the one look that there is."""
    return stops([[(each.p, each.p_against)] for each in evidence], looks=1)


def verdict(evidence):
    return decide([evidence])[0].outcome


def blank(evidence):
    return all(map(math.isnan, [evidence.estimate, evidence.low, evidence.high, evidence.p]))


@pytest.mark.parametrize(
    ("shift", "expected"),
    [(HALF + 1e-4, "holds"), (HALF - 1e-4, "inconclusive"), (-HALF + 1e-4, "inconclusive"), (-HALF - 1e-4, "fails")],
)
def test_a_difference_flips_where_the_interval_leaves_the_bound(shift, expected):
    assert verdict(difference(3.0 + shift + EVEN, np.full(5, 2.5), above=0.5)) == expected


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        (0.0, "holds"),
        (0.1 - HALF - 1e-4, "holds"),
        (0.1 - HALF + 1e-4, "inconclusive"),
        (0.1 + HALF - 1e-4, "inconclusive"),
        (0.1 + HALF + 1e-4, "fails"),
    ],
)
def test_an_equivalence_flips_at_the_margin_on_both_sides(side, shift, expected):
    assert verdict(equivalence(1 + side * shift + EVEN, np.ones(5), margin=0.1)) == expected


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(
    ("shift", "expected"),
    [(0.1 - HALF - 1e-4, "holds"), (0.1 - HALF + 1e-4, "inconclusive"), (0.1 + HALF + 1e-4, "fails")],
)
def test_a_slope_flips_at_the_margin_on_both_sides(side, shift, expected):
    curves = (2 + side * shift + EVEN)[:, None] * STEPS
    assert verdict(slope(curves, near=2.0, margin=0.1)) == expected
    assert verdict(slope(np.exp(curves), log=True, near=2.0, margin=0.1)) == expected


@pytest.mark.parametrize(("shift", "expected"), [(HALF + 1e-4, "holds"), (HALF - 1e-4, "inconclusive")])
def test_a_slope_flips_at_its_bound(shift, expected):
    assert verdict(slope((2 + shift + EVEN)[:, None] * STEPS, above=2.0)) == expected


@given(samples, st.floats(-5, 5))
@settings(deadline=None)
def test_a_difference_holds_just_where_its_interval_is_above_the_bound_and_fails_where_it_is_below(values, above):
    found = difference(values, np.zeros(len(values)), above=above)
    assume(min(abs(found.low - above), abs(found.high - above)) > 1e-9)
    expected = "holds" if found.low > above else "fails" if found.high < above else "inconclusive"
    assert verdict(found) == expected


@given(samples, st.floats(0.01, 20))
@settings(deadline=None)
def test_an_equivalence_holds_just_where_its_interval_is_inside_the_margin_and_fails_where_it_is_outside(
    values, margin
):
    found = equivalence(values, np.zeros(len(values)), margin=margin)
    assume(min(abs(abs(bound) - margin) for bound in (found.low, found.high)) > 1e-9)
    inside, outside = -margin < found.low <= found.high < margin, found.high < -margin or found.low > margin
    assert verdict(found) == ("holds" if inside else "fails" if outside else "inconclusive")


@given(st.lists(samples, min_size=2, max_size=6), st.floats(-5, 5))
@settings(deadline=None)
def test_among_other_claims_no_verdict_is_at_odds_with_its_interval(families, above):
    evidence = [difference(values, np.zeros(len(values)), above=above) for values in families]
    for found, decision in zip(evidence, decide(evidence), strict=True):
        assume(min(abs(found.low - above), abs(found.high - above)) > 1e-9)
        assert (decision.outcome == "holds") <= (found.low > above)
        assert (decision.outcome == "fails") <= (found.high < above)
        assert decision.outcome in ("inconclusive", verdict(found))


def test_ten_differences_that_are_all_above_zero_and_skewed_hold():
    values = [0.05, 0.1, 0.2, 0.21, 0.22, 0.23, 0.24, 0.25, 0.2, 0.21]  # a correction for skewness gave p = .067
    found = difference(values, np.zeros(10))
    assert found.low > 0
    assert verdict(found) == "holds"


@given(samples)
@settings(deadline=None)
def test_the_interval_is_students(values):
    found, student = difference(values, np.zeros(len(values))), mean_interval(values)
    assert found[:4] == pytest.approx(student, rel=1e-6)


@given(samples, st.floats(-3, 3), st.floats(0.01, 10))
@settings(deadline=None)
def test_p_of_an_equivalence_is_twice_ttosts(values, shift, margin):
    zero, shifted = np.zeros(len(values)), np.array(values) + shift
    expected = min(1.0, 2 * ttost_paired(shifted, zero, -margin, margin)[0])
    assert equivalence(shifted, zero, margin=margin).p == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(samples, samples)
@settings(deadline=None)
def test_the_smaller_p_of_a_difference_is_the_paired_t_tests(left, right):
    left, right = np.array(left[: len(right)]), np.array(right[: len(left)])
    assume(np.ptp(left - right) > 1e-2)
    found = difference(left, right)
    assert min(found.p, found.p_against) == pytest.approx(stats.ttest_rel(left, right).pvalue, rel=1e-6, abs=1e-12)
    assert found[:3] == pytest.approx([(left - right).mean(), *stats.ttest_rel(left, right).confidence_interval(0.99)])


def test_the_larger_of_two_arms_holds_fails_when_they_are_swapped():
    left, right = 1 + EVEN, EVEN[::-1]
    assert (verdict(difference(left, right)), verdict(difference(right, left))) == ("holds", "fails")


@given(st.lists(st.lists(st.floats(-5, 5), min_size=5, max_size=5), min_size=2, max_size=6), st.booleans())
@settings(deadline=None)
def test_the_slope_equals_numpys_polyfit(curves, log):
    y = np.array(curves)
    found = slope(np.exp(y) if log else y, log=log, above=0.0)
    expected = np.polynomial.polynomial.polyfit(np.arange(5), y.T, 1)[1].mean()
    assert found.estimate == pytest.approx(expected, abs=1e-9)


OVER = [2.0, 4.0, 8.0, 9.0]


@pytest.mark.parametrize(("x", "log"), [(OVER, False), (np.log(OVER), True), (OVER[::-1], False)])
def test_a_slope_over_places_is_numpys_polyfit_against_them(x, log):
    left, right = np.random.default_rng(2).uniform(1, 3, (2, 8, 4))
    fitted = [np.polyfit(x, (np.log(curve) if log else curve).T, 1)[0] for curve in (left, right)]
    assert slope(left, over=x, log=log, above=0.0).estimate == pytest.approx(fitted[0].mean())
    found = slope_difference(left, right, over=x, log=log)
    assert found.estimate == pytest.approx(np.mean(fitted[0] - fitted[1]))
    assert min(found.p, found.p_against) == pytest.approx(stats.ttest_rel(*fitted).pvalue)


@pytest.mark.parametrize("over", [[1.0, 2.0], [1.0, 1.0, 1.0], [1.0, 2.0, np.nan]])
def test_places_that_give_no_slope_are_refused(over):
    with pytest.raises(ValueError, match=r"slope: over=.*; give a number for each of 3 points, not all equal"):
        slope(np.ones((4, 3)), over=over, above=0.0)


@pytest.mark.parametrize("points", [3, 5, 20])
@pytest.mark.parametrize("step", [-0.045, 0.1, 1.0, 50.0])
def test_an_exactly_linear_curve_is_told_from_an_exponential_one(points, step):
    curves = np.array([0.5, 1.0, 2.0])[:, None] * (1 + step * np.arange(points))
    assert verdict(linear_over_exponential(curves)) == "holds"
    assert verdict(exponential_over_linear(curves)) == "fails"


@pytest.mark.parametrize("points", [3, 5, 20])
@pytest.mark.parametrize("rate", [-5.0, -0.1, 0.1, 2.0, 20.0])
def test_an_exactly_exponential_curve_is_told_from_a_linear_one(points, rate):
    curves = np.array([0.5, 1.0, 2.0])[:, None] * np.exp(rate * np.arange(points))
    assert verdict(exponential_over_linear(curves)) == "holds"
    assert verdict(linear_over_exponential(curves)) == "fails"


def test_neither_curve_fits_a_constant_better():
    curves = np.array([[1.0] * 5, [2.0] * 5, [3.0] * 5])
    assert linear_over_exponential(curves) == exponential_over_linear(curves) == (0, 0, 0, 3, 1, 0, None, (0, math.inf))


@pytest.mark.parametrize("noise", [0.05, 0.5, 3.0])
def test_the_aic_difference_is_that_of_scipys_least_squares(noise):
    z = np.random.default_rng(2).normal(0, noise, (8, POINTS)) + 0.2 * STEPS
    t = STEPS / (POINTS - 1)
    with np.errstate(divide="ignore"):
        start, end = np.log1p(-t), np.log(t)

    def rss(row):  # a = e^u and a + b (P - 1) = e^v are positive; several starts, for there may be several minima
        starts = ([row.mean() + shift, row.mean() - shift] for shift in (0, 0.5, -0.5, 3 * noise, -3 * noise))
        fits = [
            optimize.least_squares(lambda ends: np.logaddexp(ends[0] + start, ends[1] + end) - row, x) for x in starts
        ]
        return 2 * min(fit.cost for fit in fits)

    line = [np.polynomial.polynomial.polyfit(STEPS, row, 1, full=True)[1][0][0] for row in z]
    expected = np.mean([POINTS * np.log(exponential / rss(row)) for exponential, row in zip(line, z, strict=True)])
    assert linear_over_exponential(np.exp(z)).estimate == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_the_values_changes_no_rule_that_has_no_margin(scale):
    rng = np.random.default_rng(3)
    upper, lower = rng.uniform(1.3, 3.3, (8, POINTS)), rng.uniform(1, 3, (8, POINTS))
    for rule, arrays in [
        (difference, (upper[:, 0], lower[:, 0])),
        (slope, (upper,)),
        (linear_over_exponential, (upper,)),
        (exponential_over_linear, (upper,)),
        (ordering, (upper, lower)),
        (slope_difference, (upper, lower)),
        (interaction, (upper[:, 0], lower[:, 0], upper[:, 1], lower[:, 1])),
    ]:
        options = {"above": 0.0} if rule is slope else {}
        plain, scaled = rule(*arrays, **options), rule(*(scale * x for x in arrays), **options)
        assert scaled.p == pytest.approx(plain.p, rel=1e-6)
        assert scaled.p_against == pytest.approx(plain.p_against, rel=1e-6)
        assert scaled.at == plain.at
    plain, scaled = (slope(x, log=True, above=0.1) for x in (upper, scale * upper))
    assert scaled[:5] == pytest.approx(plain[:5], rel=1e-6)
    plain, scaled = (
        equivalence(x[:, 0], 0 * x[:, 0] + m, margin=m) for x, m in ((upper, 2.0), (scale * upper, 2 * scale))
    )
    assert scaled.p == pytest.approx(plain.p, rel=1e-6)


@pytest.mark.parametrize("worst", range(4))
def test_an_ordering_is_decided_by_its_worst_point(worst):
    rng = np.random.default_rng(worst)
    lower = rng.normal(0, 0.1, (10, 4))
    upper = lower + 1 + rng.normal(0, 0.1, (10, 4))
    upper[:, worst] -= 0.95
    found = ordering(upper, lower)
    alone = difference(upper[:, worst], lower[:, worst])
    assert found == alone._replace(at=worst, p_against=min(1.0, 4 * alone.p_against))
    assert found.p == max(difference(upper[:, j], lower[:, j]).p for j in range(4))


@pytest.mark.parametrize(("shift", "expected"), [(0.01, "inconclusive"), (HALF, "inconclusive"), (0.06, "fails")])
def test_an_ordering_fails_at_one_point_whose_bonferroni_interval_is_below_zero(shift, expected):
    differences = np.stack([1 + EVEN, 2 + EVEN, EVEN - shift, 1 - EVEN], axis=1)
    found = ordering(differences, np.zeros((5, 4)))
    assert (verdict(found), found.at) == (expected, 2)
    assert found.estimate == pytest.approx(-shift)
    assert (verdict(found) == "fails") == (mean_interval((EVEN - shift).tolist(), 0.01 / 4).high <= 0)


def test_of_two_points_below_zero_an_ordering_shows_the_one_further_below():
    differences = np.stack([EVEN - 0.3, EVEN - 0.5, EVEN - 0.4], axis=1)
    assert ordering(differences, np.zeros((5, 3))).at == 1


def claim(p, p_against=1.0):
    return Evidence(1.0, 0.5, 1.5, 10, p, p_against)


def test_holms_correction_equals_a_case_by_hand():
    found = decide([claim(p) for p in (0.002, 0.008, 0.006, 0.001)] + [claim(1.0, p) for p in (0.0015, 0.002)])
    words = [decision.outcome for decision in found]
    # for, in order: 6 x .001, 5 x .002, 4 x .006; against: 6 x .0015, 5 x .002
    assert words == ["holds", "inconclusive", "inconclusive", "holds", "fails", "fails"]
    assert [decision.p for decision in found] == pytest.approx([0.01, 0.024, 0.024, 0.006, 0.009, 0.01])


@given(probabilities)
@settings(deadline=None, max_examples=10)
def test_holms_correction_equals_statsmodels_and_the_formula(ps):
    found = [decision.p for decision in decide([claim(p) for p in ps])]
    order = np.argsort(ps, kind="stable")
    by_hand = np.maximum.accumulate([min(1.0, (len(ps) - i) * ps[j]) for i, j in enumerate(order)])
    assert found == pytest.approx(multipletests(ps, method="holm")[1])
    assert np.array(found)[order] == pytest.approx(by_hand)


@pytest.mark.parametrize("side", [1, -1])
def test_of_seven_claims_that_are_just_true_or_just_false_a_false_verdict_comes_in_few_families(side):
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(1000):
        drawn = rng.normal(0, 1, (7, 10))
        outcomes = {d.outcome for d in decide([difference(side * row, np.zeros(10)) for row in drawn])}
        wrong += ("fails" if side > 0 else "holds") in outcomes
    assert stats.binomtest(wrong, 1000, 0.005, alternative="greater").pvalue > 0.001


def test_evidence_without_p_is_inconclusive_and_changes_no_other_claim():
    untested = claim(math.nan, math.nan)
    claims = [claim(p) for p in (0.002, 0.003)]
    found = decide([untested, claims[0], untested, claims[1]])
    assert [found[1], found[3]] == decide(claims)
    assert [decision.outcome for decision in found] == ["inconclusive", "holds", "inconclusive", "holds"]
    assert math.isnan(found[0].p)
    assert math.isnan(decide([untested])[0].p)
    assert decide([]) == []


def every_rule(curves, flat=0.0):
    """Each rule's evidence on curves (R, P), against `flat` where it compares two arms."""
    other = np.full_like(curves, flat)
    return {
        "difference": difference(curves[:, 0], other[:, 0]),
        "interaction": interaction(curves[:, 0], other[:, 0], curves[:, 1], other[:, 1]),
        "equivalence": equivalence(curves[:, 0], other[:, 0], margin=0.5),
        "agreement": agreement(curves, [1.0] * curves.shape[1], margin=0.5),
        "slope": slope(curves, near=0.0, margin=0.5),
        "slope_difference": slope_difference(curves, other),
        "linear_over_exponential": linear_over_exponential(curves),
        "exponential_over_linear": exponential_over_linear(curves),
        "ordering": ordering(curves, other),
    }


@pytest.mark.parametrize("log", [False, True])
def test_an_agreement_is_decided_by_its_least_certain_point(log):
    rng = np.random.default_rng(int(log))
    oracle = np.exp(rng.normal(0, 1, 4)) + 1
    values = oracle * np.exp(rng.normal(0, 0.02, (10, 4)))
    values[:, 2] *= 1.05
    values[::2, 1] *= 1.2  # which varies more, and is no further from the oracle on average
    values[1::2, 1] /= 1.2
    found = agreement(values, oracle, margin=0.2, log=log)
    alone = [equivalence(values[:, j], np.full(10, oracle[j]), margin=0.2, log=log) for j in range(4)]
    at = int(np.argmax([one.p for one in alone]))
    assert found == alone[at]._replace(at=at, p_against=min(1.0, 4 * alone[at].p_against))
    assert found.estimate == pytest.approx(np.mean((np.log(values / oracle) if log else values - oracle)[:, at]))
    assert agreement(values[:, 0], oracle[0], margin=0.2, log=log) == alone[0]._replace(at=0)


@pytest.mark.parametrize("log", [False, True])
def test_differences_of_slopes_and_of_differences_equal_those_by_hand(log):
    rng = np.random.default_rng(5)
    left, right = rng.uniform(1, 3, (8, 5)), rng.uniform(1, 3, (8, 5))
    y = [np.log(curve) if log else curve for curve in (left, right)]
    slopes = [np.polyfit(np.arange(5), curve.T, 1)[0] for curve in y]
    expected = stats.ttest_rel(*slopes)
    found = slope_difference(left, right, log=log)
    assert found.estimate == pytest.approx(np.mean(slopes[0] - slopes[1]))
    assert min(found.p, found.p_against) == pytest.approx(expected.pvalue)
    found = interaction(left[:, 0], right[:, 0], left[:, 1], right[:, 1], log=log)
    expected = stats.ttest_rel(y[0][:, 0] - y[1][:, 0], y[0][:, 1] - y[1][:, 1])
    assert min(found.p, found.p_against) == pytest.approx(expected.pvalue)


def test_on_a_logarithmic_scale_the_unit_does_not_matter():
    rng = np.random.default_rng(6)
    left, right = rng.uniform(1, 2, 8), rng.uniform(1, 2, 8)
    for rule, options in ((difference, {"above": 0.1}), (equivalence, {"margin": 0.3})):
        plain, scaled = rule(left, right, log=True, **options), rule(1e6 * left, 1e6 * right, log=True, **options)
        assert scaled[:6] == pytest.approx(plain[:6], rel=1e-6)


def test_every_rule_is_found_under_its_name():
    assert list(RULES) == list(every_rule(np.ones((3, 4))))
    assert all(rule.__name__ == name for name, rule in RULES.items())


@pytest.mark.parametrize("replicas", [0, 1])
def test_below_two_replicas_every_claim_is_inconclusive(replicas):
    for found in every_rule(np.array([[1.0, 2.0, 4.0, 3.0]])[:replicas]).values():
        assert (found.n, verdict(found)) == (replicas, "inconclusive")
        assert all(map(math.isnan, [found.low, found.high, found.p, found.p_against]))
        assert math.isnan(found.estimate) == (replicas == 0)


def test_two_replicas_are_enough_for_every_rule():
    curves = np.array([[1.0, 2.0, 4.0, 3.0], [1.5, 2.5, 2.0, 4.0]])
    assert all(math.isfinite(x) for found in every_rule(curves).values() for x in found[:6])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_drops_nothing_and_decides_nothing(bad):
    curves = np.random.default_rng(4).uniform(1, 2, (5, 4))
    curves[2, 0] = bad
    for found in every_rule(curves).values():
        assert blank(found)
        assert (found.n, verdict(found)) == (5, "inconclusive")
    assert blank(ordering(curves, curves))


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_a_value_without_a_logarithm_decides_nothing(bad):
    curves = np.random.default_rng(4).uniform(1, 2, (5, 4))
    curves[2, 1] = bad
    for found in (
        slope(curves, log=True, above=0.0),
        slope_difference(curves, curves + 3, log=True),
        linear_over_exponential(curves),
        difference(curves[:, 1], curves[:, 0], log=True),
        equivalence(curves[:, 0], curves[:, 1], margin=1.0, log=True),
        interaction(curves[:, 0], curves[:, 2], curves[:, 1], curves[:, 3], log=True),
        agreement(curves, np.ones(4), margin=1.0, log=True),
        agreement(curves + 3, [1.0, bad, 1.0, 1.0], margin=1.0, log=True),
    ):
        assert (blank(found), found.n) == (True, 5)


@pytest.mark.parametrize(
    ("shift", "above", "within"),
    [(0.25, "holds", "holds"), (0.0, "fails", "holds"), (-0.25, "fails", "holds"), (0.5, "holds", "fails")],
)
def test_replicas_without_spread_decide_exactly(shift, above, within):
    right = np.array([0.5, 0.25, 0.75])
    for found, expected in (
        (difference(right + shift, right), above),
        (equivalence(right + shift, right, margin=0.5), within),
        (ordering((right + shift)[:, None], right[:, None]), above),
        (interaction(right + shift, right, right, right), above),
        (agreement(np.full((3, 1), 0.5 + shift), [0.5], margin=0.5), within),
    ):
        assert found[:4] == (shift, shift, shift, 3)
        assert (found.p, found.p_against) == ((0.0, 1.0) if expected == "holds" else (1.0, 0.0))
        assert verdict(found) == expected


def test_a_spread_of_rounding_is_none_and_is_not_above_zero():
    left, right = np.array([0.1 + 0.2, 0.7 + 0.1, 0.6]), np.array([0.3, 0.8, 0.6])
    assert left[0] > right[0]
    assert difference(left, right).p == 1.0
    assert difference([0.9, 0.8, 0.7], [0.8, 0.7, 0.6]).p == 0.0


def test_a_single_outlier_among_equal_replicas_gives_no_warning():
    found = difference([1.0] * 9 + [0.5], [0.0] * 10)
    assert verdict(found) == "holds"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: difference([1.0, 2.0], [1.0, 2.0, 3.0]), "difference: 2 replicas against 3; pair them by seed"),
        (lambda: equivalence([1.0], [1.0, 2.0], margin=1.0), "equivalence: 1 replicas against 2"),
        (lambda: difference([[1.0]], [[1.0]]), r"difference: arrays of shape .*; give \(R\)"),
        (lambda: ordering(np.ones((2, 3)), np.ones((3, 3))), "ordering: 2 replicas against 3"),
        (lambda: ordering(np.ones((2, 3)), np.ones((2, 4))), "ordering: 3 points against 4"),
        (lambda: ordering(np.ones((2, 0)), np.ones((2, 0))), "1 points or more"),
        (lambda: equivalence([1.0], [1.0], margin=0.0), "margin=0.0; give the largest difference"),
        (lambda: slope(np.ones((2, 3)), near=1.0, margin=-1.0), "margin=-1.0; give the largest difference"),
        (lambda: slope(np.ones((2, 1)), above=0.0), "2 points or more"),
        (lambda: slope(np.ones((2, 3))), "give above, or near and margin"),
        (lambda: slope(np.ones((2, 3)), near=1.0), "give above, or near and margin"),
        (lambda: slope(np.ones((2, 3)), above=1.0, margin=1.0), "give above, or near and margin"),
        (lambda: slope(np.ones((2, 3)), above=1.0, near=1.0, margin=1.0), "give above, or near and margin"),
        (lambda: linear_over_exponential(np.ones((2, 2))), "linear_over_exponential: .* 3 points or more"),
        (lambda: exponential_over_linear(np.ones(5)), "exponential_over_linear: an array of shape"),
        (lambda: agreement(np.ones((2, 3)), np.ones(2), margin=1.0), "agreement: 3 points against an oracle of the"),
        (lambda: agreement(np.ones((2, 3)), 1.0, margin=0.0), "agreement: margin=0.0; give the largest difference"),
        (lambda: agreement(np.ones((2, 0)), 1.0, margin=1.0), "agreement: .* 1 points or more"),
        (lambda: slope_difference(np.ones((2, 3)), np.ones((2, 4))), "slope_difference: 3 points against 4"),
        (lambda: slope_difference(np.ones((2, 1)), np.ones((2, 1))), "slope_difference: .* 2 points or more"),
        (lambda: interaction([1.0], [1.0], [1.0, 2.0], [1.0, 2.0]), "interaction: 1 replicas against 2; pair them"),
        (lambda: interaction([1.0], [1.0, 2.0], [1.0], [1.0]), "interaction: 1 replicas against 2"),
    ],
)
def test_what_no_rule_can_read_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


NOISES = {  # mean 0, standard deviation 1
    "normal": lambda rng, shape: rng.normal(size=shape),
    "lognormal": lambda rng, shape: (rng.lognormal(size=shape) - np.e**0.5) / (np.e * (np.e - 1)) ** 0.5,
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
}


def false_claims(noise, n):
    """By rule, evidence for a claim that is false by as little as can be: the mean is at the region's edge."""
    curve = (n, POINTS)
    return {
        "difference": lambda: difference(noise(n), noise(n)),
        "equivalence": lambda: equivalence(noise(n) + 4, noise(n), margin=4.0),
        "slope above": lambda: slope(noise(curve) + 0.3 * STEPS, above=0.3),
        "slope near": lambda: slope(np.exp(0.1 * noise(curve) + 0.5 * STEPS), log=True, near=0.4, margin=0.1),
        "linear_over_exponential": lambda: linear_over_exponential(np.exp(0.05 * noise(curve))),
        "exponential_over_linear": lambda: exponential_over_linear(np.exp(0.05 * noise(curve))),
        "ordering": lambda: ordering(noise(curve), noise(curve)),
        "interaction": lambda: interaction(noise(n), noise(n), noise(n), noise(n)),
        "slope_difference": lambda: slope_difference(noise(curve) + STEPS, noise(curve) + STEPS),
        "agreement": lambda: agreement(noise(curve) - noise(curve) + STEPS + 4, STEPS, margin=4.0),
        "agreement but for one point": lambda: agreement(
            noise(curve) - noise(curve) + 4 * (STEPS == 2), 0.0, margin=4.0
        ),
        "ratio": lambda: difference(np.exp(noise(n)), np.exp(noise(n)), log=True),
        "ordering but for one point": lambda: ordering(noise(curve) + 9 * (STEPS != 2), noise(curve)),
    }


def true_claims(noise, n, effect):
    """By rule, evidence for a claim that is true by `effect` standard deviations."""
    curve, line = (n, POINTS), 1 + 2.0 * STEPS
    return {
        "difference": lambda: difference(noise(n) + effect, noise(n)),
        "equivalence": lambda: equivalence(noise(n), noise(n), margin=effect),
        "slope above": lambda: slope(noise(curve) + effect * STEPS, above=0.0),
        "slope near": lambda: slope(noise(curve) + STEPS, near=1.0, margin=effect),
        "linear_over_exponential": lambda: linear_over_exponential(line * np.exp(0.1 * noise(curve))),
        "exponential_over_linear": lambda: exponential_over_linear(np.exp(0.5 * STEPS + 0.1 * noise(curve))),
        "ordering": lambda: ordering(noise(curve) + effect, noise(curve)),
        "interaction": lambda: interaction(noise(n) + effect, noise(n), noise(n), noise(n)),
        "slope_difference": lambda: slope_difference(noise(curve) + effect * STEPS, noise(curve)),
        "agreement": lambda: agreement(noise(curve) + STEPS, STEPS, margin=effect),
        "ratio": lambda: difference(np.exp(noise(n) + effect), np.exp(noise(n)), log=True),
    }


def rate(name, simulate, trials):
    """The share of experiments in which a claim alone comes out so."""
    return sum(verdict(simulate()) == name for _ in range(trials)) / trials


@pytest.mark.slow
@pytest.mark.parametrize("n", [6, 10])
@pytest.mark.parametrize("name", NOISES)
def test_a_claim_that_is_just_false_holds_in_at_most_five_per_cent_of_2000_experiments(name, n):
    rng = np.random.default_rng(n)
    rates = {
        rule: rate("holds", simulate, 2000)
        for rule, simulate in false_claims(lambda shape: NOISES[name](rng, shape), n).items()
    }
    assert max(rates.values()) <= 0.05, rates


@pytest.mark.slow
@pytest.mark.parametrize("name", NOISES)
def test_a_clear_effect_is_found_in_over_eighty_per_cent_of_experiments(name):
    rng = np.random.default_rng(1)
    rates = {
        rule: rate("holds", simulate, 300)
        for rule, simulate in true_claims(lambda shape: NOISES[name](rng, shape), 10, 6.0).items()
    }
    assert min(rates.values()) > 0.8, rates  # the power that studies are commonly planned for (Cohen 1988)


@pytest.mark.slow
@pytest.mark.parametrize("name", NOISES)
def test_a_claim_that_is_just_true_fails_in_at_most_five_per_cent_of_experiments(name):
    rng = np.random.default_rng(2)
    rates = {
        rule: rate("fails", simulate, 1000)
        for rule, simulate in true_claims(lambda shape: NOISES[name](rng, shape), 10, 0.01).items()
        if rule
        not in (
            "equivalence",
            "agreement",
            "slope near",
        )  # true by a hair is an interval of a hair: any estimate is outside
    }
    rates["equivalence"] = rate(
        "fails", lambda: equivalence(NOISES[name](rng, 10) + 0.99, NOISES[name](rng, 10), margin=1.0), 1000
    )
    curve = (10, POINTS)
    rates["agreement"] = rate(
        "fails", lambda: agreement(NOISES[name](rng, curve) - NOISES[name](rng, curve) + 0.99, 0.0, margin=1.0), 1000
    )
    assert max(rates.values()) <= 0.05, rates


@pytest.mark.parametrize("log", [False, True])
def test_an_equivalence_near_a_number_is_that_of_what_is_shifted(log):
    rng = np.random.default_rng(0)
    left, right = np.exp(rng.normal(0, 0.1, (2, 10)))
    differences = np.log(left / right) if log else left - right
    found = equivalence(left, right, margin=0.3, near=-0.7, log=log)
    assert found.estimate == pytest.approx(differences.mean())
    assert found.p == pytest.approx(equivalence(differences, np.full(10, -0.7), margin=0.3).p)
    assert found.region == pytest.approx((-1.0, -0.4))


def test_an_equivalence_of_curves_is_the_agreement_of_their_difference():
    rng = np.random.default_rng(1)
    left, right = rng.normal(0, 0.1, (2, 10, 4))
    left[:, 2] += 0.15
    for near in (0.0, [0.0, 0.0, 0.1, 0.0]):
        found = equivalence(left, right, margin=0.4, near=near)
        assert found == agreement(left - right, near, margin=0.4)
        assert near != 0.0 or found.at == 2


@pytest.mark.parametrize("near", [[0.0, 0.0], [[0.0] * 4]])
def test_an_equivalence_near_numbers_of_another_count_is_refused(near):
    with pytest.raises(ValueError, match="equivalence: a difference of the shape"):
        equivalence(np.ones((3, 4)), np.ones((3, 4)), margin=1.0, near=near)
