"""The plan of a command: its cells, checked whole before anything is made, and what is claimed of them."""

import json
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from bn_experiments.config.cells import Cell, cell_of, key_of, overrides_of, typed
from bn_experiments.config.composition import Composer, cells_of
from bn_experiments.config.errors import COMPOSITION_ERRORS, as_refusal
from bn_experiments.refusal import Refusal, nearest
from bn_experiments.sweeps.command_line import refuse
from bn_experiments.sweeps.launchers import trains_elsewhere

if TYPE_CHECKING:
    from bn_experiments.claims.protocol import Protocol


class Plan(NamedTuple):
    """What a command is to do.

    Args:
        cells: The cells, in the order of their numbers.
        protocol: The protocol of the experiment, where one was asked for.
        baseline: The arm that the others are compared with, where the command names one.
        keeps_stale: Whether the command takes records as they are that something else made.
        elsewhere: Whether the cells train on other machines than this one.
        looks: The numbers of replicas at which the command looks whether all is decided; none: it does not.
    """

    cells: Sequence[Cell]
    protocol: "Protocol | None"
    baseline: str | None = None
    keeps_stale: bool = False
    elsewhere: bool = False
    looks: tuple[int, ...] = ()

    def going_on(self, folders: Collection[Path], replicas: int) -> "Plan":
        """The plan with more replicas of the cells in some folders."""
        cells = [
            cell.of_seeds(range(cell.seeds[0], cell.seeds[0] + replicas), cell.folder)
            if cell.folder in folders
            else cell
            for cell in self.cells
        ]
        return self._replace(cells=cells)

    @property
    def folder(self) -> Path:
        """The folder that holds the folders of the cells."""
        return self.cells[0].folder.parent


def plan_of(config: DictConfig, multirun: bool) -> Plan:
    """The plan of a command; ends the program where anything is wrong, before a folder is made.

    Args:
        config: The configuration that Hydra composed of the command, without what a grid varies and with Hydra's part.
        multirun: Whether the command is a grid.
    """
    elsewhere = multirun and trains_elsewhere(config.hydra.launcher)
    try:
        cells, refusals, left_out = _cells(config, multirun, elsewhere)
        protocol, wrong = _protocol(config) if config.get("experiment") else (None, [])
        looks = max((cell.looks for cell in cells), default=())
        plan = Plan(cells, protocol, config.baseline, config.stale == "keep", elsewhere, looks)
        if looks and not refusals:
            wrong = [*wrong, *_looks(plan, multirun)]
        elif not refusals:
            wrong = [*wrong, *_seeds_before(plan)]
        if refusals or wrong or (wrong := _standing_in_the_way(plan, config.hydra)):
            refuse([*refusals, *wrong])
        from bn_experiments.config.origin import code  # which imports torch
        from bn_experiments.sweeps import stale

        for cell in cells:  # this process has imported their code just now, and may train them later
            code(cell.config)
        found = stale.stale_runs(cells, elsewhere)
        if wrong := stale.refusals(found, config.stale):
            refuse(wrong)
        for run in found if config.stale == "retrain" else ():
            stale.set_aside(run.folder)
        if protocol:
            protocol.write(plan.folder)
        if left_out:
            print(*left_out, sep="\n", file=sys.stderr)
    except Exception as error:  # Hydra would make a warning of it, and train
        refuse([as_refusal(error)])
    return plan


def _cells(config: DictConfig, multirun: bool, elsewhere: bool) -> tuple[list[Cell], list[Refusal], list[str]]:
    """The cells, all that is wrong, and what is left out (see `cells_of`); a single run is as Hydra composed it."""
    name, overrides = str(config.hydra.job.config_name), overrides_of(config, multirun)
    composer = Composer(name, overrides)
    # Hydra takes an experiment that there is not, and does not see an interpolation that leads nowhere
    if not multirun and not any(composer.read(override, multirun)[0] for override in overrides):
        with suppress(*COMPOSITION_ERRORS):
            cells = [cell_of(config, config.hydra)]
            from bn_experiments.config.check import check_cells  # which imports torch

            return cells, check_cells(cells), []
    return cells_of(name, overrides, multirun, elsewhere)


def _protocol(config: DictConfig) -> "tuple[Protocol | None, list[Refusal]]":
    """The experiment's protocol, or what is wrong with it."""
    from bn_experiments.claims.protocol import parse

    body = cast(dict[str, Any], OmegaConf.to_container(config.experiment, resolve=True))
    axes = list(config.hydra.sweeper.get("params") or {})
    name = str(config.hydra.runtime.choices.experiment).rpartition("/")[2]
    return parse({"name": name, "axes": axes, **body})


def _standing_in_the_way(plan: Plan, hydra: DictConfig) -> list[Refusal]:
    """Whether the folder would be another one, or is another experiment's, and what of this one nothing measures."""
    folder, protocol = plan.folder, plan.protocol
    there = own = protocol.name if protocol else None
    refusals = []
    if hydra.job.chdir and not folder.is_absolute():
        got = "moves each cell into its own folder, from where paths.output_dir is another one"
        refusals.append(Refusal("hydra.job.chdir=true", got, "false", "leave it out, or give paths.output_dir in full"))
    with suppress(OSError, ValueError, KeyError, TypeError):  # where there is none that can be read
        there = json.loads((folder / "experiment.json").read_text())["name"]
    if there != own:
        got = f"{folder} holds the experiment {there}"
        refusals.append(Refusal("name", got, "another name", "change it", value=folder.name))
    refusals += _baseline(plan)
    if protocol:
        from bn_experiments.claims.arms import unmatched
        from bn_experiments.claims.before import unanswered, unreadable
        from bn_experiments.claims.protocol import unmeasured

        keys = {key_of(override) for override in typed(hydra, "task")}
        cells = [(cell.choices, cell.config) for cell in plan.cells]
        refusals += unmatched(protocol, cells, keys - {"experiment"})
        options = GlobalHydra.instance().config_loader().get_group_options("probes")
        wrong = unmeasured(protocol, {*options, *(probe for cell in plan.cells for probe in cell.config["probes"])})
        wrong = wrong or unreadable(protocol, cells, keys)
        failing, lines = unanswered(protocol, cells)
        refusals += [*wrong, *failing]
        if lines and not refusals:
            print(*lines, sep="\n", file=sys.stderr)
    return refusals


def _looks(plan: Plan, multirun: bool) -> list[Refusal]:
    """Whether there is nothing to decide, or the folder is judged at other numbers of replicas or with other seeds."""
    from bn_experiments.config.space import SEED, replicas_of
    from bn_experiments.records import results
    from bn_experiments.records.comparison import looks_in
    from bn_experiments.statistics.intervals import LEAST_REPLICAS

    before, value = looks_in(plan.folder), [*plan.looks]
    first, last = plan.cells[0].seeds[0], plan.cells[0].seeds[0] + plan.looks[-1]
    earlier = min((min(result.seeds) for result in results.done_in(plan.folder).values()), default=first)
    tuning = [range(SEED, SEED + replicas_of(cell.config)) for cell in plan.cells if cell.config["tune"]]
    found = []
    if not multirun:
        got, remedy = "are several numbers, and one cell has no other to be compared with", "add -m, or give one"
        found.append(Refusal("replicas", got, "one number for a single run", remedy, value=value))
    if any(cell.looks != plan.looks or len(cell.seeds) != plan.looks[0] for cell in plan.cells):
        got, remedy = "are not the same for all cells, from one first seed on", "give one range, and one seed"
        found.append(Refusal("replicas", got, "one range and one first seed", remedy, value=value))
    if before and before != plan.looks:
        got = f"{plan.folder} is judged at {', '.join(map(str, before))} replicas"
        found.append(Refusal("replicas", got, "the same numbers, or another name=", "change one", value=value))
    if not before and results.done_in(plan.folder):
        got, allowed = f"{plan.folder} was judged before, without looks", "looks from the first result on"
        found.append(Refusal("replicas", got, allowed, "choose another name=", value=value))
    if plan.looks[0] < LEAST_REPLICAS:
        got, allowed = "begins with a look that decides nothing", f"{LEAST_REPLICAS} replicas or more"
        found.append(Refusal("replicas", got, allowed, "raise the first number", value=value))
    if earlier < first:
        got = f"{plan.folder} holds the seed {earlier}, which the first look would take"
        found.append(Refusal("seed", got, "that seed, or another name=", "change one", value=first))
    if any(first < own.stop and last > SEED for own in tuning):
        got = f"goes on to {last - 1} with the last look, and the seeds from {SEED} on tune"
        found.append(Refusal("seed", got, "seeds that are judged alone", "lower it", value=first))
    return found


def _seeds_before(plan: Plan) -> list[Refusal]:
    """Whether a command without looks would put seeds before those of the first look of its folder."""
    from bn_experiments.records import results
    from bn_experiments.records.comparison import looks_in

    there = [min(result.seeds) for result in results.done_in(plan.folder).values()] if looks_in(plan.folder) else []
    first = min(cell.seeds[0] for cell in plan.cells)
    if not there or first >= min(there):
        return []
    got = f"{plan.folder} is judged at looks whose seeds begin with {min(there)}"
    return [Refusal("seed", got, "that seed or a later one, or another name=", "change one", value=first)]


def _baseline(plan: Plan) -> list[Refusal]:
    """Whether the command names a baseline that no arm of the folder has."""
    from bn_experiments.claims.arms import arm_names
    from bn_experiments.claims.contexts import ALL
    from bn_experiments.records import results

    if plan.baseline in (None, ALL):
        return []
    there = results.done_in(plan.folder)
    cells = {folder: (result.cell, result.config) for folder, result in there.items()}
    names = list(arm_names(cells | {cell.folder: (cell.choices, cell.config) for cell in plan.cells}).values())
    if plan.baseline in names:
        return []
    known = list(dict.fromkeys([*names, ALL]))
    remedy = nearest(plan.baseline, known) or "choose one"
    if spaced := next((name for name in known if " " in name), None):
        remedy += f", with quotes as in 'baseline=\"{spaced}\"'"
    return [Refusal("baseline", "no arm has this name", ", ".join(known), remedy, value=plan.baseline)]
