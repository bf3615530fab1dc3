"""Numbers that a grid sweeps: which cells are compared, in which order, and what is said of them."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bn_experiments.claims import swept_tables
from bn_experiments.claims.contexts import of_grid
from bn_experiments.claims.swept import changes, swept, trains_up_to
from bn_experiments.statistics.decisions import holm
from tests.cells_by_hand import ORIGIN, a_result

ACCURACIES = {  # of bn and none, by the value; in order of text, 10 would come before 2
    "10": ([0.50, 0.55, 0.20, 0.51, 0.52, 0.53], [0.10] * 6),
    "0.5": ([0.60, 0.62, 0.64, 0.61, 0.66, 0.63], [0.52, 0.50, 0.55, 0.51, 0.50, 0.53]),
    "2": ([0.70, 0.75, 0.74, 0.71, 0.72, 0.73], [0.60, 0.61, 0.66, 0.62, 0.60, 0.65]),
}


def a_grid(key="optimizer.lr", values=("10", "0.5", "2"), untyped="", **more):
    """The cells of bn and none at some values of a key, by folder."""
    cells = {}
    for value in values:
        for norm, own in zip(("bn", "none"), ACCURACIES[value], strict=True):
            overrides = [] if value == untyped else [f"{key}={value}"]
            config = {key: value, **{other: form.format(value) for other, form in more.items()}}
            found = a_result(norm, {"test/acc": own}, overrides=overrides, config=config, chance={"test/acc": 0.13})
            cells[Path(f"{norm}-{value}")] = found
    return cells


def one_of(cells):
    (found,) = swept(of_grid(cells))
    return found


def test_values_stand_in_the_order_of_numbers_whatever_the_order_in_which_they_were_typed():
    cells = a_grid()
    assert list(one_of(cells).contexts) == [0.5, 2, 10]
    assert [context.settings for context in of_grid(cells)] == [f"optimizer.lr={each}" for each in ("0.5", "2", "10")]


def test_a_default_that_nobody_typed_stands_among_the_values():
    assert [context.settings for context in of_grid(a_grid(untyped="2"))][1] == "optimizer.lr=2"


def test_what_differs_in_another_key_too_is_no_sweep():
    assert swept(of_grid(a_grid(**{"optimizer.momentum": "0.0{}"}))) == []


def test_a_batch_size_takes_that_of_a_probe_along_and_a_number_of_the_data_the_data():
    assert one_of(a_grid("data.batch_size", **{"probes.mine.batch_size": "{}"})).key == "data.batch_size"
    cells = a_grid("data.train_examples", values=["2", "10"])
    for folder, result in cells.items():
        result.made_by[:] = [{**ORIGIN, "data": folder.name.partition("-")[2]}]
    assert list(one_of(cells).contexts) == [2, 10]


def test_of_two_axes_each_is_swept_at_each_value_of_the_other():
    cells = {
        Path(f"{norm}-{rate}-{decay}"): a_result(
            norm, {"test/acc": ACCURACIES[rate][0]}, config={"optimizer.lr": rate, "optimizer.weight_decay": decay}
        )
        for norm in ("bn", "none")
        for rate in ("0.5", "2")
        for decay in ("0", "0.001")
    }
    assert sorted(found.key for found in swept(of_grid(cells))) == ["optimizer.lr"] * 2 + ["optimizer.weight_decay"] * 2


def test_the_change_of_an_arm_beside_the_baselines_is_the_interaction_with_holms_p():
    cells = a_grid()
    rows = changes([one_of(cells)], cells, "none")
    found, ps = rows[rows["arm"] == "bn"], []
    for end, row in zip(("2", "10"), found.to_dict("records"), strict=True):
        (bn, none), (bn_before, none_before) = np.array(ACCURACIES[end]), np.array(ACCURACIES["0.5"])
        test = stats.ttest_rel(bn - bn_before, none - none_before)
        interval = test.confidence_interval(0.99)
        assert (row["start"], row["end"]) == (0.5, float(end))
        assert row["mean"] == pytest.approx(np.mean(bn - bn_before))
        expected = [np.mean(bn - bn_before - none + none_before), interval.low, interval.high]
        assert [row[key] for key in ("difference", "difference_low", "difference_high")] == pytest.approx(expected)
        ps.append(test.pvalue)
    assert found["p"].tolist() == pytest.approx(holm(ps))
    assert rows[rows["arm"] == "none"]["difference"].isna().all()


def test_pairs_are_the_seeds_that_all_four_cells_have():
    cells = a_grid()
    cells[Path("none-2")].seeds[:] = [0, 1, 2, 3, 4, 99]
    row = changes([one_of(cells)], cells, "none").query("arm == 'bn' and end == 2").iloc[0]
    assert (row["n"], row["pairs"]) == (6, 5)


def test_the_line_says_up_to_which_value_each_arm_trains():
    cells = a_grid()
    line = trains_up_to(one_of(cells), cells)  # half of the way from .13 to bn's best mean, .725, is .4275
    geometric = np.exp(np.mean(np.log([10, 10, 2, 10, 10, 10])))
    assert line.startswith(f"optimizer.lr, where replicas train: bn up to at least {geometric:.3g} [")
    assert line.endswith("none up to 2, and not at 10")
    learning = {folder: result for folder, result in cells.items() if "10" not in folder.name}
    assert trains_up_to(one_of(learning), learning) == "", "all train at the largest value, so nothing is to be said"


def test_the_summary_has_the_question_and_its_answer_in_points():
    cells = a_grid()
    found = one_of(cells)
    text = "\n".join(swept_tables.markdown([found], changes([found], cells, "none"), cells, "none"))
    assert "does optimizer.lr help an arm more than none? test accuracy, points" in text
    bn, none = (np.mean(np.subtract(*own)) for own in zip(ACCURACIES["2"], ACCURACIES["0.5"], strict=True))
    assert f"| 0.5 to 2 | bn | {100 * bn:+.2f} [" in text
    assert f"| {100 * (bn - none):+.2f} [" in text
