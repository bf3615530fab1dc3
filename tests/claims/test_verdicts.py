import io
import json

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from bn_experiments.claims.protocol import parse
from bn_experiments.claims.published import compare
from bn_experiments.claims.verdicts import cells_in, judge, matched_arms, show, write
from bn_experiments.statistics.intervals import prediction_interval
from tests.cells_by_hand import write_cell

BN = [0.90, 0.92, 0.91, 0.93, 0.92, 0.91]
NONE = [0.85, 0.86, 0.84, 0.88, 0.86, 0.85]

BLOCK = {
    "name": "small",
    "title": "A small one",
    "source": "nobody",
    "arms": {"bn": {"norm": "bn"}, "none": {"norm": "none"}},
    "published": [{"arm": "bn", "metric": "test/acc", "values": [0.92]}],
    "claims": [
        {
            "claim": "bn is better",
            "rule": "difference",
            "left": {"arm": "bn", "metric": "test/acc"},
            "right": {"arm": "none", "metric": "test/acc"},
        },
        {
            "claim": "none is better",
            "rule": "difference",
            "left": {"arm": "none", "metric": "test/acc"},
            "right": {"arm": "bn", "metric": "test/acc"},
        },
        {
            "claim": "bn is at nine tenths",
            "rule": "equivalence",
            "left": {"arm": "bn", "metric": "test/acc"},
            "right": 0.9,
            "margin": 0.05,
        },
        {
            "claim": "the sizes differ from zero",
            "rule": "difference",
            "left": {"arm": "bn", "metric": "sizes/acc", "label": "7"},
            "right": 0.0,
        },
    ],
    "axes": ["norm"],
}


def protocol(**changes):
    found, refusals = parse({**BLOCK, **changes})
    assert refusals == []
    return found


@pytest.fixture
def sweep(tmp_path):
    write_cell(tmp_path / "small" / "bn", "bn", {"test/acc": BN})
    write_cell(tmp_path / "small" / "none", "none", {"test/acc": NONE})
    return tmp_path / "small"


def test_a_claim_is_judged_on_the_paired_replicas_of_its_arms(sweep):
    first, second, third, _ = judge(protocol(), cells_in(sweep))
    assert (first.verdict, second.verdict, third.verdict) == ("holds", "fails", "holds")
    paired = stats.ttest_rel(BN, NONE)
    interval = paired.confidence_interval()
    assert (first.estimate, first.low, first.high) == pytest.approx((np.mean(BN) - np.mean(NONE), *interval))
    assert first.n == 6


def test_holms_correction_goes_over_the_claims_that_could_be_judged(sweep):
    alone = judge(protocol(claims=BLOCK["claims"][:1]), cells_in(sweep))[0].p
    both = judge(protocol(claims=BLOCK["claims"][:2]), cells_in(sweep))[0].p
    with_unmeasured = judge(protocol(claims=[BLOCK["claims"][0], BLOCK["claims"][3]]), cells_in(sweep))[0].p
    assert both == pytest.approx(2 * alone)
    assert with_unmeasured == pytest.approx(alone)


def test_a_claim_about_what_was_not_measured_is_not_judged_and_says_why(sweep):
    last = judge(protocol(), cells_in(sweep))[3]
    assert (last.verdict, last.estimate, last.p) == ("not judged", None, None)
    assert "sizes/acc was not measured" in last.reason


def test_an_arm_that_was_not_trained_leaves_its_claims_unjudged(tmp_path):
    write_cell(tmp_path / "bn", "bn", {"test/acc": BN})
    first, *_ = judge(protocol(), cells_in(tmp_path))
    assert (first.verdict, first.reason) == ("not judged", "arm none was not trained")


def test_replicas_are_paired_by_seed_whatever_their_order(tmp_path):
    write_cell(tmp_path / "bn", "bn", {"test/acc": BN}, seeds=[5, 4, 3, 2, 1, 0])
    write_cell(tmp_path / "none", "none", {"test/acc": NONE[1:]}, seeds=[1, 2, 3, 4, 5])
    first, *_ = judge(protocol(), cells_in(tmp_path))
    assert first.n == 5
    assert first.estimate == pytest.approx(np.mean(np.array(BN[:5])[::-1] - NONE[1:]))


def test_cells_of_other_settings_and_data_are_judged_apart(sweep):
    write_cell(sweep / "bn-2", "bn", {"test/acc": NONE}, overrides=["replicas=6"])
    write_cell(sweep / "none-2", "none", {"test/acc": BN}, overrides=["replicas=6"])
    write_cell(sweep / "bn-3", "bn", {"test/acc": BN}, data="mnist")
    found = matched_arms(protocol(), cells_in(sweep))
    assert sorted(matched.context for matched in found) == [
        "data=mnist model=mlp optimizer=sgd",
        "data=mnist1d model=mlp optimizer=sgd",
        "data=mnist1d model=mlp optimizer=sgd replicas=6",
    ]
    verdicts = {(v.context, v.claim): v.verdict for v in judge(protocol(), cells_in(sweep))}
    assert verdicts["data=mnist1d model=mlp optimizer=sgd", "bn is better"] == "holds"
    assert verdicts["data=mnist1d model=mlp optimizer=sgd replicas=6", "bn is better"] == "fails"


def test_a_claims_p_does_not_change_when_other_data_are_tried(sweep):
    def p():
        found = judge(protocol(), cells_in(sweep))
        return {v.claim: v.p for v in found if "data=mnist " in v.context or "data=mnist1d " in v.context}

    before = p()
    for norm, acc in {"bn": BN, "none": NONE}.items():
        write_cell(sweep / f"fashion-{norm}", data="fashion_mnist", norm=norm, metrics={"test/acc": acc})
    assert p() == before


def test_an_arm_may_be_told_by_any_key_of_the_config(tmp_path):
    for examples in (None, 500):
        config = {"data": {"train_examples": examples}}
        override = [f"data.train_examples={'null' if examples is None else examples}"]
        for norm, values in (("bn", BN), ("none", NONE)):
            folder = tmp_path / f"{norm}-{examples}"
            write_cell(folder, norm, {"test/acc": values}, config=config, overrides=override)
    arms = {
        "bn": {"norm": "bn", "data.train_examples": None},
        "none": {"norm": "none", "data.train_examples": 500},
    }
    (matched,) = matched_arms(protocol(arms=arms, axes=["norm", "data.train_examples"]), cells_in(tmp_path))
    assert {arm: folder.name for arm, folder in matched.arms.items()} == {"bn": "bn-None", "none": "none-500"}


def test_a_published_number_is_compared_with_where_one_further_run_would_lie(sweep):
    made = protocol(published=[{"arm": "bn", "metric": "test/acc", "values": [number]} for number in (0.942, 0.945)])
    (matched,) = matched_arms(made, cells_in(sweep))
    inside, outside = (compare(published, matched) for published in made.published)
    mean, spread = np.mean(BN), np.std(BN, ddof=1)
    half = stats.t.ppf(0.975, 5) * spread * (1 + 1 / 6) ** 0.5
    assert (inside.mean[0], inside.low[0], inside.high[0]) == pytest.approx((mean, mean - half, mean + half))
    assert 0.942 < mean + half < 0.945
    assert (inside.inside, outside.inside) == ([True], [False])


def test_the_prediction_interval_holds_a_further_value_in_ninety_five_per_cent():
    random = np.random.default_rng(0)
    samples = random.normal(size=(4000, 11))
    found = [prediction_interval(sample[:10].tolist()) for sample in samples]
    inside = np.mean([e.low <= last <= e.high for e, last in zip(found, samples[:, 10], strict=True)])
    assert inside == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / 4000) ** 0.5)


def test_a_published_curve_is_compared_as_far_as_it_was_measured(tmp_path):
    curves = {"train/loss": [[3.0, 2.0]] * 3}
    write_cell(tmp_path / "bn", "bn", {"test/acc": BN[:3]}, curves)
    made = protocol(published=[{"arm": "bn", "metric": "train/loss", "each": "epoch", "values": [3.0, 2.5, 1.0]}])
    (matched,) = matched_arms(made, cells_in(tmp_path))
    found = compare(made.published[0], matched)
    assert (found.mean, found.inside) == ([3.0, 2.0], [True, False])


def test_what_is_written_is_json_that_says_which_claim_holds(sweep):
    write(protocol(), sweep)
    protocol().write(sweep)
    records = json.loads((sweep / "verdicts.json").read_text())
    assert {"experiment", "claim", "rule", "verdict", "estimate", "low", "high", "n", "p"} <= set(records[0])
    assert [record["verdict"] for record in records] == ["holds", "fails", "holds", "not judged"]
    assert parse(json.loads((sweep / "experiment.json").read_text()))[0] == protocol()


def test_fewer_than_six_replicas_are_inconclusive_however_far_apart(tmp_path):
    write_cell(tmp_path / "bn", "bn", {"test/acc": BN[:5]})
    write_cell(tmp_path / "none", "none", {"test/acc": NONE[:5]})
    first, second, *_ = judge(protocol(), cells_in(tmp_path))
    assert (first.verdict, second.verdict, first.n) == ("inconclusive", "inconclusive", 5)
    assert first.p < 0.001


def test_the_terminal_shows_each_claim_with_its_verdict(sweep):
    console = Console(width=120, record=True, file=io.StringIO())
    show(judge(protocol(), cells_in(sweep)), console)
    text = console.export_text()
    (line,) = [line for line in text.splitlines() if line.strip().startswith("bn is better")]
    assert "holds" in line
    assert "+0.05833 [+0.05043" in line
