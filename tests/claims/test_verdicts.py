import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from bn_experiments.claims.contexts import of_experiment
from bn_experiments.claims.protocol import parse
from bn_experiments.claims.published import compare
from bn_experiments.claims.verdicts import judge, show, statistic, undecided, write
from bn_experiments.records.results import done_below
from bn_experiments.statistics.intervals import prediction_interval
from tests.cells_by_hand import ORIGIN, write_cell

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
    first, second, third, _ = judge(protocol(), done_below(sweep))
    assert (first.verdict, second.verdict, third.verdict) == ("holds", "fails", "holds")
    paired = stats.ttest_rel(BN, NONE)
    interval = paired.confidence_interval(0.99)
    assert (first.estimate, first.low, first.high) == pytest.approx((np.mean(BN) - np.mean(NONE), *interval))
    assert first.n == 6


def test_holms_correction_goes_over_the_claims_that_could_be_judged(sweep):
    alone = judge(protocol(claims=BLOCK["claims"][:1]), done_below(sweep))[0].p
    both = judge(protocol(claims=BLOCK["claims"][:2]), done_below(sweep))[0].p
    with_unmeasured = judge(protocol(claims=[BLOCK["claims"][0], BLOCK["claims"][3]]), done_below(sweep))[0].p
    assert both == pytest.approx(2 * alone)
    assert with_unmeasured == pytest.approx(alone)


def test_a_claim_about_what_was_not_measured_is_not_judged_and_says_why(sweep):
    last = judge(protocol(), done_below(sweep))[3]
    assert (last.verdict, last.estimate, last.p) == ("not judged", None, None)
    assert "sizes/acc was not measured" in last.reason


def test_an_arm_that_was_not_trained_leaves_its_claims_unjudged(tmp_path):
    write_cell(tmp_path / "bn", "bn", {"test/acc": BN})
    first, *_ = judge(protocol(), done_below(tmp_path))
    assert (first.verdict, first.reason) == ("not judged", "arm none was not trained")


def test_replicas_are_paired_by_seed_whatever_their_order(tmp_path):
    write_cell(tmp_path / "bn", "bn", {"test/acc": BN}, seeds=[5, 4, 3, 2, 1, 0])
    write_cell(tmp_path / "none", "none", {"test/acc": NONE[1:]}, seeds=[1, 2, 3, 4, 5])
    first, *_ = judge(protocol(), done_below(tmp_path))
    assert first.n == 5
    assert first.estimate == pytest.approx(np.mean(np.array(BN[:5])[::-1] - NONE[1:]))


def test_cells_of_other_settings_and_data_are_judged_apart(sweep):
    write_cell(sweep / "bn-2", "bn", {"test/acc": NONE}, overrides=["trainer.max_epochs=2"])
    write_cell(sweep / "none-2", "none", {"test/acc": BN}, overrides=["trainer.max_epochs=2"])
    write_cell(sweep / "bn-3", "bn", {"test/acc": BN}, data="mnist")
    found = of_experiment(protocol(), done_below(sweep))
    assert sorted(context.name for context in found) == [
        "data=mnist model=mlp optimizer=sgd",
        "data=mnist1d model=mlp optimizer=sgd",
        "data=mnist1d model=mlp optimizer=sgd trainer.max_epochs=2",
    ]
    verdicts = {(v.context, v.claim): v.verdict for v in judge(protocol(), done_below(sweep))}
    assert verdicts["data=mnist1d model=mlp optimizer=sgd", "bn is better"] == "holds"
    assert verdicts["data=mnist1d model=mlp optimizer=sgd trainer.max_epochs=2", "bn is better"] == "fails"


def test_all_claims_on_the_cells_of_a_folder_are_one_family(sweep):
    claim = BLOCK["claims"][:1]
    alone = judge(protocol(claims=claim), done_below(sweep))[0].p
    for norm, acc in {"bn": BN, "none": NONE}.items():
        write_cell(sweep / f"fashion-{norm}", data="fashion_mnist", norm=norm, metrics={"test/acc": acc})
    assert [found.p for found in judge(protocol(claims=claim), done_below(sweep))] == pytest.approx([2 * alone] * 2)


def test_a_claim_that_would_hold_alone_says_so_where_the_others_take_it_away(tmp_path):
    differences = [0.0, 0.01, 0.02, 0.04, 0.04, 0.06, 0.07, 0.08]
    write_cell(tmp_path / "bn", "bn", {"test/acc": [0.5 + difference for difference in differences]})
    write_cell(tmp_path / "none", "none", {"test/acc": [0.5] * 8})
    claim = BLOCK["claims"][0]
    (alone,) = judge(protocol(claims=[claim]), done_below(tmp_path))
    assert (alone.verdict, alone.note) == ("holds", None)
    assert alone.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    among = judge(protocol(claims=[{**claim, "claim": f"{i}"} for i in range(30)]), done_below(tmp_path))
    assert {(found.verdict, found.note) for found in among} == {("inconclusive", "holds alone")}


LOST = {"diverged": [True] + [False] * 5}


@pytest.mark.parametrize(
    ("quantity", "metrics", "judged"),
    [
        ({"metric": "test/acc"}, {"test/acc": [0.1, *BN[1:]]}, True),  # the accuracy of chance is what it scores
        ({"metric": "test/loss"}, {"test/acc": [0.1, *BN[1:]], "test/loss": [None, *BN[1:]]}, False),
        ({"metric": "scores/loss", "label": "test", "minus": "train"}, {"test/acc": [0.1, *BN[1:]]}, False),
        ({"metric": "scores/acc", "label": "test", "minus": "train"}, {"test/acc": [0.1, *BN[1:]]}, False),
        ({"metric": "scores/acc", "label": "test"}, {"test/acc": [0.1, *BN[1:]]}, True),
        ({"metric": "train/running_loss", "each": "epoch"}, {"test/acc": [0.1, *BN[1:]]}, False),
    ],
)
def test_a_claim_on_what_a_diverged_replica_does_not_have_is_not_judged(tmp_path, quantity, metrics, judged):
    rng = np.random.default_rng(0)
    probes = {
        "scores/epochs": np.array([1]),
        "scores/split": np.array(["train", "test"]),
        "scores/loss": rng.uniform(1, 2, (1, 6, 2)),
        "scores/acc": rng.uniform(0.5, 0.9, (1, 6, 2)),
    }
    curves = {"train/running_loss": [[2.0, float("nan")], *rng.uniform(1, 2, (5, 2)).tolist()]}
    write_cell(tmp_path / "bn", "bn", metrics, curves, probes, **LOST)
    fine = {name: [0.5 + i / 100 for i in range(6)] for name in metrics}
    finite = {"train/running_loss": rng.uniform(1, 2, (6, 2)).tolist()}
    write_cell(tmp_path / "none", "none", fine, finite, probes)
    rule = ("ordering", "upper", "lower") if "each" in quantity else ("difference", "left", "right")
    sides = {rule[1]: {"arm": "bn", **quantity}, rule[2]: {"arm": "none", **quantity}}
    (found,) = judge(protocol(claims=[{"claim": "c", "rule": rule[0], **sides}]), done_below(tmp_path))
    assert (found.verdict != "not judged") == judged
    assert judged or found.reason == "1 of 6 replicas diverged, which have no such number"


def test_two_arms_that_both_diverged_are_not_equivalent_in_their_loss(tmp_path):
    for norm in ("bn", "none"):
        metrics = {"test/acc": [0.1] * 6, "test/loss": [None] * 6}
        write_cell(tmp_path / norm, norm, metrics, diverged=[True] * 6)
    sides = {side: {"arm": arm, "metric": "test/loss"} for side, arm in (("left", "bn"), ("right", "none"))}
    claim = {"claim": "the same loss", "rule": "equivalence", **sides, "margin": 0.1}
    (found,) = judge(protocol(claims=[claim]), done_below(tmp_path))
    assert (found.verdict, found.reason) == ("not judged", "6 of 6 replicas diverged, which have no such number")


def test_accuracies_that_are_all_at_chance_prove_no_equivalence(tmp_path):
    for norm in ("bn", "none"):
        write_cell(tmp_path / norm, norm, {"test/acc": [0.1] * 6}, diverged=[True] * 6, chance={"test/acc": 0.128})
    sides = {side: {"arm": arm, "metric": "test/acc"} for side, arm in (("left", "bn"), ("right", "none"))}
    claim = {"claim": "the same accuracy", "rule": "equivalence", **sides, "margin": 0.1}
    (found,) = judge(protocol(claims=[claim]), done_below(tmp_path))
    assert (found.verdict, found.reason) == ("not judged", "every arm is at chance")


def test_a_claim_on_the_same_cells_is_judged_once(sweep):
    write_cell(sweep / "bn-eps", "bn", {"test/acc": NONE}, overrides=["norm.eps=5"])
    claims = [BLOCK["claims"][0], {**BLOCK["claims"][2], "left": {"arm": "none", "metric": "test/acc"}}]
    found = judge(protocol(claims=claims), done_below(sweep))
    assert [verdict.claim for verdict in found].count("bn is better") == 2
    assert [verdict.claim for verdict in found].count("bn is at nine tenths") == 1


def test_a_verdict_on_runs_of_mixed_code_is_marked(sweep):
    edited = {**ORIGIN, "versions": {"torch": "2.16.0"}}
    write_cell(sweep / "bn-2", "bn", {"test/acc": BN}, data="mnist", made_by=[edited])
    write_cell(sweep / "none-2", "none", {"test/acc": NONE}, data="mnist")
    found = judge(protocol(claims=BLOCK["claims"][:1]), done_below(sweep))
    assert {verdict.context.split()[0]: verdict.mixed_code for verdict in found} == {
        "data=mnist": True,
        "data=mnist1d": False,
    }


def test_an_arm_may_be_told_by_any_key_of_the_config(tmp_path):
    for examples in (None, 500):
        config = {"data.train_examples": examples}
        override = [f"data.train_examples={'null' if examples is None else examples}"]
        for norm, values in (("bn", BN), ("none", NONE)):
            folder = tmp_path / f"{norm}-{examples}"
            write_cell(folder, norm, {"test/acc": values}, config=config, overrides=override)
    arms = {
        "bn": {"norm": "bn", "data.train_examples": None},
        "none": {"norm": "none", "data.train_examples": 500},
    }
    (matched,) = of_experiment(protocol(arms=arms, axes=["norm", "data.train_examples"]), done_below(tmp_path))
    assert {arm: folder.name for arm, folder in matched.arms.items()} == {"bn": "bn-None", "none": "none-500"}


def test_a_published_number_is_compared_with_where_one_further_run_would_lie(sweep):
    made = protocol(published=[{"arm": "bn", "metric": "test/acc", "values": [number]} for number in (0.942, 0.945)])
    (matched,) = of_experiment(made, done_below(sweep))
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
    curves = {"train/running_loss": [[3.0, 2.0]] * 3}
    write_cell(tmp_path / "bn", "bn", {"test/acc": BN[:3]}, curves)
    made = protocol(
        published=[{"arm": "bn", "metric": "train/running_loss", "each": "epoch", "values": [3.0, 2.5, 1.0]}]
    )
    (matched,) = of_experiment(made, done_below(tmp_path))
    found = compare(made.published[0], matched)
    assert (found.mean, found.inside) == ([3.0, 2.0], [True, False])


def test_a_claim_whose_arms_have_different_settings_is_not_judged_and_the_key_is_said(tmp_path):
    write_cell(tmp_path / "bn", "bn", {"test/acc": BN}, overrides=["norm.eps=0.1"])
    write_cell(tmp_path / "ln", "ln", {"test/acc": NONE}, overrides=["norm.eps=0.2"])
    claim = {**BLOCK["claims"][0], "right": {"arm": "ln", "metric": "test/acc"}}
    made = protocol(arms={"bn": {"norm": "bn"}, "ln": {"norm": "ln"}}, claims=[claim])
    assert {(verdict.verdict, verdict.reason) for verdict in judge(made, done_below(tmp_path))} == {
        ("not judged", "arm ln was not trained with these settings, in which norm.eps is 0.1, not 0.2"),
        ("not judged", "arm bn was not trained with these settings, in which norm.eps is 0.2, not 0.1"),
    }


def test_a_curve_that_was_cut_short_is_not_judged_and_says_so(tmp_path):
    for norm, loss in {"bn": 1.0, "none": 2.0}.items():
        curves = {"train/running_loss": [[loss + i / 100, loss] for i in range(6)]}
        write_cell(tmp_path / norm, norm, {"test/acc": BN}, curves, config={"trainer.max_epochs": 2})
    sides = {
        side: {"arm": arm, "metric": "train/running_loss", "each": "epoch"}
        for side, arm in (("upper", "none"), ("lower", "bn"))
    }
    made = protocol(claims=[{"claim": "lower with bn", "rule": "ordering", **sides}])
    file = tmp_path / "bn" / "metrics.csv"
    table = pd.read_csv(file).sort_values("epoch", kind="stable")
    for left, said in ((12, None), (11, "has not one value for each replica and epoch"), (6, "ends at epoch 1 of 2")):
        table[:left].to_csv(file, index=False)
        (found,) = judge(made, done_below(tmp_path))
        assert (found.verdict == "not judged") == (said is not None)
        assert said is None or said in found.reason


def test_what_is_written_is_json_that_says_which_claim_holds(sweep):
    write(judge(protocol(), done_below(sweep)), sweep)
    protocol().write(sweep)
    records = json.loads((sweep / "verdicts.json").read_text())
    assert {"experiment", "claim", "rule", "verdict", "estimate", "low", "high", "n", "p"} <= set(records[0])
    assert [record["verdict"] for record in records] == ["holds", "fails", "holds", "not judged"]
    assert parse(json.loads((sweep / "experiment.json").read_text()))[0] == protocol()


def test_fewer_than_six_replicas_are_inconclusive_however_far_apart(tmp_path):
    write_cell(tmp_path / "bn", "bn", {"test/acc": BN[:5]})
    write_cell(tmp_path / "none", "none", {"test/acc": NONE[:5]})
    first, second, *_ = judge(protocol(), done_below(tmp_path))
    assert (first.verdict, second.verdict, first.n) == ("inconclusive", "inconclusive", 5)
    assert first.p < 0.001


def test_the_terminal_shows_each_claim_with_its_verdict(sweep):
    console = Console(width=120, record=True, file=io.StringIO())
    show(judge(protocol(), done_below(sweep)), console)
    text = console.export_text()
    lines = text.splitlines()
    (line,) = [line for line in lines if line.strip().startswith("bn is better")]
    assert lines[lines.index(line) + 1].strip() == "mean difference"
    assert "holds" in line
    assert "+5.833 points [+4.594" in line


def test_a_slope_over_the_logarithm_of_a_key_is_the_exponent(tmp_path):
    exponents, depths = np.array([-0.50, -0.52, -0.49, -0.51, -0.48, -0.53]), {"a": 2, "b": 4, "c": 16}
    for depth in depths.values():
        losses = (depth**exponents).tolist()
        write_cell(tmp_path / str(depth), "none", {"test/loss": losses}, overrides=[f"model.depth={depth}"])
    values = {"arm": list(depths), "metric": "test/loss"}
    claim = {"rule": "slope", "values": values, "near": -0.5, "margin": 0.08, "log": True}
    claims = [{"claim": over, "over": over, **claim} for over in ("log(model.depth)", "model.width")]
    arms = {name: {"model.depth": depth} for name, depth in depths.items()}
    first, second = judge(protocol(arms=arms, published=[], claims=claims, axes=["model.depth"]), done_below(tmp_path))
    assert (first.verdict, first.estimate) == ("holds", pytest.approx(exponents.mean()))
    assert statistic(first) == "mean slope against log(model.depth)"
    assert (second.verdict, second.reason) == ("not judged", "model.width is no number where model.width=null")


LOOKS = (6, 12)
CLEAR, UNCLEAR = np.linspace(0.030, 0.040, 12), np.tile([0.05, -0.04, 0.01], 4)  # differences of two claims


@pytest.fixture
def looked_at(tmp_path):
    """Three arms, of which one differs clearly from none in its first six seeds and not at all in the next six."""

    def sweep(name, replicas):
        base = np.linspace(0.5, 0.6, 12)
        clear = np.r_[CLEAR[:6], -5 * CLEAR[6:]]
        for norm, values in (("none", base), ("bn", base + clear), ("ln", base + UNCLEAR)):
            write_cell(tmp_path / name / norm, norm, {"test/acc": values[: replicas[norm]].tolist()})
        return done_below(tmp_path / name)

    return sweep


def test_a_decided_claim_stands_whatever_its_arms_show_later_and_open_ones_go_on(looked_at):
    arms = {norm: {"norm": norm} for norm in ("bn", "ln", "none")}
    claims = [
        {**BLOCK["claims"][0], "claim": norm, "left": {"arm": norm, "metric": "test/acc"}} for norm in ("bn", "ln")
    ]
    asked = protocol(arms=arms, claims=claims, published=[])
    first, both = looked_at("first", dict.fromkeys(arms, 6)), looked_at("both", dict.fromkeys(arms, 12))
    went_on = looked_at("went_on", {"bn": 6, "ln": 12, "none": 12})
    assert {folder.name for folder in undecided(asked, first, LOOKS)} == {"ln", "none"}
    for cells in (first, went_on, both):
        bn, _ = judge(asked, cells, LOOKS)
        assert (bn.verdict, bn.n, bn.note) == ("holds", 6, "at look 1 of 2")
        paired = stats.ttest_1samp(CLEAR[:6], 0)
        assert bn.p == pytest.approx(2 * 2 * paired.pvalue), "two looks, two claims"
        ends = paired.confidence_interval(1 - 0.01 / 2)
        assert (bn.low, bn.high) == pytest.approx((ends.low, ends.high))
    assert judge(asked, went_on, LOOKS) == judge(asked, both, LOOKS)
    _, ln = judge(asked, both, LOOKS)
    assert (ln.verdict, ln.n, ln.note) == ("inconclusive", 12, "at look 2 of 2")


def test_a_replica_that_diverges_later_takes_no_verdict_back_and_before_the_first_look_nothing_is_decided(looked_at):
    arms = {norm: {"norm": norm} for norm in ("bn", "ln", "none")}
    claims = [
        {**BLOCK["claims"][0], "claim": norm, "left": {"arm": norm, "metric": "test/acc"}} for norm in ("bn", "ln")
    ]
    asked = protocol(arms=arms, claims=claims, published=[])
    cells = looked_at("lost", dict.fromkeys(arms, 12))
    for folder, result in cells.items():
        lost = [i == 8 for i in range(12)] if folder.name != "none" else [False] * 12
        values = [None if own else value for own, value in zip(lost, result.metrics["test/acc"], strict=True)]
        replace(result, metrics={"test/acc": values}, diverged=lost).write(folder)
    bn, ln = judge(asked, done_below(next(iter(cells)).parent), LOOKS)
    assert (bn.verdict, bn.n) == ("holds", 6)
    assert (ln.verdict, ln.reason) == ("not judged", "1 of 12 replicas diverged, which have no such number")
    early, _ = judge(asked, looked_at("early", dict.fromkeys(arms, 11)), (12, 24))
    assert (early.verdict, early.p, early.note) == ("inconclusive", None, "before the first look, at 12 replicas")
