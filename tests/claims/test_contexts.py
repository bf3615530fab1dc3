from dataclasses import replace
from pathlib import Path

import pytest

from bn_experiments.claims.contexts import apart, of_experiment, of_grid, texts_of, with_most_of
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


@pytest.mark.parametrize(
    "texts",
    [
        ['+model.tag="a/b c=ü, [x] ../.."', "data.batch_size=5"],
        ["model.tag='it\\'s x=1'", "+y=2"],
        ["model.tags=['a b=1',\"c d=2\"]", "x={a:'b c=3'}"],
        ["x=it's", "y=one's"],
    ],
)
def test_settings_are_told_apart_whatever_their_values_have_in_quotes(texts):
    assert texts_of(" ".join(texts)) == texts


def test_contexts_of_the_same_name_are_told_apart_by_the_key_that_differs():
    cells = a_folder(a_result("bn", ACC), a_result("bn", ACC, config={"trainer.max_epochs": 4}))
    assert [context.settings for context in of_grid(cells)] == ["trainer.max_epochs=1", "trainer.max_epochs=4"]


def test_arms_of_the_same_name_are_told_apart_by_the_key_that_differs():
    cells = a_folder(a_result("bn", ACC, config={"norm.eps": 0.1}), a_result("bn", ACC, config={"norm.eps": 0.2}))
    assert arms_of(cells) == [["bn eps=0.1", "bn eps=0.2"]]


def test_an_arm_that_was_typed_with_its_default_and_without_is_one_arm_under_its_shorter_name():
    cells = a_folder(
        a_result("bn", ACC, overrides=["norm.placement=pre"]),
        a_result("bn", ACC, overrides=["norm.placement=post"]),
        a_result("bn", ACC, config={"norm.placement": "pre", "optimizer.lr": 1}),
    )
    assert arms_of(cells) == [["bn", "bn placement=post"], ["bn"]]


def test_an_arm_is_whatever_the_keys_of_the_norm_make_it():
    cells = a_folder(
        a_result("none", ACC, overrides=["norm._target_=my_package.MyNorm", "norm.strength=2"]),
        a_result("none", ACC, overrides=["norm._target_=null"]),
        a_result("bn", ACC, overrides=["norm.placement=post"]),
    )
    assert arms_of(cells) == [["MyNorm strength=2", "none", "bn placement=post"]]


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


RATES = {"adam": {"optimizer": "adam"}, "sgd": {"optimizer": "sgd"}}


def of_optimizer(optimizer, lr, *overrides, typed=True):
    """A cell of one norm with this optimizer, whose rate was typed or is its option's."""
    given = [f"optimizer.lr={lr}"] if typed else []
    return a_result("bn", ACC, optimizer=optimizer, overrides=[*overrides, *given], config={"optimizer.lr": lr})


def folders_of(arms, *results):
    """The folders of each context's arms, by the context's settings."""
    contexts = of_experiment(a_protocol(arms), a_folder(*results))
    return {context.settings: {arm: folder.name for arm, folder in context.arms.items()} for context in contexts}


def test_keys_below_any_group_that_arms_name_set_contexts_apart():
    cells = [of_optimizer(optimizer, lr) for lr in (0.1, 0.2) for optimizer in ("adam", "sgd")]
    assert folders_of(RATES, *cells) == {
        "optimizer.lr=0.1": {"adam": "cell-0", "sgd": "cell-1"},
        "optimizer.lr=0.2": {"adam": "cell-2", "sgd": "cell-3"},
    }


def test_arms_with_the_rates_of_their_options_are_compared_and_stay_so_when_another_rate_is_typed():
    plain = [of_optimizer("adam", 0.001, typed=False), of_optimizer("sgd", 0.05, typed=False)]
    together = {"adam": "cell-0", "sgd": "cell-1"}
    assert folders_of(RATES, *plain) == {"": together}
    assert folders_of(RATES, *plain, of_optimizer("adam", 0.1)) == {
        "": together,
        "optimizer.lr=0.1": {"adam": "cell-2"},
    }


def test_arms_with_different_rates_that_were_typed_are_not_compared_and_the_key_is_said():
    contexts = of_experiment(a_protocol(RATES), a_folder(of_optimizer("adam", 0.1), of_optimizer("sgd", 0.01)))
    assert [list(context.arms) for context in contexts] == [["adam"], ["sgd"]]
    assert contexts[0].absent == {
        "sgd": "arm sgd was not trained with these settings, in which optimizer.lr is 0.1, not 0.01"
    }


def test_a_value_that_was_typed_and_the_same_value_of_an_option_are_compared():
    (context,) = of_experiment(
        a_protocol(RATES), a_folder(of_optimizer("adam", 0.1, typed=False), of_optimizer("sgd", 0.1))
    )
    assert list(context.arms) == ["adam", "sgd"]


@pytest.mark.parametrize("more", [["init=torch"], ["init=torch", "norm.bias=drop"]])
def test_a_default_of_the_norm_that_was_edited_between_two_commands_sets_contexts_apart_in_any_order(more):
    shared = {"init": "torch", "norm.bias": "drop"}
    cells = {
        Path("none"): a_result("none", ACC, config={"init": "torch"}),
        Path("old"): a_result("bn", ACC, config={**shared, "norm.eps": 0.1}),
        Path("new"): a_result("bn", ACC, overrides=more, config={**shared, "norm.eps": 0.2}),
    }
    protocol = a_protocol({"bn": {"norm": "bn"}, "none": {"norm": "none"}})
    for order in (cells, dict(reversed(cells.items()))):
        found = {context.settings: context.arms for context in of_experiment(protocol, order)}
        bias = "norm.bias=drop " * ("norm.bias=drop" in more)
        assert found == {
            "norm.eps=0.1": {"bn": Path("old"), "none": Path("none")},
            f"{bias}norm.eps=0.2": {"bn": Path("new"), "none": Path("none")},
        }


def test_a_key_that_only_one_cell_of_an_arm_has_sets_them_apart():
    plain, more = a_result("bn", ACC), a_result("bn", ACC, overrides=["norm.own=1"])
    arms = {"bn": {"norm": "bn"}, "none": {"norm": "none"}}
    assert folders_of(arms, plain, more, a_result("none", ACC)) == {
        "": {"bn": "cell-0", "none": "cell-2"},
        "norm.own=1": {"bn": "cell-1", "none": "cell-2"},
    }


def test_an_arm_that_several_cells_are_is_none_of_them_and_they_are_said():
    arms = {"bn": {"norm": "bn", "model.x": 1}, "none": {"norm": "none"}}
    cells = [a_result(norm, ACC, config={"model.x": x}) for norm, x in (("bn", 1), ("none", 1), ("none", 2))]
    (context,) = of_experiment(a_protocol(arms), a_folder(*cells))
    assert list(context.arms) == ["bn"]
    assert context.absent == {"none": "2 cells are arm none: cell-1, cell-2"}


def test_a_norm_of_ones_own_is_not_the_arm_none():
    own = a_result("none", ACC, overrides=["norm._target_=my.Norm"])
    (context,) = of_experiment(a_protocol({"bn": {"norm": "bn"}, "none": {"norm": "none"}}), a_folder(own))
    assert context.arms == {}


def test_a_norm_of_ones_own_in_place_of_an_options_is_compared_with_none():
    arms = {"bn": {"norm": "bn"}, "none": {"norm": "none"}}
    own = a_result("bn", ACC, overrides=["norm._target_=my.Norm"])
    assert folders_of(arms, a_result("bn", ACC), own, a_result("none", ACC)) == {
        "": {"bn": "cell-0", "none": "cell-2"},
        "norm._target_=my.Norm": {"bn": "cell-1", "none": "cell-2"},
    }


def test_a_cell_whose_runs_are_of_different_data_is_compared_with_no_other_and_that_is_said():
    mixed = [ORIGIN, {**ORIGIN, "data": "eeee"}]
    cells = a_folder(a_result("bn", ACC, made_by=mixed), a_result("none", ACC, made_by=mixed), a_result("ln", ACC))
    contexts = of_grid(cells)
    assert [list(context.arms) for context in contexts] == [["bn"], ["none"], ["ln"]]
    lines = apart(contexts, "none")
    assert len(lines) == 2
    assert "not compared with none, for data_digest is 'not one: its runs are of different data (cell-0)'" in lines[0]
    by_data = of_experiment(a_protocol({"a": {"norm": "bn", "data": "mnist1d"}, "b": {"norm": "none"}}), cells)
    assert sorted(list(context.arms) for context in by_data if context.arms) == [["a"], ["b"]]


def test_the_name_of_a_context_does_not_depend_on_the_order_of_its_cells():
    bn, none = a_result("bn", ACC, config={"init": "torch"}), a_result("none", ACC, overrides=["init=torch"])
    for cells in (a_folder(bn, none), a_folder(none, bn)):
        assert [context.settings for context in of_grid(cells)] == [""]


def test_of_contexts_that_share_a_cell_those_count_that_hold_most_of_the_commands():
    cells = a_folder(
        a_result("bn", ACC, overrides=["norm.eps=0.1"]),
        a_result("bn", ACC, overrides=["norm.eps=0.2"]),
        a_result("none", ACC),
    )
    contexts = of_experiment(a_protocol({"bn": {"norm": "bn"}, "none": {"norm": "none"}}), cells)
    first, second = (context.name for context in contexts)
    assert with_most_of([Path("cell-1"), Path("cell-2")], contexts) == {second}
    assert with_most_of([Path("cell-2")], contexts) == {first, second}
    assert with_most_of([Path("elsewhere")], contexts) == {first, second}


def test_the_typed_option_of_a_group_that_arms_name_sets_no_contexts_apart():
    arms = {"constant": {"scheduler": "constant"}, "growing": {"scheduler": "growing", "scheduler.gamma": 2}}
    keys = {"constant": {"scheduler.factor": 1.0}, "growing": {"scheduler.gamma": 2}}
    made = {own: a_result("bn", ACC, config=keys[own]) for own in keys}
    typed = {own: {"scheduler": own, "overrides": [f"scheduler={own}"]} for own in keys}
    cells = [replace(result, cell=result.cell | typed[own]) for own, result in made.items()]
    (context,) = of_experiment(a_protocol(arms), a_folder(*cells))
    assert [*context.arms] == ["constant", "growing"]


def test_a_default_that_was_edited_between_two_arms_of_one_option_sets_them_apart():
    arms = {"a": {"norm": "bn", "optimizer": "sgd"}, "b": {"norm": "none", "optimizer": "sgd"}}
    cells = [
        a_result(norm, ACC, overrides=["optimizer=sgd"], config={"optimizer": {"_target_": "SGD", "lr": lr}})
        for norm, lr in (("bn", 0.1), ("none", 0.2))
    ]
    found = of_experiment(a_protocol(arms), a_folder(*cells))
    assert [[*context.arms] for context in found] == [["a"], ["b"]]
    assert "optimizer.lr is 0.1, not 0.2" in found[0].absent["b"]
