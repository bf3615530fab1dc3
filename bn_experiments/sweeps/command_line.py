"""The command line: Hydra's main, given experiments by their short names, and ended with a line for each error."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

from bn_experiments.config.cells import spelled_out
from bn_experiments.config.composition import CONF, explain
from bn_experiments.config.errors import COMPOSITION_ERRORS
from bn_experiments.refusal import Refusal
from bn_experiments.system import interruption

REFUSED = 2  # exit status
GROUP = "experiment"


def command_line(main: Callable[[], Any]) -> NoReturn:
    """Runs Hydra's main, and ends the program.

    Exit status: 0 when every cell has its result, 1 when one failed, 2 when the command was refused, 130
    after Ctrl-C, 143 after SIGTERM.
    """
    sys.argv[1:] = in_full(flags_first(added(sys.argv[1:])), experiments(sys.argv[1:]))
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises what it would print over many lines
    if isinstance(sys.stdout, TextIOWrapper):  # where the terminal has no such character, a ? stands for it
        sys.stdout.reconfigure(errors="replace")
    try:
        with interruption.listening():
            main()
    except interruption.Interrupted as interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the comparison comes yet, unless one is impatient
        print("interrupted: the same command goes on from here", file=sys.stderr)
        sys.exit(interrupted.status)
    except COMPOSITION_ERRORS as error:
        refuse(explain(error, sys.argv[1:]))
    sys.exit(0)


def flags_first(arguments: Sequence[str]) -> list[str]:
    """The command line with -m in front, since argparse takes no overrides on both sides of it.

    >>> flags_first(["model=mlp", "-m", "norm=bn,none"])
    ['-m', 'model=mlp', 'norm=bn,none']
    """
    return sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))


def added(arguments: Sequence[str]) -> list[str]:
    """The command line with the keys of `tune` as Hydra has them that are in no file.

    >>> added(["-m", "tune.optimizer.lr=1e-3..10:9"])
    ['-m', '++tune.optimizer.lr=1e-3..10:9']
    """
    return [f"++{argument}" if argument.startswith("tune.") else argument for argument in arguments]


def in_full(arguments: Sequence[str], experiments: AbstractSet[str]) -> list[str]:
    """The command line with the short name of an experiment, and a norm of one's own, written in full.

    `experiment/notebooks=name`, as `--help` lists it, is written as `experiment=notebooks/name` too. A name that
    stands for no experiment, for several, or for one that lies in no folder, stays as it is: Hydra takes or refuses
    it.

    Args:
        arguments: The command line, without the program's name.
        experiments: The experiments' full names, as `experiment=` takes them.

    >>> in_full(["-m", "experiment=lenet", "seed=1"], {"notebooks/lenet", "mine"})
    ['-m', 'experiment=notebooks/lenet', 'seed=1']
    """
    return [each for argument in arguments for each in spelled_out(_in_full(argument, experiments))]


def experiments(arguments: Sequence[str]) -> set[str]:
    """The full names of the experiments below `conf/`, and below the folder that `--config-dir` names.

    Args:
        arguments: The command line, without the program's name.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", type=Path, nargs="?")  # where nothing stands after it, Hydra refuses it
    parser.add_argument("--cfg", "-c", nargs="?")  # or argparse takes Hydra's -c for -cd
    own = parser.parse_known_args(arguments)[0].config_dir
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


def refuse(refusals: Iterable[Refusal]) -> NoReturn:
    """Prints a line for each refusal and ends the program."""
    print(*refusals, sep="\n", file=sys.stderr)
    sys.exit(REFUSED)
