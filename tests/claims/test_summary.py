import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from bn_experiments.claims.summary import markdown, show, summarise, undecided, write
from bn_experiments.records.comparison import baseline_in, looks_in
from bn_experiments.statistics.decisions import holm
from bn_experiments.statistics.intervals import mean_interval
from bn_experiments.statistics.power import smallest_difference
from tests.cells_by_hand import ORIGIN, a_result

DIFFERENCE = ["difference", "difference_low", "difference_high", "pairs", "p"]


def cell(norm, values, **more):
    """A cell whose loss is minus the logarithm of its accuracy."""
    losses = [None if value is None else -math.log(value) for value in values]
    return a_result(norm, {"test/acc": values, "test/loss": more.pop("losses", losses)}, **more)


def folder_of(*results):
    return {Path(f"cell-{i}"): result for i, result in enumerate(results)}


def summary_of(*results, baseline="none"):
    return summarise(folder_of(*results), baseline)


def paired(arm, baseline):
    """Mean, interval and p of scipy's paired t test."""
    found = stats.ttest_rel(arm, baseline)
    interval = found.confidence_interval(0.99)
    return np.mean(arm) - np.mean(baseline), interval.low, interval.high, len(arm), found.pvalue


def accuracies(seed, count=6):
    return np.random.default_rng(seed).uniform(0.5, 0.9, count).tolist()


def row(summary, **where):
    """The one row of the summary that fits."""
    fits = summary[np.logical_and.reduce([summary[key] == value for key, value in where.items()])]
    assert len(fits) == 1
    return fits.iloc[0]


def acc(summary, arm, **where):
    return row(summary, arm=arm, metric="test/acc", **where)


BN, NONE, LN = accuracies(0), accuracies(1), accuracies(2)
TWO_ARMS = cell("bn", BN), cell("none", NONE)


def test_every_arm_and_metric_has_its_mean_and_interval():
    summary = summary_of(*TWO_ARMS)
    assert len(summary) == 4
    for arm, values in (("bn", BN), ("none", NONE)):
        found = acc(summary, arm)
        assert tuple(found[["mean", "low", "high", "n"]]) == pytest.approx(mean_interval(values))
        loss = row(summary, arm=arm, metric="test/loss")
        assert loss["mean"] == pytest.approx(-np.log(values).mean())


def test_the_difference_is_the_paired_one_to_the_baseline_of_the_same_seeds():
    turned = cell("none", NONE[::-1], seeds=[5, 4, 3, 2, 1, 0])
    for baseline in (TWO_ARMS[1], turned):
        found = tuple(acc(summary_of(TWO_ARMS[0], baseline), "bn")[DIFFERENCE])
        assert found == pytest.approx(paired(BN, NONE))


def test_a_seed_that_one_arm_lacks_drops_only_its_pair():
    lacking = cell("none", NONE[:2] + NONE[3:], seeds=[0, 1, 3, 4, 5])
    found = acc(summary_of(TWO_ARMS[0], lacking), "bn")
    assert tuple(found[DIFFERENCE]) == pytest.approx(paired(BN[:2] + BN[3:], NONE[:2] + NONE[3:]))
    assert (found["mean"], found["n"]) == (pytest.approx(np.mean(BN)), 6)
    assert " of 5" in markdown(summary_of(TWO_ARMS[0], lacking), "none")


def test_arms_without_common_seeds_have_no_difference():
    found = acc(summary_of(TWO_ARMS[0], cell("none", NONE, seeds=list(range(10, 16)))), "bn")
    assert found[DIFFERENCE].drop("pairs").isna().all()
    assert (found["n"], found["pairs"]) == (6, 0)


def test_the_baseline_has_no_difference_and_without_a_baseline_no_arm_has():
    assert acc(summary_of(*TWO_ARMS), "none")[DIFFERENCE].isna().all()
    without = summary_of(cell("bn", BN), cell("ln", LN))
    assert without[DIFFERENCE].isna().all(axis=None)
    assert set(without["arm"]) == {"bn", "ln"}


def test_any_arm_may_be_the_baseline():
    found = acc(summary_of(*TWO_ARMS, baseline="bn"), "none")
    assert tuple(found[DIFFERENCE]) == pytest.approx(paired(NONE, BN))


def test_all_pairs_are_compared_where_that_is_asked_for():
    summary = summary_of(*TWO_ARMS, cell("ln", LN), baseline="all")
    accuracies = summary[summary["metric"] == "test/acc"]
    pairs = [(row["arm"], row["baseline"]) for row in accuracies.to_dict("records") if not pd.isna(row["baseline"])]
    assert pairs == [("none", "bn"), ("ln", "bn"), ("ln", "none")]
    found = acc(summary, "ln", baseline="none")
    assert found["difference"] == pytest.approx(np.mean(LN) - np.mean(NONE))
    assert "to none: " in markdown(summary, "all")


def test_one_replica_has_a_difference_and_no_interval():
    found = acc(summary_of(cell("bn", BN[:1]), cell("none", NONE[:1])), "bn")
    assert found["difference"] == pytest.approx(BN[0] - NONE[0])
    assert found[["low", "high", "difference_low", "difference_high", "p"]].isna().all()


def test_p_is_holms_over_all_differences_of_a_metric():
    results = [
        cell(norm, accuracies(i), model=model)
        for i, (norm, model) in enumerate((norm, model) for norm in ("none", "bn", "ln") for model in ("mlp", "lenet"))
    ]
    summary = summary_of(*results)
    found = summary[(summary["metric"] == "test/acc") & (summary["arm"] != "none")]
    raw = [paired(accuracies(i), accuracies(i % 2))[4] for i in (2, 4, 3, 5)]
    assert found["p"].tolist() == pytest.approx(holm(raw))


def test_arms_with_the_same_numbers_have_a_p_of_one_and_leave_the_others_theirs():
    summary = summary_of(*TWO_ARMS, cell("gn", NONE))
    same = acc(summary, "gn")
    assert tuple(same[["difference", "difference_low", "difference_high", "p"]]) == (0, 0, 0, 1)
    assert acc(summary, "bn")["p"] == pytest.approx(min(1, 2 * paired(BN, NONE)[4]))
    apart = summary_of(cell("bn", [value + 0.125 for value in NONE]), TWO_ARMS[1])
    assert acc(apart, "bn")["p"] < 1e-9


@pytest.mark.parametrize("key", ["data", "model", "optimizer"])
def test_arms_are_compared_within_their_own_context(key):
    summary = summary_of(cell("bn", BN), cell("none", NONE, **{key: "other"}))
    assert summary[DIFFERENCE].isna().all(axis=None)


def test_a_replica_that_diverged_has_the_accuracy_of_chance_and_the_arm_no_mean_loss_and_no_difference_in_it():
    chance = [0.1, *BN[1:]]
    losses = [None, *(-math.log(value) for value in BN[1:])]
    summary = summary_of(cell("bn", chance, losses=losses, diverged=[True] + [False] * 5), TWO_ARMS[1])
    assert (acc(summary, "bn")["diverged"], acc(summary, "none")["diverged"]) == (1, 0)
    assert acc(summary, "bn")["mean"] == pytest.approx(np.mean(chance))
    assert tuple(acc(summary, "bn")[DIFFERENCE]) == pytest.approx(paired(chance, NONE))
    loss = row(summary, arm="bn", metric="test/loss")
    assert loss[["mean", "low", "high", "difference", "p"]].isna().all()
    text = markdown(summary, "none")
    assert "| mlp | bn (1 diverged) |  | 6 | not judged |  |" in text
    assert "diverged: it counts at chance, and has no loss" in text


def test_where_every_arm_is_at_chance_the_row_says_so_and_there_is_no_p():
    flat = [[0.1] * 6, [0.12, 0.08, 0.11, 0.1, 0.09, 0.1]]
    lost = [cell(norm, values, chance={"test/acc": 0.128}) for norm, values in zip(("bn", "none"), flat, strict=True)]
    summary = summary_of(*lost)
    assert summary[DIFFERENCE][summary["metric"] == "test/acc"].isna().all(axis=None)
    assert "| at chance |  |" in markdown(summary, "none")
    one_learns = summary_of(lost[0], cell("none", NONE, chance={"test/acc": 0.128}))
    assert acc(one_learns, "bn")["difference"] == pytest.approx(0.1 - np.mean(NONE))


def test_rows_of_mixed_code_are_marked():
    edited = {**ORIGIN, "code": {"norms.slot": "bbbb"}}
    own_norm = {**ORIGIN, "code": {**ORIGIN["code"], "my.norm": "cccc"}}
    for made_by, mixed in (([ORIGIN], False), ([own_norm], False), ([edited], True), ([ORIGIN, edited], True)):
        summary = summary_of(cell("bn", BN, made_by=made_by), TWO_ARMS[1])
        assert acc(summary, "bn")["mixed_code"] == mixed
        assert ("bn\N{DAGGER}" in markdown(summary, "none")) == mixed


def test_with_differences_stands_how_rare_a_failure_they_cannot_exclude():
    assert "fewer than 39% of all seeds may not be among 6" in markdown(summary_of(*TWO_ARMS), "none")


def rounded(mean, low, high, sign=""):
    """Accuracies in per cent."""
    return f"{mean * 100:{sign}.2f} [{low * 100:{sign}.2f}, {high * 100:{sign}.2f}]"


def cells_in(line):
    return [text.strip() for text in line.strip("|").split("|")]


def test_markdown_has_a_table_for_each_metric_with_every_number():
    text = markdown(summary_of(*TWO_ARMS), "none")
    tables = [[cells_in(line) for line in part.splitlines() if line.startswith("|")] for part in text.split("## ")[1:]]
    expected, bn = paired(BN, NONE), mean_interval(BN)
    difference = rounded(*expected[:3], sign="+")
    assert len(tables) == 2
    assert {len(line) for table in tables for line in table} == {len(tables[0][0])}
    smallest = smallest_difference(np.std(np.subtract(BN, NONE), ddof=1), 6, 0.01)
    numbers = [difference, f"{expected[4]:.2g}", f"{smallest * 100:.2f}"]
    assert ["mnist1d", "mlp", "bn", rounded(*bn[:3]), "6", *numbers] in tables[0]
    assert ["mnist1d", "mlp", "none", rounded(*mean_interval(NONE)[:3]), "6", "", "", ""] in tables[0]
    loss = mean_interval([-math.log(value) for value in BN])
    assert f"{loss.mean:.4f} [{loss.low:.4f}, {loss.high:.4f}]" in tables[1][2]


def test_the_smallest_difference_that_the_pairs_find_is_at_holms_level_for_all_differences_of_the_metric():
    summary = summary_of(*TWO_ARMS, cell("ln", LN), cell("gn", NONE))
    for arm, values in (("bn", BN), ("ln", LN)):
        deviation = np.std(np.subtract(values, NONE), ddof=1)
        assert acc(summary, arm)["detectable"] == pytest.approx(smallest_difference(deviation, 6, 0.01 / 3))
    assert math.isnan(acc(summary, "none")["detectable"])  # it is the baseline
    assert math.isnan(acc(summary, "gn")["detectable"])  # its differences have no spread
    few = summary_of(cell("bn", BN[:5]), cell("none", NONE[:5]))
    assert math.isnan(acc(few, "bn")["detectable"])


def test_the_claims_of_an_experiment_stand_in_the_markdown_a_line_each():
    text = markdown(summary_of(*TWO_ARMS), "none", ["bn is better: holds", "ln is: inconclusive; about 34 replicas"])
    assert "## Claims\n\n- bn is better: holds\n- ln is: inconclusive; about 34 replicas\n" in text
    assert "Claims" not in markdown(summary_of(*TWO_ARMS), "none")


def test_the_table_on_disk_is_the_summary(tmp_path):
    summary = summary_of(*TWO_ARMS)
    write(summary, "none", tmp_path)
    found = pd.read_csv(
        tmp_path / "summary.csv", keep_default_na=False, na_values={c: [""] for c in (*DIFFERENCE, "detectable")}
    )
    numbers = ["arm", "folder", "metric", "mean", "low", "high", "n", *DIFFERENCE, "detectable"]
    pd.testing.assert_frame_equal(found[numbers], summary[numbers], check_dtype=False)
    assert (tmp_path / "summary.md").read_text() == markdown(summary, "none")
    assert baseline_in(tmp_path) == "none"


def shown(summary, folders=None, baseline="none", width=100):
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    show(summary, baseline, folders or set(summary["folder"]), console)
    return console.file.getvalue()


def test_the_terminal_shows_every_arm_of_every_data_set_and_model_with_its_numbers():
    contexts = [{"data": data, "model": model} for data in ("mnist1d", "mnist") for model in ("mlp", "residual_mlp")]
    arms = {"bn": BN, "gn": LN, "none": NONE}
    summary = summary_of(*(cell(arm, arms[arm], **context) for context in contexts for arm in arms))
    lines = shown(summary).splitlines()
    for arm, values in arms.items():
        numbers = rounded(*mean_interval(values)[:3])
        for model in ("mlp", "residual_mlp"):
            assert sum(line.split()[:2] == [model, arm] and numbers in line for line in lines) == 2
    assert sum(rounded(*paired(BN, NONE)[:3], sign="+") in line for line in lines) == 4
    assert [line.split(":")[0] for line in lines if "test accuracy" in line] == ["mnist1d", "mnist"]


def test_the_terminal_shows_the_cells_of_the_command_with_their_baseline_and_the_numbers_of_the_folder():
    summary = summary_of(*TWO_ARMS, cell("ln", LN), cell("bn", BN, model="lenet"))
    text = shown(summary, {"cell-2"})
    assert "ln" in text
    assert "none" in text
    assert " bn " not in text
    assert f"{acc(summary, 'ln')['p']:.2g}" in text


def test_the_terminal_names_what_differs_in_the_rows_and_what_all_share_in_the_title():
    summary = summary_of(
        *(
            cell(arm, values, overrides=[f"optimizer.lr={lr}", "init=he_uniform"])
            for lr in (0.1, 0.2)
            for arm, values in (("bn", BN), ("none", NONE))
        )
    )
    title, *lines = shown(summary).strip().splitlines()
    assert "init=he_uniform" in title
    assert not any("init=he_uniform" in line for line in lines)
    for lr in (0.1, 0.2):
        assert sum(f"mlp optimizer.lr={lr}" in line for line in lines) == 2
        assert f"optimizer.lr={lr}" not in title


def test_another_optimizer_stands_beside_the_model():
    summary = summary_of(*TWO_ARMS, cell("bn", LN, optimizer="adam"))
    assert "| mnist1d | mlp adam | bn |" in markdown(summary, "none")
    assert "mlp adam" in shown(summary)


def test_a_difference_is_judged_at_its_look_and_only_what_is_open_goes_on(tmp_path):
    base = np.linspace(0.5, 0.6, 12)
    clear, unclear = np.r_[np.linspace(0.03, 0.04, 6), np.full(6, -0.2)], np.tile([0.05, -0.04, 0.01], 4)
    none, bn, ln = (cell(norm, (base + d).tolist()) for norm, d in (("none", 0), ("bn", clear), ("ln", unclear)))
    found = summarise(folder_of(none, bn, ln), "none", (6, 12))
    own = row(found, arm="bn", metric="test/acc")
    expected = stats.ttest_1samp(clear[:6], 0)
    ends = expected.confidence_interval(1 - 0.01 / 2)
    assert own[DIFFERENCE[:4]].tolist() == pytest.approx([clear[:6].mean(), ends.low, ends.high, 6])
    assert own["p"] == pytest.approx(2 * 2 * expected.pvalue)
    assert row(found, arm="ln", metric="test/acc")["pairs"] == 12
    assert undecided(found) == {"cell-0", "cell-2"}
    write(found, "none", tmp_path, looks=(6, 12))
    assert looks_in(tmp_path) == (6, 12)
    assert "6, 12 pairs" in (tmp_path / "summary.md").read_text()
