"""Refusals: errors that tell the user what is wrong and what to do about it."""

import difflib
import json
import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

NO_SUCH_KEY = "no such key"


class Refusal(ValueError):
    """An error about a value of the configuration, or a file, that the program does not accept.

    Its text is one line, `key=value: got; allowed: ...; remedy`, and no other code makes such a line.

    Args:
        key: The key that is wrong, such as `data.batch_size`, or the file.
        got: The problem, as a clause with the key as its subject.
        allowed: The values that the key may have.
        remedy: The action that solves the problem, in the imperative.
        value: The value that the key has, if it can be shown.
        no_place: Whether what it says is that a norm has no place in a network; a grid of several networks leaves such
            a cell out (see `config.check.placed`).
    """

    ABSENT = object()

    def __init__(self, key: str, got: str, allowed: str, remedy: str, *, value: Any = ABSENT, no_place: bool = False):
        super().__init__(key, got, allowed, remedy)
        self.key = key if value is Refusal.ABSENT else f"{key}={shown(value)}"
        self.got, self.allowed, self.remedy, self.no_place = got, allowed, remedy, no_place

    def __str__(self) -> str:
        line = f"{self.key}: {self.got}; allowed: {self.allowed}; {self.remedy}"
        return "".join(character if character.isprintable() else " " for character in line)

    def noting(self, note: str) -> "Refusal":
        """The same refusal with a note in brackets at the end of its text."""
        return Refusal(self.key, self.got, self.allowed, f"{self.remedy} ({note})")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Refusal) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def unknown_key(key: str, known: Iterable[str]) -> Refusal:
    """The refusal of a key that does not exist, with the most similar of the known keys.

    >>> print(unknown_key("data.batchsize", ["data.batch_size", "data.root"]))
    data.batchsize: no such key; allowed: data.batch_size, data.root; did you mean data.batch_size?
    """
    by_leaf = {name.rpartition(".")[2]: name for name in sorted(known)}
    near = difflib.get_close_matches(key.rpartition(".")[2], by_leaf, n=1)
    remedy = f"did you mean {by_leaf[near[0]]}?" if near else "leave it out"
    return Refusal(key, NO_SUCH_KEY, ", ".join(by_leaf.values()), remedy)


def nearest(value: str, known: Iterable[str]) -> str:
    """The question whether the most similar of the known values was meant; empty if none is similar.

    >>> nearest("batchnorm", ["bn", "batch_norm"]), nearest("x", ["bn"])
    ('did you mean batch_norm?', '')
    """
    near = difflib.get_close_matches(value, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""


def one_line(error: object) -> str:
    r"""The text of an error on one line, or the name of its class where it has none.

    >>> one_line(ValueError("a\n  b")), one_line(KeyError())
    ('a b', 'KeyError')
    """
    return " ".join(str(error).split()) or type(error).__name__


def shown(value: Any) -> str:
    """A value as the user types it, on one line of at most 80 characters; a path is never cut.

    >>> shown([64, 64]), shown(None), shown("a b"), shown(float("nan"))
    ('[64,64]', 'null', "'a b'", 'nan')
    """
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, str):
        text = value if re.fullmatch(r"[\w./+-]+", value) else repr(value)
    elif isinstance(value, float):
        text = str(value)
    else:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= 80 else text[:77] + "..."
