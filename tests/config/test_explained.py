"""What --help and the README say that a key allows is what its signature allows."""

import re
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from bn_experiments.config.explained import CONF, comments, of_option
from bn_experiments.config.options import CLASSES, CellOptions
from bn_experiments.data.batches import Batching
from bn_experiments.data.splits import Splitting
from bn_experiments.models.mlp import MLP
from bn_experiments.norms.slot import Slot
from bn_experiments.training.decay import parameter_groups
from bn_experiments.training.initialization import initialize

README = Path(__file__).parents[2] / "README.md"
TARGETS = {
    "norm": [Slot.__init__],
    "data": [Splitting, Batching],
    "trainer": [CLASSES["trainer"]],
    "optimizer": [parameter_groups],
    "model": [MLP.__init__],
    "": [CellOptions, initialize],
}
OPTIONS = {"norm": "bn", "data": "mnist1d", "trainer": "default", "optimizer": "sgd", "model": "mlp"}


def literals(hint):
    """The values of all literals of a type."""
    if get_origin(hint) is Literal:
        return {str(value) for value in get_args(hint)}
    return {value for part in get_args(hint) for value in literals(part)}


CHOICES = {
    f"{group}.{name}".lstrip("."): values
    for group, targets in TARGETS.items()
    for target in targets
    for name, hint in get_type_hints(target).items()
    if (values := literals(hint))
}


def said_of(key):
    group = key.partition(".")[0] if "." in key else ""
    return (of_option(group, OPTIONS[group]) if group else comments(CONF / "config.yaml")).get(key, "")


def test_keys_with_a_choice_of_values_are_found():
    assert CHOICES["norm.placement"] == {"pre", "post"}
    assert {"data.val_split", "trainer.precision", "optimizer.decay", "init", "stale", "model.activation"} <= set(
        CHOICES
    )


@pytest.mark.parametrize("key", CHOICES)
def test_the_comment_that_help_shows_names_every_value_that_a_key_allows(key):
    assert CHOICES[key] <= set(re.findall(r"[\w-]+", said_of(key)))


def test_the_values_that_the_readme_gives_are_those_that_a_key_allows():
    given = {
        key: set(values.split("|"))
        for key, values in re.findall(r"`([\w.]+)=([\w-]+(?:\|[\w-]+)+)`", README.read_text().replace(r"\|", "|"))
    }
    assert {"norm.placement", "norm.bias", "data.val_split", "init", "optimizer.decay"} <= set(given)
    for key, values in given.items():
        assert {value for value in values if not value.isupper()} == CHOICES[key], key
