"""A short name stands for one experiment, or for itself."""

import pytest

from bn_experiments.sweeps.command_line import CONF, experiments, in_full

NAMES = {"mine", "notebooks/lenet", "notebooks/mine", "notebooks/twice", "papers/twice", "papers/deep/lstm"}


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("experiment=lenet", "experiment=notebooks/lenet"),
        ("experiment=lstm", "experiment=papers/deep/lstm"),
        ("experiment='lstm'", "experiment=papers/deep/lstm"),
        ("experiment/notebooks=lenet", "experiment=notebooks/lenet"),  # as --help lists it
        ("experiment/papers/deep=lstm", "experiment=papers/deep/lstm"),
    ],
)
def test_the_last_part_of_one_experiments_name_is_written_in_full(typed, written):
    assert in_full(["-m", typed, "seed=1"], NAMES) == ["-m", written, "seed=1"]


def test_a_norm_of_ones_own_is_written_in_full():
    assert in_full(["norm=my_norms.MyNorm"], NAMES) == ["norm=none", "norm._target_=my_norms.MyNorm"]


@pytest.mark.parametrize(
    "argument",
    [
        "norm=bn",
        "norm=bn,my_norms.MyNorm",  # a grid's cells are written in full one by one
        "norm=1.5",
        "norm.eps=my_norms.MyNorm",
        "model=my_models.MyModel",
        "experiment=notebooks/lenet",
        "experiment=mine",  # an option itself, and the last part of another one
        "experiment=twice",  # of two
        "experiment=nothing",
        "experiment=deep/lstm",
        "experiment=lenet,lstm",
        "experiment=",
        "experiment",
        "experiment/notebooks=nothing",
        "experiment.title=lenet",
        "name=lenet",
        "lenet",
    ],
)
def test_any_other_argument_stays_as_it_was_typed(argument):
    assert in_full([argument], NAMES) == [argument]


def test_the_experiments_are_found_in_every_folder_of_conf():
    found = experiments([])
    assert {"notebooks/udl_residual", "papers/recurrent"} <= found
    assert len(found) == len(list((CONF / "experiment").rglob("*.yaml")))


@pytest.mark.parametrize("option", [["--config-dir", "{}"], ["--config-dir={}"], ["-cd", "{}"]], ids=" ".join)
def test_the_experiments_of_a_users_own_folder_count_too(option, tmp_path):
    (tmp_path / "experiment" / "ours").mkdir(parents=True)
    (tmp_path / "experiment" / "ours" / "lenet.yaml").touch()
    arguments = [*(word.format(tmp_path) for word in option), "-c", "job", "seed=1"]
    assert experiments(arguments) == {*experiments([]), "ours/lenet"}


@pytest.mark.parametrize("arguments", [["--config-dir"], ["--config-dir", "/nowhere"], ["-c", "job"]], ids=" ".join)
def test_a_command_that_names_no_such_folder_is_left_to_hydra(arguments):
    assert experiments(arguments) == experiments([])
