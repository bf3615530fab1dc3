"""The plan of a command: its cells, checked whole before anything is made, and what is claimed of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from bn_experiments.config.cells import Cell, cell_of, overrides_of
from bn_experiments.config.composition import cells_of, misread
from bn_experiments.config.errors import COMPOSITION_ERRORS, as_refusal
from bn_experiments.refusal import Refusal
from bn_experiments.sweeps.command_line import refuse

if TYPE_CHECKING:
    from bn_experiments.claims.protocol import Protocol


@dataclass(frozen=True)
class Plan:
    """What a command is to do.

    Args:
        cells: The cells, in the order of their numbers.
        protocol: The protocol of the experiment, where one was asked for.
    """

    cells: Sequence[Cell]
    protocol: "Protocol | None"

    @property
    def folder(self) -> Path:
        """The folder that holds the folders of the cells."""
        return self.cells[0].folder.parent


def plan_of_cell(config: DictConfig) -> Plan:
    """The plan of a single run; ends the program where anything is wrong, before a folder is made.

    Args:
        config: The configuration that Hydra composed, with Hydra's own part.
    """
    command = str(config.hydra.job.config_name), overrides_of(config, multirun=False)
    try:
        if misspelt := misread(*command):
            refuse(misspelt)
        try:
            cell = cell_of(config, config.hydra)
        except COMPOSITION_ERRORS:  # which Hydra does not see, such as an interpolation that leads nowhere
            refuse(cells_of(*command, multirun=False)[1])
        from bn_experiments.config.check import check_cells  # which imports torch

        return _plan(config, [cell], check_cells([cell]))
    except Exception as error:  # Hydra would make a warning of it, and train
        refuse([as_refusal(error)])


def plan_of_grid(config: DictConfig) -> Plan:
    """The plan of a grid; ends the program where anything is wrong, before a folder is made.

    Args:
        config: The configuration that Hydra composed of what its sweeper does not vary, with Hydra's own part.
    """
    try:
        return _plan(
            config, *cells_of(str(config.hydra.job.config_name), overrides_of(config, multirun=True), multirun=True)
        )
    except Exception as error:
        refuse([as_refusal(error)])


def _plan(config: DictConfig, cells: Sequence[Cell], refusals: Sequence[Refusal]) -> Plan:
    protocol, wrong = _protocol(config) if config.get("experiment") else (None, [])
    plan = Plan(cells, protocol)
    if refusals or wrong or (wrong := _standing_in_the_way(plan, config.hydra)):
        refuse([*refusals, *wrong])
    if protocol:
        protocol.write(plan.folder)
    return plan


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
    own = protocol.name if protocol else None
    refusals = []
    if hydra.job.chdir and not folder.is_absolute():
        got = "moves each cell into its own folder, from where paths.output_dir is another one"
        refusals.append(Refusal("hydra.job.chdir=true", got, "false", "leave it out, or give paths.output_dir in full"))
    try:
        there = json.loads((folder / "experiment.json").read_text())["name"]
    except (OSError, ValueError, KeyError, TypeError):  # there is none that can be read
        there = own
    if there != own:
        got = f"{folder} holds the experiment {there}"
        refusals += [Refusal("name", got, "another name", "change it", value=folder.name)]
    if protocol:
        from bn_experiments.claims.protocol import unmeasured

        options = GlobalHydra.instance().config_loader().get_group_options("probes")
        refusals += unmeasured(protocol, {*options, *(probe for cell in plan.cells for probe in cell.config["probes"])})
    return refusals
