import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bn_experiments.report import vega, write_page
from bn_experiments.report.contents import collect
from bn_experiments.report.curves import MOST_REPLICAS, curves
from bn_experiments.report.drawings import drawings
from bn_experiments.statistics.intervals import mean_interval
from tests.cells_by_hand import write_cell

EPOCHS = 4


def write_arm(folder, norm, replicas=6, steps=400, lost=(), **of_the_result):
    """A cell with losses of each step and epoch; the lost replicas have none from the middle on."""
    random = np.random.default_rng(len(norm))
    by_step, by_epoch = random.uniform(1, 9, (replicas, steps)), random.uniform(0.1, 0.9, (3, replicas, EPOCHS))
    by_step[list(lost), steps // 2 :] = np.nan
    by_epoch[:2, list(lost), EPOCHS // 2 :] = np.nan
    epochs = dict(zip(("train/running_loss", "val/loss", "val/acc"), by_epoch.tolist(), strict=True))
    write_cell(
        folder,
        norm,
        {"test/acc": [0.5] * replicas},
        {"train/step_loss": by_step.tolist(), **epochs},
        diverged=[i in lost for i in range(replicas)],
        config={"trainer.max_epochs": EPOCHS},
        **of_the_result,
    )
    return by_step


def found_in(folder):
    (sweep,) = collect(folder)
    (section,) = sweep.sections
    return {drawing.name: curves(drawing, section.arms) for drawing in drawings(section)}


def test_a_curve_has_the_means_with_their_intervals_and_every_replica(tmp_path):
    losses = write_arm(tmp_path / "a", "bn")
    (curve,) = found_in(tmp_path)["loss_by_step"]["curves"]
    groups = losses[:, : 133 * 3].reshape(6, 133, 3).mean(2)
    assert (curve["first"], curve["by"]) == (2, 3)
    assert np.array(curve["replicas"]) == pytest.approx(groups, rel=1e-4)
    expected = [mean_interval(column.tolist()) for column in groups.T]
    for key in ("mean", "low", "high"):
        assert curve[key] == pytest.approx([getattr(each, key) for each in expected], rel=1e-4)


def test_the_curves_by_epoch_are_those_of_metrics_csv_accuracies_in_per_cent(tmp_path):
    write_arm(tmp_path / "a", "bn")
    write_arm(tmp_path / "b", "none")
    found = found_in(tmp_path)["curves_by_epoch"]
    assert len(found["curves"]) == 6
    for curve in found["curves"]:
        metric, arm = found["metrics"][curve["metric"]]["key"], found["arms"][curve["arm"]]["name"]
        table = pd.read_csv(tmp_path / {"bn": "a", "none": "b"}[arm] / "metrics.csv")
        means = table[table["name"] == metric].groupby("epoch")["value"].mean() * (100 if metric == "val/acc" else 1)
        assert curve["mean"] == pytest.approx(means.tolist(), rel=1e-4)


def test_a_replica_that_diverged_ends_and_the_others_go_on(tmp_path):
    write_arm(tmp_path / "a", "bn", lost=(1,))
    (curve,) = found_in(tmp_path)["loss_by_step"]["curves"]
    assert curve["n"][0] == 6
    assert curve["n"][-1] == 5
    assert curve["replicas"][1][-1] is None
    assert curve["mean"][-1] is not None


def test_only_the_first_replicas_are_held_one_by_one(tmp_path):
    write_arm(tmp_path / "a", "bn", replicas=MOST_REPLICAS + 3, steps=5, seeds=list(range(7, 30)))
    found = found_in(tmp_path)["loss_by_step"]
    assert found["arms"][0]["seeds"] == list(range(7, 27))
    assert len(found["curves"][0]["replicas"]) == MOST_REPLICAS
    assert found["curves"][0]["n"][0] == MOST_REPLICAS + 3


def test_a_single_replica_has_no_interval(tmp_path):
    write_arm(tmp_path / "a", "bn", replicas=1, steps=5)
    (curve,) = found_in(tmp_path)["loss_by_step"]["curves"]
    assert curve["low"] == curve["high"] == [None] * 5
    assert curve["mean"] == curve["replicas"][0]


def test_any_name_stands_in_the_page_as_data_and_ends_no_script(tmp_path):
    name = "my.Norm</script><!--<script>\u2028\u2029'\"&é"
    write_arm(tmp_path / "a", name, steps=5)
    text = write_page(tmp_path).read_text()
    assert "</script><!--" not in text
    data = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    assert [json.loads(each)["arms"][0]["name"] for each in data] == [name] * 2
    assert all(each.isascii() for each in data)


def test_a_page_without_curves_does_not_carry_the_runtime(tmp_path):
    write_cell(tmp_path / "a", "bn", {"test/acc": [0.5, 0.6]})
    assert vega.runtime() not in write_page(tmp_path).read_text()
    write_arm(tmp_path / "b", "none")
    assert vega.runtime() in write_page(tmp_path).read_text()


def test_the_runtime_is_one_script_that_ends_nowhere_and_is_kept(tmp_path, monkeypatch):
    kept = tmp_path / "cache" / "vega.pyc"
    monkeypatch.setattr(importlib.util, "cache_from_source", lambda file: str(kept))
    vega.runtime.cache_clear()
    try:
        made = vega.runtime()
        (file,) = kept.parent.iterdir()
        assert Path(file).read_bytes().decode() == made
        vega.runtime.cache_clear()
        assert vega.runtime() == made
    finally:
        vega.runtime.cache_clear()
    assert "</script" not in made.lower()
    assert "<!--" not in made
    assert "window.vegaEmbed" in made
