"""Refusals: all that is wrong with a command, a line each for a person, before anything is made."""

import copy
import difflib
import functools
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bn_experiments.config.cells import GROUPS, Cell, cell_of
from bn_experiments.config.groups import options_of
from bn_experiments.refusal import Refusal

REFUSED = 2  # exit status
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, ValueError, OSError, AssertionError)
Options = Callable[[str], list[str]]  # the options of a group; none where it is no group
CONF = Path(__file__).resolve().parents[2] / "conf"


def refuse(refusals: Iterable[Refusal]) -> NoReturn:
    """Prints a line for each refusal and ends the program."""
    for refusal in refusals:
        print(refusal, file=sys.stderr)
    sys.exit(REFUSED)


def explain(error: Exception, arguments: Sequence[str]) -> list[Refusal]:
    """All that is wrong with a command line that Hydra could not compose.

    Args:
        error: What Hydra raised: the first thing it found.
        arguments: The command line.
    """
    GlobalHydra.instance().clear()
    try:
        parsed = get_args_parser().parse_args(list(arguments))
        search_path = create_config_search_path(str(CONF))
        if parsed.config_dir:
            search_path.prepend("command-line", f"file://{Path(parsed.config_dir).resolve()}")
        Hydra.create_main_hydra2("train", search_path)
        brings_grid = any(_name(override) == "experiment" for override in parsed.overrides)
        _, lines = judge(parsed.config_name or "config", parsed.overrides, parsed.multirun or brings_grid)
    except (SystemExit, *COMPOSITION_ERRORS):
        lines = []
    finally:
        GlobalHydra.instance().clear()
    return lines or [line(error)]


def judge(config_name: str, overrides: Sequence[str], multirun: bool) -> tuple[list[Cell], list[Refusal]]:
    """The cells that a command asks for, and all that is wrong with it.

    Hydra stops at the first error. So what cannot be read or chosen is left out, with the keys of a group
    that has no right option; each cell is composed from the rest, and checked as far as that goes.

    Args:
        config_name: Of the primary config.
        overrides: As typed, with all values of a grid.
        multirun: Whether a key may have several.
    """
    search = [override for override in overrides if _name(override) == "hydra.searchpath"]
    loader = GlobalHydra.instance().config_loader()
    options = functools.cache(lambda group: options_of(loader, group, config_name=config_name, overrides=search))
    read = [_read(override, multirun, options) for override in overrides]
    lines = [line for found, _ in read for line in found]
    unread = {_name(override) for override, (_, parsed) in zip(overrides, read, strict=True) if parsed is None}
    right = [parsed for _, parsed in read if parsed and parsed.key_or_group.split(".")[0] not in unread]
    points = BasicSweeper.split_arguments(right, None)[0] if multirun else [[str(o.input_line) for o in right]]
    start = functools.cache(lambda *choices: compose(config_name, list(choices), return_hydra_config=True))
    cells, left_out, kept = [], unread, False
    for point in points:
        try:
            cell, wrong = _composed(start, point, options)
        except COMPOSITION_ERRORS as error:
            lines.append(line(error))
            continue
        cells.append(cell)
        lines += wrong.values()
        left_out |= {_name(override) for override in wrong}
        kept |= len(wrong) < len(point)
    if kept or not lines:  # a command of nothing but typing errors is answered in a second, without torch
        from bn_experiments.config.check import check_cells

        lines += check_cells(cells, {name.split(".")[0] for name in left_out})
    return cells, list(dict.fromkeys(lines))


def _read(override: str, multirun: bool, options: Options) -> tuple[list[Refusal], Override | None]:
    """An override with those of its values that are right, None if there are none, and a line for each other one."""
    try:
        parsed = _parse(override)
        swept = parsed.is_sweep_override()
        values = list(parsed.sweep_string_iterator()) if swept else [""]
        each = [_parse(f"{parsed.get_key_element()}={value}") for value in values] if swept else [parsed]
    except HydraException as error:
        return [_unreadable(override, error)], None
    if swept and parsed.key_or_group == "experiment":
        return [
            Refusal(str(override), "several experiments", "one, which brings its own grid", "start one after another")
        ], None
    if swept and not multirun:
        return [Refusal(str(override), "several values", "one a run", "add -m to run them all as a grid")], None
    lines = [
        Refusal(str(override), f"{value} comes {count} times", "each value once", "leave out what repeats")
        for value, count in Counter(values).items()
        if count > 1
    ]
    found = [_no_option(one, options) for one in each]
    lines += [line for line in dict.fromkeys(found) if line]
    right = [value for value, line in zip(values, found, strict=True) if not line]
    if not right:
        return lines or [Refusal(str(override), "stands for no value", "one or more", "change it")], None
    return lines, _parse(f"{parsed.get_key_element()}={','.join(dict.fromkeys(right))}") if swept else parsed


def _parse(override: str) -> Override:
    loader = GlobalHydra.instance().config_loader()
    parsed = OverridesParser.create(loader).parse_override(override)
    parsed.config_loader = loader  # for glob()
    return parsed


def _name(override: str) -> str:
    return override.lstrip("+~").split("=")[0].split("@")[0]


def _chooses(override: str, options: Options) -> bool:
    """Whether it has a say in what is composed: it names the option of a group, or tells Hydra where to look."""
    if _name(override).startswith("hydra."):
        return True
    return bool(options(_name(override))) and not isinstance(_parse(override).value(), dict)


def _unreadable(override: str, error: Exception) -> Refusal:
    key, equals, value = override.partition("=")
    if not equals:
        return Refusal(str(override), "is no override", "key=value or group=option", "give it a value")
    reason = " ".join(str(error).split()).split(" expecting ")[0]
    quoted = value.replace('"', '\\"')
    mend = "write $HOME for ~" if value.startswith("~") else f"""complete it, or quote it, '{key}="{quoted}"'"""
    return Refusal(str(override), f"cannot be read ({reason})", "key=value", str(mend))


def _no_option(override: Override, options: Options) -> Refusal | None:
    """The line for an option that its group does not have."""
    group, value, there = override.key_or_group, override.value(), options(override.key_or_group)
    if not there or override.is_delete() or isinstance(value, dict):
        return None
    if group in GROUPS and not override.package and (override.is_add() or override.is_force_add()):
        return Refusal(str(override.input_line), f"the config has its {group}", f"{group}=option", "leave out the +")
    if all(part in there for part in (value if isinstance(value, list) else [value])):
        return None
    names = {**{option.rpartition("/")[2]: option for option in there}, **{option: option for option in there}}
    near = [names[name] for name in difflib.get_close_matches(str(value).lower(), names, n=1)]
    may_be_added = group in GROUPS and isinstance(value, str) and re.fullmatch(r"[\w-]+", value)
    add = f", or add conf/{group}/{value}.yaml" if may_be_added else ""
    mend = f"did you mean {group}={near[0]}?" if near else f"choose one{add}"
    return Refusal(str(override.input_line), "no such option", ", ".join(there), str(mend))


def _composed(
    start: Callable[..., DictConfig], overrides: list[str], options: Options
) -> tuple[Cell, dict[str, Refusal]]:
    """The cell that overrides give, less those that are wrong, and a line for each of these.

    Args:
        start: The config of choices of groups. To compose it takes Hydra ten times as long as all else here,
            and the cells of a grid share choices.
        overrides: Of one cell.
        options: Of a group.
    """
    choices = [override for override in overrides if _chooses(override, options)]
    settings = [override for override in overrides if override not in choices]
    try:
        return _changed(start(*choices), settings, overrides)[1], {}
    except COMPOSITION_ERRORS:
        config, cell = _changed(start(*choices), [], choices)
    wrong = {}
    for setting in settings:
        try:
            config, cell = _changed(config, [setting], [*choices, setting])
        except COMPOSITION_ERRORS as error:
            wrong[setting] = line(error, setting, start(*choices))
    return cell, wrong


def _changed(config: DictConfig, settings: Iterable[str], overrides: list[str]) -> tuple[DictConfig, Cell]:
    """A config with settings applied, and its cell, which is named by the overrides."""
    changed = copy.deepcopy(config)
    OmegaConf.update(changed, "hydra.overrides.task", [o for o in overrides if not o.startswith("hydra")])
    ConfigLoaderImpl._apply_overrides_to_config([_parse(setting) for setting in settings], changed)
    return changed, cell_of(changed, changed.hydra)


def line(error: Exception, override: str = "", config: DictConfig | None = None) -> Refusal:
    """An error of Hydra or OmegaConf as a line: the key, what it got, what is allowed, what to do.

    Args:
        error: What was raised.
        override: The override it is about, where that is known.
        config: What the override was to change.
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error.__cause__, Refusal):
        return error.__cause__
    text = str(error)
    no_such_key = re.match(r"Could not (override|delete from config\. '.+' does not exist)", text)
    if config is not None and (no_such_key or type(error) in (ValueError, AssertionError)):  # below a list, or null
        return _unknown(override, getattr(error.__cause__, "full_key", None) or _name(override), config)
    if "An item is already at" in text:
        return Refusal(str(override), "the key exists", str(override[1:]), "leave out the +")
    if isinstance(error, OSError) and error.filename:
        return Refusal(
            str(error.filename),
            f"cannot be made ({error.strerror})",
            "a folder that can be written",
            "set paths.output_dir to one",
        )
    if full_key := getattr(error, "full_key", None):
        return Refusal(
            str(override or full_key),
            f"leaves {full_key} without a value ({text.splitlines()[0]})",
            "a value, or ${key} of a key that has one",
            "change it",
        )
    reason = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
    return Refusal(str(override or "config"), reason, "what python train.py --help shows", "change it")


def _unknown(override: str, key: str, config: DictConfig) -> Refusal:
    from bn_experiments.refusal import unknown_key

    parent, node = _nearest(config, key)
    names = [str(name) for name in node if name not in ("_target_", "_partial_", "hydra")]
    refusal = unknown_key(key, [f"{parent}.{name}".lstrip(".") for name in names])
    may_be_added = refusal.remedy == "leave it out" and "_target_" in node and override.startswith(key)
    if may_be_added:
        refusal.remedy += f", or write +{key} if its class takes it"
    return refusal


def _nearest(config: DictConfig, key: str) -> tuple[str, DictConfig]:
    """The node that holds the key, or would if its parents existed."""
    parent = key.rpartition(".")[0]
    node = OmegaConf.select(config, parent) if parent else config
    return (parent, node) if isinstance(node, DictConfig) else _nearest(config, parent)
