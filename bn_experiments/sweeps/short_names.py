"""Short names: `experiment=udl_residual` stands for the one experiment of that name, whatever folder it lies in."""

import argparse
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from bn_experiments.config.composition import CONF

GROUP = "experiment"


def in_full(arguments: Sequence[str], experiments: AbstractSet[str]) -> list[str]:
    """The command line with the short name of an experiment written in full.

    `experiment/notebooks=name`, as `--help` lists it, is written as `experiment=notebooks/name` too. A name that
    stands for no experiment, for several, or for one that lies in no folder, stays as it is: Hydra takes or refuses
    it.

    Args:
        arguments: The command line, without the program's name.
        experiments: The experiments' full names, as `experiment=` takes them.

    >>> in_full(["-m", "experiment=lenet", "seed=1"], {"notebooks/lenet", "mine"})
    ['-m', 'experiment=notebooks/lenet', 'seed=1']
    """
    return [_in_full(argument, experiments) for argument in arguments]


def experiments(arguments: Sequence[str]) -> set[str]:
    """The full names of the experiments below `conf/`, and below the folder that `--config-dir` names.

    Args:
        arguments: The command line, without the program's name.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument("--cfg", "-c")  # or argparse takes Hydra's -c for -cd
    try:
        own = parser.parse_known_args(arguments)[0].config_dir
    except argparse.ArgumentError:  # no folder stands after it, which Hydra refuses
        own = None
    folders = [conf / GROUP for conf in (CONF, own) if conf]
    return {
        file.relative_to(folder).with_suffix("").as_posix() for folder in folders for file in folder.rglob("*.yaml")
    }


def _in_full(argument: str, experiments: AbstractSet[str]) -> str:
    key, _, quoted = argument.partition("=")
    name = quoted.strip("'\" ")
    group, _, folder = key.partition("/")
    if group != GROUP or (not folder and name in experiments):
        return argument
    if folder:
        meant = experiments & {f"{folder}/{name}"}
    else:
        meant = {experiment for experiment in experiments if experiment.rpartition("/")[2] == name}
    return f"{GROUP}={min(meant)}" if len(meant) == 1 else argument
