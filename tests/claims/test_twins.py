import os
from pathlib import Path

from bn_experiments.claims.contexts import of_grid
from bn_experiments.claims.twins import distinct
from bn_experiments.records.results import done_in
from tests.cells_by_hand import ORIGIN, a_result, write_cell

ACC = {"test/acc": [0.5, 0.6]}
EDITED = {**ORIGIN, "code": {"norms.slot": "bbbb"}}


def a_folder(*results):
    return {Path(f"cell-{i}"): result for i, result in enumerate(results)}


def distinct_arms_of(cells):
    kept, twins = distinct(cells)
    return [list(context.arms) for context in of_grid(kept)], list(map(str, twins))


def test_a_slot_without_a_norm_is_one_arm_whatever_its_keys():
    cells = a_folder(
        a_result("none", ACC, config={"norm.placement": "post"}),
        a_result("none", ACC, config={"norm.placement": "pre"}),
    )
    assert distinct_arms_of(cells)[0] == [["none"]]


def test_a_value_that_is_the_default_makes_no_second_arm():
    cells = a_folder(a_result("bn", ACC, config={"norm.eps": 1}), a_result("bn", ACC, overrides=["norm.eps=1"]))
    line = "cell-1: the same cell as cell-0, which has as many seeds or more; left out"
    assert distinct_arms_of(cells) == ([["bn"]], [line])


def test_of_two_folders_of_one_cell_the_one_with_more_seeds_stays_whatever_their_order():
    few, many = a_result("bn", ACC), a_result("bn", {"test/acc": [0.1] * 5}, overrides=["norm.eps=1"])
    few.config["norm"]["eps"] = 1
    for cells in (a_folder(few, many), a_folder(many, few)):
        assert distinct_arms_of(cells)[0] == [["bn eps=1"]]


def written(sweep, name, count, made_by, time):
    folder = write_cell(sweep / name, "bn", {"test/acc": [0.5] * count}, made_by=[made_by])
    os.utime(folder / "result.json", (time, time))


def test_of_two_folders_of_one_cell_the_one_that_the_newest_records_code_made_stays_and_the_line_says_so(tmp_path):
    written(tmp_path, "old", 20, ORIGIN, time=1)
    written(tmp_path, "new", 6, EDITED, time=2)
    written(tmp_path, "newest", 4, EDITED, time=3)
    kept, twins = distinct(done_in(tmp_path))
    assert [folder.name for folder in kept] == ["new"]
    assert list(map(str, twins)) == [
        "newest: the same cell as new, which has as many seeds or more; left out",
        "old: the same cell as new, but made by other code, and older; left out",
    ]


def test_a_run_of_further_seeds_makes_a_cell_as_new_as_it_is(tmp_path):
    written(tmp_path, "a", 2, ORIGIN, time=1)
    written(tmp_path, "b", 9, EDITED, time=2)
    further = write_cell(tmp_path / "a" / "seeds=2-3", "bn", ACC, seeds=[2, 3])
    os.utime(further / "result.json", (3, 3))
    kept, _ = distinct(done_in(tmp_path))
    assert [(folder.name, len(result.seeds)) for folder, result in kept.items()] == [("a", 4)]
