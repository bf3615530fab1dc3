import math

import numpy as np
import pytest

from bn_experiments.records.quantities import Damaged, NotMeasured, Quantity, measured
from bn_experiments.records.results import read
from bn_experiments.run import run
from tests.cells_by_hand import write_cell
from tests.probes.runs import SIZES

PROBES = {
    "depth/epochs": np.array([0, 3]),
    "depth/stage": np.array(["x", "input", "output"]),
    "depth/variance": np.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]]]),
}


@pytest.fixture
def folder(tmp_path):
    curves = {"train/step_loss": [[5.0, 3.0, 2.0, 4.0, 9.0], [1.0, 1.0, 3.0, 3.0, 9.0]], "val/acc": [[0.1], [0.2]]}
    return write_cell(tmp_path / "cell", "bn", {"test/acc": [0.7, 0.8], "test/loss": [1.0, 2.0]}, curves, PROBES)


def test_a_metric_is_the_final_number_of_each_replica(folder):
    assert measured(folder, Quantity("bn", "test/acc")).tolist() == [0.7, 0.8]


def test_a_curve_by_steps_is_the_mean_of_so_many_and_leaves_out_the_rest(folder):
    values = measured(folder, Quantity("bn", "train/step_loss", each="2 steps"))
    assert values.tolist() == [[4.0, 3.0], [1.0, 3.0]]


def test_a_curve_by_epoch_has_a_point_an_epoch(folder):
    assert measured(folder, Quantity("bn", "val/acc", each="epoch")).tolist() == [[0.1], [0.2]]


def test_a_probe_is_read_at_its_last_moment_or_its_first(folder):
    assert measured(folder, Quantity("bn", "depth/variance"))[1].tolist() == [40.0, 50.0, 60.0]
    assert measured(folder, Quantity("bn", "depth/variance", moment="start"))[1].tolist() == [4.0, 5.0, 6.0]


def test_one_label_gives_a_number_and_several_a_curve_in_the_order_asked_for(folder):
    one = measured(folder, Quantity("bn", "depth/variance", label="output"))
    assert one.tolist() == [30.0, 60.0]
    two = measured(folder, Quantity("bn", "depth/variance", labels=["output", "x"]))
    assert two.tolist() == [[30.0, 10.0], [60.0, 40.0]]


def test_a_label_can_be_taken_off_for_a_gap(folder):
    gap = measured(folder, Quantity("bn", "depth/variance", labels=["input", "output"], minus="x"))
    assert gap.tolist() == [[10.0, 20.0], [10.0, 20.0]]
    with pytest.raises(NotMeasured, match=r"no links\.9"):
        measured(folder, Quantity("bn", "depth/variance", label="x", minus="links.9"))


@pytest.mark.parametrize(
    ("quantity", "missing"),
    [
        (Quantity("bn", "sizes/acc"), "sizes/acc was not measured"),
        (Quantity("bn", "train/running_loss", each="epoch"), "no train/running_loss"),
        (Quantity("bn", "train/step_loss", each="6 steps"), "5 steps, fewer than 6"),
        (Quantity("bn", "depth/mean"), "no depth/mean"),
        (Quantity("bn", "depth/variance", label="links.9"), "no links.9; it has x, input, output"),
    ],
)
def test_what_was_not_measured_is_named(folder, quantity, missing):
    with pytest.raises(NotMeasured, match=missing):
        measured(folder, quantity)


def test_the_start_of_a_probe_that_began_later_is_not_measured(tmp_path):
    late = {**PROBES, "depth/epochs": np.array([1, 3])}
    folder = write_cell(tmp_path / "cell", "bn", {"test/acc": [0.7, 0.8]}, probes=late)
    with pytest.raises(NotMeasured, match="at_start"):
        measured(folder, Quantity("bn", "depth/variance", moment="start"))


def test_a_diverged_replica_has_the_accuracy_of_chance_and_nothing_else_at_the_end(tmp_path):
    probes = {
        **PROBES,
        "scores/epochs": np.array([0, 1]),
        "scores/split": np.array(["train", "test"]),
        "scores/eval_mode_acc": np.full((2, 2, 2), 0.7),
    }
    folder = write_cell(
        tmp_path / "cell",
        "none",
        {"test/acc": [0.9, 0.1], "test/loss": [0.2, None]},
        {"train/running_loss": [[1.0, 0.5], [3.0, math.nan]]},
        probes,
        diverged=[False, True],
    )

    def of(metric, **more):
        return measured(folder, Quantity("none", metric, **more))

    np.testing.assert_equal(of("train/running_loss", each="epoch"), [[1.0, 0.5], [3.0, math.nan]])
    np.testing.assert_equal(of("test/acc"), [0.9, 0.1])
    np.testing.assert_equal(of("test/loss"), [0.2, math.nan])
    np.testing.assert_equal(of("scores/eval_mode_acc", label="test"), [0.7, 0.1])
    np.testing.assert_equal(of("scores/eval_mode_acc", label="test", minus="train"), [0.0, math.nan])
    np.testing.assert_equal(of("scores/eval_mode_acc", label="test", moment="start"), [0.7, 0.7])
    assert np.isnan(of("depth/variance")[1]).all()
    assert np.isfinite(of("depth/variance")[0]).all()


def test_the_curves_and_readings_of_all_runs_of_a_cell_are_in_the_order_of_its_seeds(tmp_path):
    def write(folder, seeds):
        values = np.array(seeds, dtype=float)
        curves = {"train/running_loss": [[seed, seed + 0.5] for seed in seeds]}
        probes = {
            "depth/epochs": np.array([0, 2]),
            "depth/stage": np.array(["x", "y"]),
            "depth/variance": np.stack([values[:, None] * [1, 10], values[:, None] * [2, 20]]),
        }
        write_cell(folder, "bn", {"test/acc": [seed / 10 for seed in seeds]}, curves, probes, seeds=seeds)

    cell = tmp_path / "cell"
    write(cell, [3, 4])
    write(cell / "seeds=4-6", [4, 5, 6])
    assert read(cell).seeds == [3, 4, 5, 6]
    loss = measured(cell, Quantity("bn", "train/running_loss", each="epoch"))
    assert loss.tolist() == [[seed, seed + 0.5] for seed in (3, 4, 5, 6)]
    end = measured(cell, Quantity("bn", "depth/variance", label="y"))
    assert end.tolist() == [20 * seed for seed in (3, 4, 5, 6)]
    start = measured(cell, Quantity("bn", "depth/variance", moment="start"))
    assert start.tolist() == [[seed, 10 * seed] for seed in (3, 4, 5, 6)]


def test_losses_by_step_without_a_curve_by_epoch_were_cut_short(tmp_path):
    folder = write_cell(tmp_path / "cell", "bn", {"test/acc": [0.7, 0.8]}, {"train/step_loss": [[5.0, 3.0]] * 2})
    with pytest.raises(Damaged, match=r"metrics\.csv is cut short: it has no curve by epoch"):
        measured(folder, Quantity("bn", "train/step_loss", each="1 steps"))


def test_what_is_read_is_what_a_run_left_behind(compose_cell):
    probes = ["probes=[]", SIZES]
    cell = compose_cell(*probes, "trainer.max_epochs=2", "replicas=3")
    result = run(cell)
    final = measured(cell.folder, Quantity("bn", "test/acc"))
    assert final.tolist() == result.metrics["test/acc"]
    losses = measured(cell.folder, Quantity("bn", "train/running_loss", each="epoch"))
    np.testing.assert_allclose(losses[:, -1], result.metrics["train/running_loss"], rtol=1e-6)
    sizes = measured(cell.folder, Quantity("bn", "sizes/size", label="logits"))
    np.testing.assert_allclose(sizes, result.probes["sizes"]["size"]["logits"], rtol=1e-6)


def test_a_further_run_without_its_probes_is_said_and_its_replicas_never_left_out(folder):
    write_cell(
        folder / "seeds=2-3", "bn", {"test/acc": [0.5, 0.6], "test/loss": [1.0, 2.0]}, probes=PROBES, seeds=[2, 3]
    )
    assert measured(folder, Quantity("bn", "test/acc")).tolist() == [0.7, 0.8, 0.5, 0.6]
    assert measured(folder, Quantity("bn", "depth/variance", label="x")).tolist() == [10.0, 40.0, 10.0, 40.0]
    (folder / "seeds=2-3" / "probes.npz").unlink()
    with pytest.raises(NotMeasured, match=r"probes\.npz is missing in a run"):
        measured(folder, Quantity("bn", "depth/variance", label="x"))


def of_epochs(tmp_path, epochs, diverged=(False, False)):
    readings = np.arange(1.0, 1 + 2 * len(epochs)).reshape(len(epochs), 2, 1) ** 2
    probes = {"scores/epochs": np.array(epochs), "scores/split": np.array(["test"]), "scores/run_acc": readings / 100}
    metrics = {"test/acc": [0.9, 0.1]}
    folder = write_cell(tmp_path / str(epochs), "bn", metrics, probes=probes, diverged=list(diverged))
    return lambda moment: measured(folder, Quantity("bn", "scores/run_acc", moment=moment, label="test"))


def test_late_is_the_mean_over_the_later_half_of_the_epochs_and_spread_the_standard_deviation(tmp_path):
    of = of_epochs(tmp_path, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(of("late"), [(49 + 81) / 200, (64 + 100) / 200])
    np.testing.assert_allclose(of("spread")[0], np.std([0.09, 0.25, 0.49, 0.81], ddof=1))
    assert of_epochs(tmp_path, [0])("late").tolist() == [0.01, 0.04], "the one that there is"


def test_a_spread_needs_two_readings(tmp_path):
    with pytest.raises(NotMeasured, match=r"one reading while training; set probes\.scores\.every_n_epochs=1"):
        of_epochs(tmp_path, [0, 3])("spread")


def test_a_diverged_replica_has_chance_late_and_no_spread(tmp_path):
    of = of_epochs(tmp_path, [1, 2, 3], diverged=(False, True))
    assert of("late")[1] == 0.1
    assert np.isnan(of("spread")[1])


@pytest.mark.parametrize("moment", ["start", "late", "spread"])
@pytest.mark.parametrize("metric", [{"metric": "test/acc"}, {"metric": "val/acc", "each": "epoch"}])
def test_only_what_a_probe_measures_has_moments(folder, metric, moment):
    with pytest.raises(NotMeasured, match=f"has no moment {moment}"):
        measured(folder, Quantity("bn", moment=moment, **metric))
