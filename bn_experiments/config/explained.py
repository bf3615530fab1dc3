"""Explained: every key of a configuration with its value, and what the comment beside it in its file says."""

import re
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from bn_experiments.records.identity import flat
from bn_experiments.refusal import shown

CONF = Path(__file__).resolve().parents[2] / "conf"
LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):(?:\s+(?P<value>[^#\s].*?))?(?:\s+# (?P<comment>.*))?")
SHARED = re.compile(r"(?:/shared/)?(\w+)@_here_")
KEY = 46  # letters that a key with its value takes before its comment


def explained(config: DictConfig) -> str:
    """A line for each key, `key=value` with its comment, as a template of Hydra's help takes it.

    Args:
        config: The composed configuration, with Hydra's own part, which is left out.
    """
    values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    values.pop("hydra", None)
    own = values.pop("experiment", None)
    said = comments(CONF / "config.yaml")
    for group, options in config.hydra.runtime.choices.items():
        for option in re.findall(r"[\w/-]+", str(options)) if not group.startswith("hydra") else ():  # a list is a text
            said |= of_option(group, option)
    text, parent = "", None
    for key, value in flat({**values, **({} if own else {"experiment": None})}).items():
        group = key.partition(".")[0] if "." in key else ""
        text += "\n" * (parent is not None and group != parent)
        text += f"  {f'{key}={shown(value)}':<{KEY}}  {said.get(key, '')}".rstrip() + "\n"
        parent = group
    return text.replace("$", "$$")


def of_option(group: str, option: str) -> dict[str, str]:
    """The comments of an option's file by key."""
    file = CONF / group / f"{option}.yaml"
    if not file.is_file():  # one of your own, from another folder
        return {}
    package = re.search(r"^# @package (\S+)", file.read_text(), re.MULTILINE)
    return {f"{package[1] if package else group}.{key}": comment for key, comment in comments(file).items()}


def comments(file: Path) -> dict[str, str]:
    """The comments of a YAML file, and of what it takes from `conf/shared/`, by dotted key; not every key has one."""
    lines = file.read_text().splitlines()
    found: dict[str, str] = {}
    for name in SHARED.findall(next((line for line in lines if line.startswith("defaults: [")), "")):
        found |= comments(CONF / "shared" / f"{name}.yaml")
    parents: list[tuple[int, str]] = []
    for line in lines:
        if match := LINE.fullmatch(line):
            indent = len(match["indent"])
            parents = [(depth, name) for depth, name in parents if depth < indent]
            if match["comment"]:
                found[".".join([*(name for _, name in parents), match["key"]])] = match["comment"]
            parents.append((indent, match["key"]))
    return found


# `${keys:}` in conf/config.yaml
OmegaConf.register_new_resolver("keys", lambda *, _root_: explained(_root_), replace=True)
