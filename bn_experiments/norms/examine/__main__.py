"""The command: python -m bn_experiments.norms.examine my_package.MyNorm [key=value ...]."""

import argparse
import ast
import logging
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import torch

from bn_experiments.norms.examine.findings import examine
from bn_experiments.norms.examine.page import page
from bn_experiments.norms.slot import Slot
from bn_experiments.refusal import NO_SUCH_KEY, Refusal
from bn_experiments.signatures import problems

WORDS = {"true": True, "false": False, "null": None}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what a norm does; the exit status is 1 where the bench cannot train it, 2 after a refusal."""
    logging.getLogger("hydra").addHandler(logging.NullHandler())  # whose errors come back as refusals
    parser = argparse.ArgumentParser(
        prog="python -m bn_experiments.norms.examine",
        description="Tries a norm of your own in a few seconds, and says what works. Nothing is trained or written.",
    )
    parser.add_argument(
        "path", metavar="my_package.MyNorm", help="its class; {dim} in it becomes 1 or 2, as in train.py"
    )
    parser.add_argument("options", metavar="key=value", nargs="*", help="its own options, and layers=conv or linear")
    parser.add_argument("--features", type=int, default=24, help="its width in the trials (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="the examples in a batch (default: %(default)s)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)  # as in a cell
    try:
        if given.batch_size == given.features or min(given.batch_size, given.features) < 2:
            got, allowed = "cannot tell examples from features", "two different numbers above 1"
            raise Refusal("--batch-size, --features", got, allowed, "change one")
        options = checked(given.path, dict(map(option, given.options)))
        findings = examine(given.path, options, given.features, given.batch_size)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 2
    print(page(given.path, given.options, given.features, given.batch_size, findings))
    return 0 if findings.usable else 1


def option(argument: str) -> tuple[str, Any]:
    """The key and the value of an option as it is typed, with or without what train.py needs before it.

    Raises:
        Refusal: There is no `=` in it.

    >>> option("+norm.strength=3"), option("affine=false"), option("eps=1e-5"), option("kind=mean")
    (('strength', 3), ('affine', False), ('eps', 1e-05), ('kind', 'mean'))
    """
    key, equals, text = argument.lstrip("+").removeprefix("norm.").partition("=")
    if not equals:
        raise Refusal(argument, "is no option", "key=value", "give the value, or leave it out")
    try:
        return key, WORDS[text] if text in WORDS else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return key, text


def checked(path: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options, if the class or the slot takes each of them.

    Raises:
        Refusal: One is wrong, or the path cannot be imported or names no norm with a width.
    """
    slot = Slot(path, **{"layers": "all", **options})
    if isinstance(slot.import_target(1), ModuleType):
        got, allowed = "is a module, not a class in it", "the dotted path of an installed class"
        raise Refusal("norm._target_", got, allowed, f"write {path}.MyNorm", value=path)
    if slot.width_argument == "module":
        got, allowed = "is a parametrization, which normalizes weights", "a class that normalizes features"
        raise Refusal("norm._target_", got, allowed, "train it at once", value=path)
    passed = ("target", "options", slot.width_argument)
    wrong = problems({"layers": "all", **options}, "norm", slot.import_target(1), Slot, given=passed)
    if wrong:
        raise min(wrong, key=lambda refusal: refusal.got != NO_SUCH_KEY)  # what is misspelled explains what is missing
    return options


if __name__ == "__main__":
    sys.exit(main())
