"""What is wrong with a command: errors of Hydra, of OmegaConf and of what a configuration names, as refusals."""

import difflib
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bn_experiments.config.cells import FOLDERS, GROUPS, key_of, spelled_out
from bn_experiments.refusal import Refusal, one_line, unknown_key

COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError, AssertionError)


def as_refusal(error: Exception, override: str = "", config: DictConfig | None = None) -> Refusal:
    """An error of Hydra or OmegaConf as a refusal; one that is a refusal already stays as it is.

    Args:
        error: What was raised.
        override: The override that it is about, where that is known.
        config: The configuration that the override was to change.
    """
    for refusal in (error, error.__cause__):
        if isinstance(refusal, Refusal):
            return refusal
    text = str(error)
    no_such_key = re.match(r"Could not (override|delete from config\. '.+' does not exist)", text)
    if config is not None and (no_such_key or type(error) in (ValueError, AssertionError)):  # below a list, or null
        return _unknown(override, getattr(error.__cause__, "full_key", None) or key_of(override), config)
    if "An item is already at" in text:
        return Refusal(override, "the key exists", override[1:], "leave out the +")
    return _of_value(error, override)


def _of_value(error: Exception, override: str) -> Refusal:
    """An error about the value of an override, or about what a file holds."""
    if isinstance(error, OSError) and error.filename:
        remedy = "set paths.output_dir to one"
        return Refusal(error.filename, f"cannot be made ({error.strerror})", "a folder that can be written", remedy)
    if missing := getattr(error, "missing_cfg_file", None):
        remedy = "add the file, or take its name off the list"
        return Refusal(str(missing), "is no file, but a list of defaults names it", "a file below conf/", remedy)
    if full_key := getattr(error, "full_key", None):
        got = f"leaves {full_key} without a value ({str(error).splitlines()[0]})"
        return Refusal(override or full_key, got, "a value, or ${key} of a key that has one", "change it")
    got = one_line(error.__cause__ or error)
    return Refusal(override or "config", got, "what python train.py --help shows", "change it")


@contextmanager
def blamed_on(groups: str) -> Iterator[None]:
    """Within it, an error becomes the refusal of the keys of groups; one that is a refusal already stays as it is."""
    try:
        yield
    except Refusal:
        raise
    except (Exception, SystemExit) as error:  # a script without a main guard ends the process
        got = f"does not work as set ({reason_of(error)})"
        raise Refusal(groups, got, "what the class takes", f"change the keys of {groups}") from error


def reason_of(error: BaseException) -> str:
    """The first line of an error's text, or its type where it has none; at most 200 characters."""
    return textwrap.shorten((str(error).strip() or type(error).__name__).splitlines()[0], 200, placeholder="...")


def unreadable(override: str, error: Exception) -> Refusal:
    """The refusal of an override that Hydra's grammar cannot read."""
    key, equals, value = override.partition("=")
    if not equals:
        return Refusal(override, "is no override", "key=value or group=option", "give it a value")
    if re.search("Interval|INTERVAL", str(error)):  # a list of functions has it in small letters
        got = "interval(...) is a range for another sweeper, one that searches, such as Optuna's"
        allowed = "choice(...), range(...) or a list of values, such as 1,2,3"
        return Refusal(override, got, allowed, "name the values of the grid")
    reason = one_line(error).split(" expecting ")[0]
    quoted = value.replace('"', '\\"')
    remedy = "write $HOME for ~" if value.startswith("~") else f"""complete it, or quote it, '{key}="{quoted}"'"""
    return Refusal(override, f"cannot be read ({reason})", "key=value", remedy)


def no_option(
    override: Override, options: Sequence[str], by_class: Callable[[str], Mapping[str, str]]
) -> Refusal | None:
    """The refusal of an option that its group does not have, or of a folder that Hydra is not to choose.

    Args:
        override: The override, with one value.
        options: The options of what it names; none where that is no group.
        by_class: The function that gives the options of a group by the names of their classes, which are suggested too.
    """
    group, value, typed = override.key_or_group, override.value(), str(override.input_line)
    if re.match(FOLDERS, group):
        got = "would move Hydra's own records away from the results, whose folder is paths.output_dir/name/cell"
        allowed = "paths.output_dir=... and name=..., which move both"
        return Refusal(typed, got, allowed, "leave it out, and set these")
    if not options or override.is_delete() or isinstance(value, dict):
        return None
    if group in GROUPS and not override.package and (override.is_add() or override.is_force_add()):
        return Refusal(typed, f"the config has its {group}", f"{group}=option", "leave out the +")
    if all(part in options for part in (value if isinstance(value, list) else [value])):
        return None
    if len(spelled_out(typed)) > 1:
        return None
    by_leaf = {option.rpartition("/")[2]: option for option in options}
    names = {**by_class(group), **by_leaf, **{option: option for option in options}}
    near = [names[name] for name in difflib.get_close_matches(str(value).lower(), names, n=1)]
    may_be_added = group in GROUPS and isinstance(value, str) and re.fullmatch(r"[\w-]+", value)
    add = f", or add conf/{group}/{value}.yaml" if may_be_added else ""
    remedy = f"did you mean {group}={near[0]}?" if near else f"choose one{add}"
    return Refusal(typed, "no such option", ", ".join(options), remedy)


def _unknown(override: str, key: str, config: DictConfig) -> Refusal:
    parent, node = _nearest(config, key)
    names = [str(name) for name in node if name not in ("_target_", "_partial_")]
    refusal = unknown_key(key, [f"{parent}.{name}".lstrip(".") for name in names])
    if refusal.remedy == "leave it out" and "_target_" in node and override.startswith(key):
        refusal.remedy += f", or write +{key} if its class takes it"
    return refusal


def _nearest(config: DictConfig, key: str) -> tuple[str, DictConfig]:
    """The node that holds the key, or would if its parents existed."""
    parent = key.rpartition(".")[0]
    node = OmegaConf.select(config, parent) if parent else config
    return (parent, node) if isinstance(node, DictConfig) else _nearest(config, parent)
