import io
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bn_experiments.claims.summary import markdown, show, summarise, write
from bn_experiments.statistics.intervals import mean_interval, paired_difference

KEYS = ["data", "model", "optimizer", "settings", "arm", "metric"]
DIFFERENCE = ["difference", "difference_low", "difference_high", "pairs", "p"]


def runs(norm, values, *, seeds=None, diverged=(), **context):
    """Rows as `collect` gives them; the loss is minus the logarithm of the accuracy."""
    shared = {
        "data": "mnist1d",
        "model": "mlp",
        "optimizer": "sgd",
        "sweep": "outputs/grid",
        "settings": "",
        "norm": norm,
        **context,
    }
    return pd.DataFrame(
        {**shared, "seed": seed, "diverged": seed in diverged, "test/acc": acc, "test/loss": -math.log(acc)}
        for seed, acc in zip(seeds or range(len(values)), values, strict=True)
    )


def accuracies(seed, count=6):
    return np.random.default_rng(seed).uniform(0.5, 0.9, count).tolist()


def row(summary, **where):
    """The one row of the summary that fits."""
    fits = summary[np.logical_and.reduce([summary[key] == value for key, value in where.items()])]
    assert len(fits) == 1
    return fits.iloc[0]


def acc(summary, arm, **where):
    return row(summary, arm=arm, metric="test/acc", **where)


def assert_same(left, right):
    left, right = (table.sort_values(KEYS).reset_index(drop=True) for table in (left, right))
    pd.testing.assert_frame_equal(left, right)


BN, NONE, LN = accuracies(0), accuracies(1), accuracies(2)
TWO_ARMS = pd.concat([runs("bn", BN), runs("none", NONE)])


def test_every_arm_and_metric_has_its_mean_and_interval():
    summary = summarise(TWO_ARMS)
    assert len(summary) == 4
    for arm, values in (("bn", BN), ("none", NONE)):
        found = acc(summary, arm)
        assert tuple(found[["mean", "low", "high", "n"]]) == pytest.approx(mean_interval(values))
        loss = row(summary, arm=arm, metric="test/loss")
        assert loss["mean"] == pytest.approx(-np.log(values).mean())


def test_the_difference_is_the_paired_one_to_the_baseline_of_the_same_seeds():
    summary = summarise(TWO_ARMS)
    expected = paired_difference(BN, NONE)
    found = tuple(acc(summary, "bn")[DIFFERENCE])
    assert found == pytest.approx(tuple(expected))


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_rows_does_not_matter(seed):
    shuffled = TWO_ARMS.sample(frac=1, random_state=seed)
    assert_same(summarise(shuffled), summarise(TWO_ARMS))


def test_a_seed_that_one_arm_lacks_drops_only_its_pair():
    without = TWO_ARMS[(TWO_ARMS["norm"] == "bn") | (TWO_ARMS["seed"] != 2)]
    found = acc(summarise(without), "bn")
    expected = paired_difference(BN[:2] + BN[3:], NONE[:2] + NONE[3:])
    assert tuple(found[DIFFERENCE]) == pytest.approx(tuple(expected))
    assert (found["mean"], found["n"]) == (pytest.approx(np.mean(BN)), 6)
    assert acc(summarise(without), "none")["n"] == 5


def test_a_number_that_a_replica_lacks_drops_only_its_pair():
    lacking = TWO_ARMS.reset_index(drop=True)
    lacking.loc[1, "test/acc"] = float("nan")
    found = acc(summarise(lacking), "bn")
    expected = paired_difference(BN[:1] + BN[2:], NONE[:1] + NONE[2:])
    assert tuple(found[DIFFERENCE]) == pytest.approx(tuple(expected))
    assert found["n"] == 5


def test_arms_without_common_seeds_have_no_difference():
    found = acc(summarise(pd.concat([runs("bn", BN), runs("none", NONE, seeds=range(10, 16))])), "bn")
    assert found[DIFFERENCE].drop("pairs").isna().all()
    assert (found["n"], found["pairs"]) == (6, 0)


def test_the_baseline_has_no_difference_and_without_a_baseline_no_arm_has():
    assert acc(summarise(TWO_ARMS), "none")[DIFFERENCE].isna().all()
    without = summarise(pd.concat([runs("bn", BN), runs("ln", LN)]))
    assert without[DIFFERENCE].isna().all(axis=None)
    assert set(without["arm"]) == {"bn", "ln"}


def test_one_replica_has_a_difference_and_no_interval():
    found = acc(summarise(pd.concat([runs("bn", BN[:1]), runs("none", NONE[:1])])), "bn")
    assert found["difference"] == pytest.approx(BN[0] - NONE[0])
    assert found[["low", "high", "difference_low", "difference_high", "p"]].isna().all()


@pytest.mark.parametrize("key", ["data", "model", "optimizer", "settings"])
def test_arms_are_compared_within_their_own_context(key):
    other = pd.concat([runs("bn", NONE, **{key: "other"}), runs("none", LN, **{key: "other"})])
    summary = summarise(pd.concat([TWO_ARMS, other]))
    assert_same(summary, pd.concat([summarise(TWO_ARMS), summarise(other)]))
    alone = summarise(pd.concat([runs("bn", BN), runs("none", NONE, **{key: "other"})]))
    assert alone[DIFFERENCE].isna().all(axis=None)


def test_diverged_replicas_are_counted_and_stay_in_the_mean():
    summary = summarise(pd.concat([runs("bn", BN, diverged=(1, 4)), runs("none", NONE)]))
    assert (acc(summary, "bn")["diverged"], acc(summary, "none")["diverged"]) == (2, 0)
    assert acc(summary, "bn")["mean"] == pytest.approx(np.mean(BN))
    assert "bn (2 diverged)" in markdown(summary)


def rounded(mean, low, high, sign=""):
    """Accuracies in per cent."""
    return f"{mean * 100:{sign}.2f} [{low * 100:{sign}.2f}, {high * 100:{sign}.2f}]"


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_markdown_has_a_table_for_each_metric_with_every_number():
    text = markdown(summarise(TWO_ARMS))
    tables = [[cells(line) for line in part.splitlines() if line.startswith("|")] for part in text.split("## ")[1:]]
    expected, bn = paired_difference(BN, NONE), mean_interval(BN)
    difference = rounded(*expected[:3], sign="+")
    assert len(tables) == 2
    assert {len(line) for table in tables for line in table} == {len(tables[0][0])}
    assert ["mnist1d", "mlp", "bn", rounded(*bn[:3]), "6", difference, f"{expected.p:.2g}"] in tables[0]
    assert ["mnist1d", "mlp", "none", rounded(*mean_interval(NONE)[:3]), "6", "", ""] in tables[0]
    loss = mean_interval([-math.log(value) for value in BN])
    assert f"{loss.mean:.4f} [{loss.low:.4f}, {loss.high:.4f}]" in tables[1][2]


def test_the_table_on_disk_is_the_summary(tmp_path):
    summary = summarise(TWO_ARMS)
    write(summary, tmp_path)
    found = pd.read_csv(tmp_path / "summary.csv", keep_default_na=False, na_values={c: [""] for c in DIFFERENCE})
    pd.testing.assert_frame_equal(found, summary, check_dtype=False)
    assert (tmp_path / "summary.md").read_text() == markdown(summary)


def shown(summary):
    console = Console(file=io.StringIO(), width=100, markup=False, highlight=False)
    show(summary, console)
    return console.file.getvalue()


def test_the_terminal_shows_every_arm_of_every_data_set_and_model_with_its_numbers():
    contexts = [{"data": data, "model": model} for data in ("mnist1d", "mnist") for model in ("mlp", "residual_mlp")]
    arms = {"bn": BN, "gn": LN, "none": NONE}
    summary = summarise(pd.concat(runs(arm, arms[arm], **context) for context in contexts for arm in arms))
    lines = shown(summary).splitlines()
    for arm, values in arms.items():
        numbers = rounded(*mean_interval(values)[:3])
        for model in ("mlp", "residual_mlp"):
            assert sum(line.split()[:2] == [model, arm] and numbers in line for line in lines) == 2
    assert sum(rounded(*paired_difference(BN, NONE)[:3], sign="+") in line for line in lines) == 4
    assert [line.split(":")[0] for line in lines if "test accuracy" in line] == ["mnist1d", "mnist"]


def test_the_terminal_names_what_differs_in_the_rows_and_what_all_share_in_the_title():
    summary = summarise(
        pd.concat(
            runs(arm, values, settings=f"optimizer.lr={lr} replicas=6")
            for lr in (0.1, 0.2)
            for arm, values in (("bn", BN), ("none", NONE))
        )
    )
    title, *lines = shown(summary).strip().splitlines()
    assert "replicas=6" in title
    assert not any("replicas=6" in line for line in lines)
    for lr in (0.1, 0.2):
        assert sum(f"mlp optimizer.lr={lr}" in line for line in lines) == 2
        assert f"optimizer.lr={lr}" not in title


def test_another_optimizer_stands_beside_the_model():
    summary = summarise(pd.concat([TWO_ARMS, runs("bn", LN, optimizer="adam")]))
    assert "| mnist1d | mlp adam | bn |" in markdown(summary)
    assert "mlp adam" in shown(summary)
