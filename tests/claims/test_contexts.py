from pathlib import Path

import pytest

from bn_experiments.claims.contexts import apart, distinct, of_experiment, of_grid
from bn_experiments.claims.protocol import parse
from tests.cells_by_hand import ORIGIN, a_result

ACC = {"test/acc": [0.5, 0.6]}


def a_folder(*results):
    return {Path(f"cell-{i}"): result for i, result in enumerate(results)}


def arms_of(cells):
    return [list(context.arms) for context in of_grid(cells)]


def a_protocol(arms, axes=("norm",)):
    found, refusals = parse(
        {"name": "a", "title": "A", "source": "nobody", "arms": arms, "published": [], "claims": [], "axes": list(axes)}
    )
    assert not refusals
    return found


def test_cells_of_one_configuration_but_for_the_norm_are_arms_of_one_context():
    cells = a_folder(a_result("bn", ACC), a_result("none", ACC), a_result("gn", ACC, overrides=["norm.num_groups=4"]))
    (context,) = of_grid(cells)
    assert list(context.arms) == ["bn", "none", "gn num_groups=4"]
    assert context.name == "data=mnist1d model=mlp optimizer=sgd"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": {"trainer.max_epochs": 4}}, "trainer.max_epochs is 1, not 4"),  # an edited default, never typed
        ({"config": {"init": "he_uniform"}}, "init is not there on one side alone"),
        ({"config": {"probes.sizes.batch_size": 7}}, "probes.sizes.batch_size is not there on one side alone"),
        ({"made_by": [{**ORIGIN, "data": "eeee"}]}, "data_digest is dddd, not eeee"),
        ({"made_by": [{**ORIGIN, "device": "cuda"}]}, "device is cpu, not cuda"),
    ],
)
def test_a_cell_that_differs_in_anything_else_is_not_compared_and_the_key_is_said(changes, said):
    cells = a_folder(a_result("bn", ACC), a_result("none", ACC, **changes))
    assert arms_of(cells) == [["bn"], ["none"]]
    (line,) = apart(of_grid(cells), "none")
    assert line == f"bn ({of_grid(cells)[0].name}): not compared with none, for {said}"


@pytest.mark.parametrize(
    "key", ["seed", "replicas", "trainer.threads", "paths.output_dir", "name", "baseline", "stale"]
)
def test_keys_that_change_no_number_keep_no_cells_apart(key):
    cells = a_folder(a_result("none", ACC, config={key: 3}), a_result("bn", ACC, config={key: 4}))
    assert arms_of(cells) == [["none", "bn"]]


def test_contexts_of_the_same_name_are_told_apart_by_the_key_that_differs():
    cells = a_folder(a_result("bn", ACC), a_result("bn", ACC, config={"trainer.max_epochs": 4}))
    assert [context.settings for context in of_grid(cells)] == ["trainer.max_epochs=1", "trainer.max_epochs=4"]


def test_arms_of_the_same_name_are_told_apart_by_the_key_that_differs():
    cells = a_folder(a_result("bn", ACC, config={"norm.eps": 0.1}), a_result("bn", ACC, config={"norm.eps": 0.2}))
    assert arms_of(cells) == [["bn eps=0.1", "bn eps=0.2"]]


def test_an_arm_is_whatever_the_keys_of_the_norm_make_it():
    cells = a_folder(
        a_result("none", ACC, overrides=["norm._target_=my_package.MyNorm", "norm.strength=2"]),
        a_result("none", ACC, overrides=["norm._target_=null"]),
        a_result("bn", ACC, overrides=["norm.placement=post"]),
    )
    assert arms_of(cells) == [["MyNorm strength=2", "none", "bn placement=post"]]


def distinct_arms_of(cells):
    kept, lines = distinct(cells)
    return arms_of(kept), lines


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


def test_arms_whose_names_collide_are_all_there():
    paths = [f"{'a' * 90}.{end}.N" for end in ("x", "y")]
    cells = a_folder(*(a_result("none", ACC, overrides=[f"norm._target_={path}"]) for path in paths))
    assert [len(arms) for arms in arms_of(cells)] == [2]


def test_an_experiments_arms_may_name_any_key():
    arms = {"a": {"norm": "bn", "data.train_examples": None}, "b": {"norm": "none", "data.train_examples": 500}}
    cells = a_folder(
        *(
            a_result(norm, ACC, config={"data.train_examples": examples})
            for examples in (None, 500)
            for norm in ("bn", "none")
        )
    )
    (context,) = of_experiment(a_protocol(arms), cells)
    assert {arm: folder.name for arm, folder in context.arms.items()} == {"a": "cell-0", "b": "cell-3"}


def test_keys_of_the_norm_that_an_experiment_does_not_name_set_contexts_apart_and_none_stands_in_each():
    arms = {"bn": {"norm": "bn"}, "none": {"norm": "none"}}
    cells = a_folder(
        a_result("bn", ACC, overrides=["norm.eps=0.1"]),
        a_result("bn", ACC, overrides=["norm.eps=0.2"]),
        a_result("none", ACC),
    )
    contexts = of_experiment(a_protocol(arms), cells)
    found = {context.settings: {arm: folder.name for arm, folder in context.arms.items()} for context in contexts}
    assert found == {
        "norm.eps=0.1": {"bn": "cell-0", "none": "cell-2"},
        "norm.eps=0.2": {"bn": "cell-1", "none": "cell-2"},
    }


def test_with_the_baseline_in_its_context_nothing_is_apart():
    cells = a_folder(a_result("bn", ACC), a_result("none", ACC), a_result("none", ACC, config={"init": "x"}))
    assert apart(of_grid(cells), "none") == []
    assert apart(of_grid(a_folder(a_result("bn", ACC))), "none") == []


def test_among_all_pairs_an_arm_that_stands_alone_is_told_with_the_key_that_differs():
    cells = a_folder(a_result("bn", ACC), a_result("none", ACC), a_result("ln", ACC, config={"init": "x"}))
    (line,) = apart(of_grid(cells), "all")
    assert line.endswith("not compared with others, for init is x on one side alone")


def test_an_arm_with_its_default_does_not_stand_for_one_with_another_value():
    arms = {
        "a": {"norm": "bn", "model.x": 1},
        "b": {"norm": "bn", "model.x": 2},
        "none": {"norm": "none", "model.x": 1},
    }
    eps = {"norm.eps": 0.1}
    cells = a_folder(
        a_result("bn", ACC, overrides=["norm.eps=5.0"], config={"model.x": 1}),
        a_result("bn", ACC, config={"model.x": 2, **eps}),
        a_result("bn", ACC, config={"model.x": 1, **eps}),
        a_result("none", ACC, config={"model.x": 1}),
    )
    found = {c.settings: sorted(c.arms) for c in of_experiment(a_protocol(arms), cells)}
    assert found == {"norm.eps=5.0": ["a", "none"], "": ["a", "b", "none"]}
