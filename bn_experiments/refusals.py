"""Refusals: what Hydra finds wrong with a command, in one line each for a person."""

import itertools
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

REFUSED = 2  # exit status
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, ValueError, OSError)
CONF = Path(__file__).resolve().parents[1] / "conf"
MOST_COMBINATIONS = 16


def refuse(lines: Iterable[str]) -> NoReturn:
    """Prints a line for each error and ends the program."""
    for line in lines:
        print(line, file=sys.stderr)
    sys.exit(REFUSED)


def explain(error: Exception, arguments: Sequence[str]) -> list[str]:
    """All that is wrong with a command line that Hydra could not compose.

    Hydra stops at the first error. So each option of a group is tried alone, then every other override
    with the options that are right.

    Args:
        error: What Hydra raised.
        arguments: The command line.
    """
    try:
        parsed = get_args_parser().parse_args(list(arguments))
    except SystemExit:
        return [line(error)]
    extra = [f"hydra.searchpath=[file://{Path(parsed.config_dir).resolve()}]"] if parsed.config_dir else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        lines = _tried(parsed.overrides, extra)
        return lines or [line(error)]


def _tried(overrides: Sequence[str], extra: list[str]) -> list[str]:
    groups = set(compose("config", overrides=extra, return_hydra_config=True).hydra.runtime.choices)
    lines: list[str] = []
    right: dict[str, list[str]] = {}
    keys: list[str] = []
    for override in overrides:
        try:
            (parsed,) = OverridesParser.create().parse_overrides([override])
        except HydraException as error:
            lines.append(line(error, override))
            continue
        key = parsed.get_key_element()
        values = [f"{key}={v}" for v in parsed.sweep_string_iterator()] if parsed.is_sweep_override() else [override]
        if key not in groups:
            keys += values
            continue
        for value in values:
            found = _error([*extra, value], value)
            lines += [found] if found else []
            right.setdefault(key, []).extend([] if found else [value])
    combinations = list(itertools.islice(itertools.product(*filter(None, right.values())), MOST_COMBINATIONS))
    for key in keys:
        found_lines = [_error([*extra, *combination, key], key) for combination in combinations]
        if all(found_lines):
            lines.append(str(found_lines[0]))
    return list(dict.fromkeys(lines))


def _error(overrides: Sequence[str], of_interest: str) -> str | None:
    try:
        compose("config", overrides=list(overrides))
    except COMPOSITION_ERRORS as error:
        return line(error, of_interest)
    return None


def line(error: Exception, override: str = "") -> str:
    """An error of Hydra or OmegaConf as one line: the key, what it got, what is allowed, what to do.

    Args:
        error: What was raised.
        override: The override it is about, where that is known.
    """
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return (
            f"{group}={option}: no such option; allowed: {', '.join(sorted(error.options))}; choose one, or add "
            f"conf/{group}/{option}.yaml"
        )
    if match := re.match(r"Could not (?:override|delete from config\.) '(.+?)'", text):
        return _unknown(match[1])
    if match := re.match(r"Ambiguous value for argument '(.+)'\n", text):
        return f"{match[1]}: several values; allowed: one a run; add -m to run them all as a grid"
    if isinstance(error, OverrideParseException):
        reason = text.split("\n", maxsplit=1)[0]
        return (
            f"{error.override}: cannot be read ({reason}); allowed: key=value; put a value with special "
            "characters in quotes, 'key=\"value\"'"
        )
    if full_key := getattr(error, "full_key", None):
        return f"{full_key}: {text.splitlines()[0]}; allowed: a value that can be resolved; change it"
    reason = " ".join(text.split())
    return f"{override or 'config'}: {reason}; allowed: what python train.py --help shows; change it"


def _unknown(key: str) -> str:
    from bn_experiments.options import unknown_key

    known = _keys(compose("config"))
    siblings = [name for name in known if name.rpartition(".")[0] == key.rpartition(".")[0]]
    return unknown_key(key, siblings or [name for name in known if "." not in name])


def _keys(config: DictConfig, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name in map(str, config):
        value: Any = config._get_node(name)
        keys.append(f"{prefix}{name}")
        if isinstance(value, DictConfig):
            keys += _keys(value, f"{prefix}{name}.")
    return [key for key in keys if not key.endswith(("_target_", "_partial_"))]
