"""What cells have in common is looked at once, and no answer is taken for another cell's."""

import pytest

from bn_experiments.config import check as checks
from bn_experiments.config import dry_run
from bn_experiments.config.once import Once


def test_a_function_is_asked_once_for_configurations_that_agree_in_the_keys_it_reads():
    asked = []
    once = Once()

    def look(config, more="none"):
        asked.append((config, more))
        return len(asked)

    assert once(look, {"a": 1, "b": 1}, "a") == once(look, {"a": 1, "b": 2}, "a") == 1
    assert once(look, {"a": 2, "b": 2}, "a") == 2
    assert once(look, {"a": 2, "b": 2}, "a", more="some") == 3
    assert asked == [({"a": 1}, "none"), ({"a": 2}, "none"), ({"a": 2}, "some")]


def test_a_function_that_reads_another_key_fails_loudly():
    with pytest.raises(KeyError):
        Once()(lambda config: config["b"], {"a": 1, "b": 2}, "a")


# one key of each group, and what it may be beside its default
VALUES = ["model.hidden=[7]", "norm.eps=0.5", "optimizer.lr=0.3", "trainer.max_epochs=2", "data.batch_size=50"]
VALUES += ["init=he_uniform", "replicas=3", "seed=9", "model=lenet", "norm=ln", "data.val_split=random"]
WRONG = ["model.hidden=[0]", "norm.eps=-1", "optimizer.lr=0", "trainer.max_epochs=-1", "data.batch_size=0", "seed=-1"]
WRONG += ["init=foo", "replicas=0", "norm=gn norm.num_groups=3", "data.val_fraction=0.0001"]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_cell_is_refused_in_company_as_it_is_alone(compose_cell, wrong):
    bad = compose_cell(*wrong.split())
    company = [compose_cell(), compose_cell("seed=4"), bad]
    alone = [str(refusal) for refusal in checks.check(bad)]
    assert alone
    found = [str(refusal) for refusal in checks.check_cells(company)]
    assert found == [f"{line} (1 of {len(company)} cells)" for line in alone]


def test_cells_that_differ_in_a_key_that_networks_depend_on_are_each_tried(compose_cell, monkeypatch):
    tried = []
    network = dry_run._network
    monkeypatch.setattr(dry_run, "_network", lambda *arguments: tried.append(arguments[0]) or network(*arguments))
    cells = [compose_cell(value) for value in VALUES]
    assert checks.check_cells(cells) == []
    alike = [value for value in VALUES if value.startswith(("optimizer", "seed"))]
    assert len(tried) == len(VALUES) - len(alike) + 1
