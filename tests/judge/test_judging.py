"""The judge says of a table what the bench says of the sweep that it was exported from."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bn_experiments.claims import verdicts
from bn_experiments.claims.protocol import parse
from bn_experiments.claims.summary import summarise
from bn_experiments.judge.__main__ import main
from bn_experiments.judge.judging import compared, judge
from bn_experiments.judge.table import read
from bn_experiments.records.results import done_below
from bn_experiments.records.table import collect
from bn_experiments.refusal import Refusal
from bn_experiments.statistics.intervals import LEVEL
from bn_experiments.statistics.power import replicas_for_difference, upper_limit
from tests.cells_by_hand import write_cell

EXAMPLES = Path(__file__).parents[2] / "docs" / "judge"
CLAIMS = [
    "bn > none on test/acc",
    "bn < ln by 0.5 on test/loss",
    "ln = none within 0.05 on test/acc",
    "ln > bn on test/acc",
]
OF_VERDICT = ("rule", "verdict", "estimate", "low", "high", "n", "p", "note", "reason")


def numbers(norm, count=10):
    drawn = np.random.default_rng(len(norm) + ord(norm[0])).normal(size=(2, count))
    better = {"bn": 0.1, "ln": 0.03, "none": 0.0}[norm]
    return {"test/acc": (0.6 + better + drawn[0] / 50).tolist(), "test/loss": (1 - 5 * better + drawn[1] / 9).tolist()}


@pytest.fixture
def sweep(tmp_path):
    for norm, seeds in {"bn": range(10), "ln": range(9, -1, -1), "none": range(1, 11)}.items():
        write_cell(tmp_path / "sweep" / norm, norm, numbers(norm), seeds=list(seeds))
    return tmp_path / "sweep"


@pytest.fixture
def exported(sweep, tmp_path):
    collect(sweep).to_csv(tmp_path / "exported.csv")
    return tmp_path / "exported.csv"


def quantity(arm, metric):
    return {"arm": arm, "metric": metric}


def of_the_bench(sweep):
    """The bench's verdicts on the same claims."""
    claims = [
        {"rule": "difference", "left": quantity("bn", "test/acc"), "right": quantity("none", "test/acc")},
        {"rule": "difference", "left": quantity("ln", "test/loss"), "right": quantity("bn", "test/loss"), "above": 0.5},
        {
            "rule": "equivalence",
            "left": quantity("ln", "test/acc"),
            "right": quantity("none", "test/acc"),
            "margin": 0.05,
        },
        {"rule": "difference", "left": quantity("ln", "test/acc"), "right": quantity("bn", "test/acc")},
    ]
    arms = {norm: {"norm": norm} for norm in ("bn", "ln", "none")}
    plain = {"name": "small", "title": "A small one", "source": "nobody", "arms": arms, "published": []}
    protocol, refusals = parse({**plain, "claims": [{"claim": "", **claim} for claim in claims]})
    assert not refusals
    return verdicts.judge(protocol, done_below(sweep))


def test_the_verdicts_on_a_sweep_that_was_exported_are_those_of_the_bench(sweep, exported):
    found, expected = judge(exported, CLAIMS), of_the_bench(sweep)
    for one, other in zip(found, expected, strict=True):
        assert [getattr(one, name) for name in OF_VERDICT] == [getattr(other, name) for name in OF_VERDICT]
        assert (one.enough and one.enough.replicas) == (other.enough and other.enough.replicas)
    assert [verdict.verdict for verdict in found] == ["holds", "inconclusive", "inconclusive", "fails"]
    assert [verdict.n for verdict in found] == [9, 10, 9, 10]


def test_the_arms_side_by_side_are_those_of_the_bench(sweep, exported):
    found, baseline = compared(read(exported, ["test/acc", "test/loss"]), None)
    expected = summarise(done_below(sweep), "none").set_index(["metric", "arm"])
    assert baseline == "none"
    columns = [
        "mean",
        "low",
        "high",
        "n",
        "difference",
        "difference_low",
        "difference_high",
        "pairs",
        "p",
        "detectable",
    ]
    found = found.set_index(["metric", "arm"])[columns]
    pd.testing.assert_frame_equal(found, expected.loc[found.index, columns], check_dtype=False)


def test_a_claim_is_judged_by_the_paired_t_test(exported):
    (found,) = judge(exported, ["bn > ln"], metric="test/acc")
    bn, ln = numbers("bn")["test/acc"], numbers("ln")["test/acc"][::-1]  # its seeds count down
    paired = stats.ttest_rel(bn, ln)
    assert (found.p, found.estimate) == (pytest.approx(paired.pvalue), pytest.approx(np.mean(bn) - np.mean(ln)))
    assert (found.low, found.high) == pytest.approx(tuple(paired.confidence_interval(0.99)))


def test_fewer_than_six_seeds_are_inconclusive_as_elsewhere(tmp_path):
    rows = [
        (arm, seed, value + seed / 1000 * (arm == "bn"))
        for arm, value in (("bn", 0.9), ("none", 0.5))
        for seed in range(5)
    ]
    pd.DataFrame(rows, columns=["arm", "seed", "acc"]).to_csv(tmp_path / "few.csv", index=False)
    (found,) = judge(tmp_path / "few.csv", ["bn > none on acc"])
    assert verdicts.line(found).startswith(
        "bn > none on acc: inconclusive (fewer than 6 replicas); about 6 replicas would decide it"
    )


def test_a_claim_about_a_number_that_a_run_does_not_have_is_not_judged(tmp_path):
    rows = [("bn", 0, 0.9), ("bn", 1, None), ("none", 0, 0.8), ("none", 1, 0.7)]
    pd.DataFrame(rows, columns=["arm", "seed", "acc"]).to_csv(tmp_path / "lost.csv", index=False)
    (found,) = judge(tmp_path / "lost.csv", ["bn > none on acc"])
    assert (found.verdict, found.reason) == ("not judged", "1 of 2 pairs have no acc")


@pytest.mark.parametrize(
    ("claim", "start"),
    [
        ("bn > nome on test/acc", "arm=nome: no such arm; allowed: bn, ln, none; did you mean none?"),
        ("bn > none on test/ac", "--metric=test/ac: no such column; allowed: "),
        ("bn > none", "--claim='bn > none': names no metric; allowed: \"bn > none on METRIC\"; name it"),
    ],
)
def test_a_claim_about_what_the_table_does_not_have_is_refused_in_one_line(exported, capsys, claim, start):
    assert main([str(exported), "--claim", claim]) == 2
    assert capsys.readouterr().err.startswith(start)
    with pytest.raises(Refusal):
        judge(exported, [claim])


def test_arms_that_no_seed_pairs_are_refused(tmp_path, capsys):
    file = tmp_path / "apart.csv"
    file.write_text("arm,seed,acc\nbn,0,0.9\nbn,1,0.8\nnone,2,0.7\nnone,3,0.6\n")
    line = "apart.csv seed: arms bn and none have no seed in common; allowed: runs of both arms with the same seeds; "
    for more in (["--claim", "bn > none on acc"], ["--metric", "acc"]):
        assert main([str(file), *more]) == 2
        assert capsys.readouterr().err.startswith(line)


def test_the_command_judges_the_example_of_wandb(capsys):
    claims = ["bn > none on test/acc", "gn > none on test/acc smallest 0.01"]
    assert main([str(EXAMPLES / "wandb.csv"), *(text for claim in claims for text in ("--claim", claim))]) == 0
    text = capsys.readouterr().out
    assert "bn > none on test/acc                 holds" in text
    runs = (
        pd.read_csv(EXAMPLES / "wandb.csv").query("State == 'finished'").pivot(index="seed", columns="norm")["test/acc"]
    )
    deviation = upper_limit((runs["gn"] - runs["none"]).std(), len(runs))
    count = replicas_for_difference(0.01 / deviation, LEVEL / len(claims))
    assert f"gn > none on test/acc smallest 0.01: inconclusive; about {count} replicas would decide it\n" in text
    assert "not finished, left out: early-gn-25 (crashed)" in text


def test_the_command_sets_the_arms_of_the_example_of_mlflow_side_by_side(capsys):
    assert main([str(EXAMPLES / "mlflow.csv")]) == 0
    text = capsys.readouterr().out
    assert "mlflow.csv: test_acc" in text
    assert "mlflow.csv: test_loss" in text
    assert "+0.0260 [+0.0140, +0.0379] of 9" in text
    assert "not finished, left out: none-9 (failed)" in text
    assert main([str(EXAMPLES / "mlflow.csv"), "--baseline", "bn", "--metric", "test_acc"]) == 0
    assert "difference to bn" in capsys.readouterr().out
    assert main([str(EXAMPLES / "mlflow.csv"), "--baseline", "b"]) == 2
