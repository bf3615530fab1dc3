"""The differences that TensorBoard shows are those of the cells' own files, computed by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from bn_experiments.claims import differences
from bn_experiments.claims.contexts import ALL
from bn_experiments.claims.summary import summarise
from bn_experiments.records.results import done_in
from tests.cells_by_hand import write_cell

EPOCHS = 4
SEEDS = {"bn": [0, 1, 2, 3, 4, 5, 6], "ln": [0, 1, 2, 3, 4, 5], "none": [8, 6, 4, 5, 3, 2]}
CURVES = ("train/running_loss", "val/loss", "val/acc")


def written(folder, norm, *, lost=(), **more):
    """A cell with curves that no other has, whose replicas at some indices diverge after the second epoch."""
    drawn, seeds = np.random.default_rng(len(norm)), SEEDS[norm]
    curves = {name: drawn.uniform(0.2, 0.9, (len(seeds), EPOCHS)).round(6) for name in CURVES}
    tests = {"test/acc": drawn.uniform(0.2, 0.9, len(seeds)), "test/loss": drawn.uniform(1, 2, len(seeds))}
    for i in lost:
        curves["train/running_loss"][i, 2:] = curves["val/loss"][i, 2:] = tests["test/loss"][i] = np.nan
        curves["val/acc"][i, 2:], tests["test/acc"][i] = 0.03, 0.1
    final = {**{name: values[:, -1] for name, values in curves.items()}, **tests}
    metrics = {name: [None if np.isnan(x) else float(x) for x in numbers] for name, numbers in final.items()}
    metrics["val/acc"] = [0.1 if i in lost else x for i, x in enumerate(metrics["val/acc"])]
    config = {"trainer.max_epochs": EPOCHS, **more.pop("config", {})}
    diverged = [i in lost for i in range(len(seeds))]
    write_cell(folder, norm, metrics, curves, seeds=seeds, diverged=diverged, config=config, **more)


def shown(sweep, baseline="none"):
    """The points of each run, {run: {tag: {step: number}}}, and the lines that `write` gives."""
    cells = done_in(sweep)
    lines = differences.write(sweep, summarise(cells, baseline), cells)
    return {str(file.parent.relative_to(sweep / "differences")): points(file) for file in files(sweep)}, lines


def files(sweep):
    return sorted((sweep / "differences").rglob("*tfevents*"))


def points(file):
    read = EventAccumulator(str(file), size_guidance={"tensors": 0}).Reload()
    tags = [tag for tag in read.Tags()["tensors"] if tag != "custom_scalars__config__"]
    found = {tag: [(each.step, float(make_ndarray(each.tensor_proto))) for each in read.Tensors(tag)] for tag in tags}
    assert all(len(dict(each)) == len(each) for each in found.values()), "each point is there once"
    return {tag: dict(each) for tag, each in found.items()}


def by_hand(sweep, norm, name):
    """A curve of metrics.csv, with the seeds as rows."""
    table = pd.read_csv(sweep / norm / "metrics.csv")
    table["seed"] = np.array(SEEDS[norm])[table["replica"]]
    return table[table["name"] == name].pivot_table(index="seed", columns="epoch", values="value", dropna=False)


def check(found, tag, pairs):
    """Points equal the mean of the pairs (n, P) and Student's interval, by scipy, at the last P epochs."""
    low, high = stats.t.interval(0.99, len(pairs) - 1, pairs.mean(0), stats.sem(pairs, axis=0))
    ends = [f"interval/{tag}/{side}" for side in ("low", "high")]
    for each, numbers in zip([tag, *ends], [pairs.mean(0), low, high], strict=True):
        assert list(found[each]) == list(range(EPOCHS + 1 - len(numbers), EPOCHS + 1))
        np.testing.assert_allclose([*found[each].values()], numbers, rtol=1e-6)


def test_points_are_the_means_of_the_pairs_with_students_interval(tmp_path):
    for norm in SEEDS:
        written(tmp_path / norm, norm)
    runs, lines = shown(tmp_path)
    assert not lines
    assert set(runs) == {"bn - none (n=5)", "ln - none (n=4)"}
    cells = done_in(tmp_path)
    for name, found in runs.items():
        norm = name[:2]
        shared = sorted({*SEEDS[norm]} & {*SEEDS["none"]})
        assert len(found) == 3 * 5
        for metric in CURVES:
            left, right = (by_hand(tmp_path, arm, metric).loc[shared] for arm in (norm, "none"))
            check(found, f"difference/{metric}", (left - right).to_numpy())
        for metric in ("test/acc", "test/loss"):
            by_seed = [
                dict(zip(SEEDS[arm], cells[tmp_path / arm].metrics[metric], strict=True)) for arm in (norm, "none")
            ]
            check(found, f"difference/{metric}", np.array([[by_seed[0][s] - by_seed[1][s]] for s in shared]))


def test_the_same_results_give_the_same_files_and_other_ones_take_their_place(tmp_path):
    for norm in SEEDS:
        written(tmp_path / norm, norm)
    shown(tmp_path)
    before = {file: file.read_bytes() for file in files(tmp_path)}
    shown(tmp_path)
    assert {file: file.read_bytes() for file in files(tmp_path)} == before
    assert set(shown(tmp_path, ALL)[0]) == {"ln - bn (n=6)", "none - bn (n=5)", "none - ln (n=4)"}
    assert not {*before} & {*files(tmp_path)}


def test_a_replica_that_diverged_has_the_accuracy_of_chance_and_ends_the_curves_of_the_loss(tmp_path):
    written(tmp_path / "bn", "bn", lost=[3])
    written(tmp_path / "none", "none")
    runs, _ = shown(tmp_path)
    (found,) = runs.values()
    assert list(found["difference/val/loss"]) == list(found["difference/train/running_loss"]) == [1, 2]
    assert "difference/test/loss" not in found
    left, right = (by_hand(tmp_path, arm, "val/acc") for arm in ("bn", "none"))
    left.loc[3, [3, 4]] = 0.1
    check(found, "difference/val/acc", (left - right).dropna().to_numpy())


def test_settings_name_the_runs_where_there_are_several(tmp_path):
    for model in ("mlp", "lenet"):
        for rate in ("0.1", "/a"):
            for norm in ("bn", "none"):
                override = [f"optimizer.lr={rate}"]
                written(
                    tmp_path / f"{model}{norm}{len(rate)}", norm, model=model, overrides=override, config={"m": model}
                )
    runs, _ = shown(tmp_path)
    names = sorted(name for name in runs if "_a-" not in name)
    assert names == [f"{model} optimizer.lr=0.1, bn - none (n=5)" for model in ("lenet", "mlp")]
    assert len({name for name in runs if "optimizer.lr=_a-" in name}) == 2


def test_what_has_no_curve_is_said_and_what_was_not_trained_has_no_run(tmp_path):
    for norm in ("bn", "none"):
        written(tmp_path / norm, norm)
    table = pd.read_csv(tmp_path / "bn" / "metrics.csv")
    table[table["name"] != "val/acc"].to_csv(tmp_path / "bn" / "metrics.csv", index=False)
    runs, lines = shown(tmp_path)
    assert lines == [
        "bn - none (n=5): no curve of the difference in val/acc for TensorBoard: metrics.csv holds no val/acc"
    ]
    (found,) = runs.values()
    assert {tag for tag in found if tag.startswith("difference/")} == {
        f"difference/{name}" for name in ("train/running_loss", "val/loss", "test/acc", "test/loss")
    }
    for norm in ("bn", "none"):
        written(tmp_path / "initial" / norm, norm, config={"trainer.max_epochs": 0})
    assert shown(tmp_path / "initial") == ({}, [])
    assert not (tmp_path / "initial" / "differences").exists()


def test_one_pair_has_no_interval_and_no_chart_that_would_show_one(tmp_path, monkeypatch):
    for norm in ("bn", "none"):
        monkeypatch.setitem(SEEDS, norm, [3])
        written(tmp_path / norm, norm)
    runs, _ = shown(tmp_path)
    assert set(runs["bn - none (n=1)"]) == {f"difference/{name}" for name in (*CURVES, "test/acc", "test/loss")}
    (file,) = files(tmp_path)
    assert "custom_scalars__config__" not in EventAccumulator(str(file)).Reload().Tags()["tensors"]


@pytest.mark.parametrize("baseline", ["none", ALL])
def test_a_metric_in_which_all_arms_are_at_chance_has_no_difference(tmp_path, baseline):
    for norm in ("bn", "none"):
        written(tmp_path / norm, norm, chance={"val/acc": 1.0, "test/acc": 0.1})
    runs, _ = shown(tmp_path, baseline)
    (found,) = runs.values()
    assert "difference/val/acc" not in found
    assert "difference/test/acc" in found
