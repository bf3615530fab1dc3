"""The command line: Hydra's main, ended with a line for each thing that is wrong, and never with a traceback."""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from bn_experiments.config.composition import explain
from bn_experiments.config.errors import COMPOSITION_ERRORS
from bn_experiments.refusal import Refusal
from bn_experiments.sweeps import short_names
from bn_experiments.system import interruption

REFUSED = 2  # exit status


def command_line(main: Callable[[], Any]) -> NoReturn:
    """Runs Hydra's main, and ends the program.

    Exit status: 0 when every cell has its result, 1 when one failed, 2 when the command was refused, 130
    after Ctrl-C, 143 after SIGTERM.
    """
    sys.argv[1:] = short_names.in_full(sys.argv[1:], short_names.experiments(sys.argv[1:]))
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises what it would print over many lines
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


def refuse(refusals: Iterable[Refusal]) -> NoReturn:
    """Prints a line for each refusal and ends the program."""
    for refusal in refusals:
        print(refusal, file=sys.stderr)
    sys.exit(REFUSED)
