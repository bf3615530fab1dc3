"""Composition: the cells that a command asks for, each composed once, and all that is wrong with the command.

All use of Hydra's private parts is in this file.
"""

import copy
import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from bn_experiments.config.cells import Cell, joined, key_of, spelled_out
from bn_experiments.config.errors import COMPOSITION_ERRORS, as_refusal, no_option, unreadable
from bn_experiments.config.explained import CONF
from bn_experiments.records.identity import TUNED
from bn_experiments.refusal import NO_SUCH_KEY, Refusal


def cells_of(
    config_name: str, overrides: Sequence[str], multirun: bool, elsewhere: bool = False
) -> tuple[list[Cell], list[Refusal], list[str]]:
    """The cells that a command asks for, checked, all that is wrong with it, and a line for what a grid leaves out.

    Hydra stops at the first error. So what cannot be read or chosen is left out, with the keys of a group
    that has no right option; each cell is composed from the rest, and checked as far as that goes.

    Args:
        config_name: The name of the primary config.
        overrides: The overrides as they were typed, with all values of a grid.
        multirun: Whether a key may have several values.
        elsewhere: Whether the cells train on other machines than this one.
    """
    composer = Composer(config_name, overrides)
    axes: dict[str, list[str]] = {}  # a key that comes twice has the values of its last override, in its first's place
    refusals: list[Refusal] = []
    unread = set()
    for override in overrides:
        wrong_values, right = composer.read(override, multirun)
        refusals += wrong_values
        if right:
            axes[right[0].partition("=")[0]] = right
        else:
            unread.add(key_of(override))
    read = [values for key, values in axes.items() if key_of(key).split(".")[0] not in unread]
    cells, found, taken, left_out, kept, lines = list[Cell](), [], set[str](), unread, False, list[str]()
    for overrides_of_cell in itertools.product(*read):  # the last key varies fastest, as in Hydra's own sweeper
        point = [each for override in overrides_of_cell for each in spelled_out(override)]
        try:
            cell, wrong = composer.cell(point)
        except COMPOSITION_ERRORS as error:
            refusals.append(as_refusal(error))
            continue
        cells.append(cell)
        found.append(wrong)
        taken |= {key_of(override) for override in point if override not in wrong}
        kept |= len(wrong) < len(point)
    for wrong in found:
        left = {  # a key that one option of a group lacks does not multiply that option
            override: refusal
            for override, refusal in wrong.items()
            if refusal.got != NO_SUCH_KEY or key_of(override) not in taken
        }
        refusals += left.values()
        left_out |= {key_of(override) for override in left}
    if kept or not refusals:  # a command of nothing but typing errors is answered in a second, without torch
        from bn_experiments.config.check import Once, check_cells, placed

        once = Once()
        if not refusals and "experiment" not in map(key_of, overrides):  # whose claims need every cell
            cells, lines = placed(cells, once, elsewhere)
        refusals += check_cells(cells, {name.split(".")[0] for name in left_out}, elsewhere, once)
    return joined(cells), list(dict.fromkeys(refusals)), lines


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
        keys = {key_of(override) for override in parsed.overrides}
        multirun, elsewhere = parsed.multirun or "experiment" in keys, "hydra/launcher" in keys  # perhaps
        _, refusals, _ = cells_of(parsed.config_name or "config", parsed.overrides, multirun, elsewhere)
    except (SystemExit, *COMPOSITION_ERRORS):
        refusals = []
    finally:
        GlobalHydra.instance().clear()
    return refusals or [as_refusal(error)]


class Composer:
    """Composes the cells of one command.

    Composing choices of groups takes Hydra ten times as long as all else here, and the cells of a grid share
    choices: each combination is composed once, and the keys that a cell sets are set on a copy of it.

    Args:
        config_name: The name of the primary config.
        overrides: The overrides of the command, among which the search path is looked for.
    """

    def __init__(self, config_name: str, overrides: Sequence[str]):
        self.loader = GlobalHydra.instance().config_loader()
        self.config_name = config_name
        self.search = [override for override in overrides if key_of(override) == "hydra.searchpath"]
        self.options = functools.cache(self._options)
        self.base = functools.cache(functools.partial(base, config_name))
        self.parse = functools.cache(self._parse)

    def read(self, override: str, multirun: bool) -> tuple[list[Refusal], list[str]]:
        """A refusal of each value of an override that is wrong, and an override for each other value."""
        try:
            parsed = self.parse(override)
            key, options = parsed.get_key_element(), self.options(parsed.key_or_group)
            if not parsed.is_sweep_override():
                value = parsed.get_value_element_as_str()
                if key_of(override).startswith(TUNED):
                    value = value.replace("\\:", ":")  # as a person writes it, in names of folders too
                right = [f"{key}={value}" if multirun else override]
                refusal = no_option(parsed, options, self.by_class)
                return ([refusal], []) if refusal else ([], right)
            values = Counter(parsed.sweep_string_iterator())
            found = {value: no_option(self.parse(f"{key}={value}"), options, self.by_class) for value in values}
        except HydraException as error:
            return [unreadable(override, error)], []
        if parsed.key_or_group == "experiment":
            allowed = "one, which brings its own grid"
            return [Refusal(override, "several experiments", allowed, "start one after another")], []
        if not multirun:
            remedy = "add -m to run them all as a grid"
            return [Refusal(override, "several values", "one for a single run", remedy)], []
        refusals = [
            Refusal(override, f"{value} comes {count} times", "each value once", "leave out what repeats")
            for value, count in values.items()
            if count > 1
        ]
        refusals += [refusal for refusal in dict.fromkeys(found.values()) if refusal]
        if not values:
            refusals = [Refusal(override, "stands for no value", "one or more", "change it")]
        return refusals, [f"{key}={value}" for value in found if not found[value]]

    def cell(self, overrides: list[str]) -> tuple[Cell, dict[str, Refusal]]:
        """The cell that overrides give, less those that are wrong, and a refusal of each of these."""
        chosen = [override for override in overrides if self.chooses(override)]
        settings = [override for override in overrides if override not in chosen]
        start, options = self.base(*chosen)
        try:
            return self._changed(start, settings, options, overrides)[1], {}
        except COMPOSITION_ERRORS:
            config, cell = self._changed(start, [], options, chosen)
        wrong = {}
        for setting in settings:
            try:
                config, cell = self._changed(config, [setting], options, [*cell.typed, setting])
            except COMPOSITION_ERRORS as error:
                wrong[setting] = as_refusal(error, setting, start)
        return cell, wrong

    def _changed(
        self, config: DictConfig, settings: Iterable[str], options: Mapping[str, str], overrides: Sequence[str]
    ) -> tuple[DictConfig, Cell]:
        """A copy of a configuration with settings applied, and its cell, which is named by the overrides."""
        changed = copy.deepcopy(config)
        ConfigLoaderImpl._apply_overrides_to_config([self.parse(setting) for setting in settings], changed)
        own = [override for override in overrides if not override.startswith("hydra")]
        return changed, Cell.of(changed, options, own)

    def _options(self, group: str) -> list[str]:
        """The options of a group, those of its folders too, such as `notebooks/udl_residual` of `experiment`."""
        found = self.loader.get_group_options(group, ObjectType.CONFIG, self.config_name, self.search)
        for folder in self.loader.get_group_options(group, ObjectType.GROUP, self.config_name, self.search):
            found += [f"{folder}/{option}" for option in self.options(f"{group}/{folder}")]
        return found

    def by_class(self, group: str) -> dict[str, str]:
        """The options of a group by the name of the class that the file of each names, in small letters.

        Options that have their class from another one are left out.
        """
        found: dict[str, str] = {}
        for option in self.options(group):
            with suppress(*COMPOSITION_ERRORS):  # a damaged file is refused where it is chosen
                file = cast(Any, self.loader).repository.load_config(f"{group}/{option}")
                path = str(file.config.get("_target_") or "").replace("{dim}d", "")
                found.setdefault(path.rpartition(".")[2].replace("_", "").lower(), option)
        return found

    def _parse(self, override: str) -> Override:
        parsed = OverridesParser.create(self.loader).parse_override(override)
        parsed.config_loader = self.loader  # for glob()
        return parsed

    def chooses(self, override: str) -> bool:
        """Whether it decides what is composed: it names the option of a group, or where Hydra looks for options."""
        if key_of(override).startswith("hydra."):
            return True
        return bool(self.options(key_of(override))) and not isinstance(self.parse(override).value(), dict)


def base(config_name: str, *chosen: str) -> tuple[DictConfig, dict[str, str]]:
    """What Hydra composes of choices of groups: the configuration without Hydra's own part, and each group's option."""
    config = compose(config_name, list(chosen), return_hydra_config=True)
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    OmegaConf.set_struct(own, True)
    return own, {str(group): option for group, option in config.hydra.runtime.choices.items()}
