"""The check before anything trains: every error of a grid at once, a line each."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import psutil
import torch
from pydantic import Field
from torch import nn

from bn_experiments import build
from bn_experiments.build import Config
from bn_experiments.cells import GROUPS, Cell
from bn_experiments.data.batches import Batching
from bn_experiments.data.splits import Splits, split
from bn_experiments.models.initialization import initialize
from bn_experiments.norms.slot import Slot, norms_of
from bn_experiments.options import CellOptions, PathOptions, TrainerOptions, problems
from bn_experiments.replicas import StackedReplicas
from bn_experiments.results import config_hash

# weights, gradients and two moments of the optimizer
TENSORS_PER_WEIGHT = 4


def check_cells(cells: Sequence[Cell]) -> list[str]:
    """What is wrong with the cells of a grid: with each of them, then with any two."""
    found = Counter(line for cell in cells for line in check(cell))
    lines = [
        line if count == len(cells) else f"{line} ({count} of {len(cells)} cells)" for line, count in found.items()
    ]
    return lines + _alike(cells)


def check(cell: Cell) -> list[str]:
    """What is wrong with one cell: its options first, and only where they are right what they make."""
    lines = _missing(cell.config) or _options(cell.config) + _folder(cell.folder)
    return lines or _parts(cell.config)


def _missing(config: Config) -> list[str]:
    """Groups that were deleted from the config."""
    return [
        f"{group}: is missing; allowed: a group of keys; leave out what deletes or replaces it"
        for group in (*GROUPS, "paths")
        if not isinstance(config.get(group), dict)
    ]


def _options(config: Config) -> list[str]:
    """Unknown keys, wrong types, values out of range."""
    beside = (*GROUPS, "paths")
    own = {key: value for key, value in config.items() if key not in beside}
    lines = problems(own, "", CellOptions, elsewhere=beside)
    lines += problems(config["paths"], "paths", PathOptions)
    for group in GROUPS:
        try:
            lines += _group(config, group)
        except ValueError as error:
            lines.append(str(error))
    return lines


def _group(config: Config, group: str) -> list[str]:
    """The same, for one group, against the signatures of what it names."""
    options = build.options(config, group)
    if group == "trainer":
        return problems(options, group, TrainerOptions)
    if group == "norm":
        return _norm(config)
    target = build.target(config, group)
    if group == "data":
        return problems(options, group, target, split, Batching, given=["source"])
    if group == "model":
        return problems(options, group, target, given=["input_shape", "num_classes", "norm"])
    if group == "optimizer":
        positive = Annotated[float, Field(gt=0)]
        return problems(options, group, target, given=["params"], narrowed={"lr": positive})
    return problems(options, group, target, given=["optimizer"])


def _norm(config: Config) -> list[str]:
    options = build.options(config, "norm")
    if config["norm"]["_target_"] is None:
        return problems(options, "norm", Slot, given=["target", "options"])
    slot = build.slot(config)
    given = ["target", "options", slot.width_argument]
    return problems(options, "norm", slot.find(dim=1), Slot, given=given)  # a key of both is the slot's


def _parts(config: Config) -> list[str]:
    """What is wrong with the objects that the config makes, networks on the meta device."""
    lines = _device(config) + _optimizer(config)
    try:
        splits = build.splits(config)
        return lines + _network(config, splits)
    except ValueError as error:
        return [*lines, str(error)]


def _device(config: Config) -> list[str]:
    device = build.device(config)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if there[device]:
        return []
    allowed = ", ".join(["auto", *(name for name, is_there in there.items() if is_there)])
    return [
        f"trainer.accelerator={config['trainer']['accelerator']}: there is none here; allowed: {allowed}; "
        "leave it at auto"
    ]


def _optimizer(config: Config) -> list[str]:
    try:
        optimizer = build.optimizer(config)([nn.Parameter(torch.zeros(1))])
    except Exception as error:
        return [_refusal("optimizer", error)]
    try:
        build.scheduler(config)(optimizer)
    except Exception as error:
        return [_refusal("scheduler", error)]
    return []


def _refusal(group: str, error: Exception) -> str:
    return f"{group}: {str(error).splitlines()[0]}; allowed: what its class documents; change the {group}'s keys"


def _network(config: Config, splits: Splits) -> list[str]:
    with torch.device("meta"):
        network = build.network(config, splits)
    initialize(network, config["seed"], config["init"], config["norm"]["scale_init"])
    lines = _memory(config, network) + _slots(config, network)
    if lines:
        return lines
    batching = Batching(**build.accepted(Batching, config["data"]))
    sizes = sorted(batching.sizes(len(splits.train)), reverse=True)
    if not sizes:
        return [
            f"data.batch_size={batching.batch_size}: more than the {len(splits.train)} training examples, and "
            "data.drop_last leaves no batch; allowed: at most as many; lower it"
        ]
    if build.stacks(config, splits, build.device(config)):
        network = StackedReplicas([network, network])
    for size in sizes:
        try:
            _push(network, splits, size)
        except NotImplementedError:  # an operation that has no meta kernel; training will tell
            return []
        except Exception as error:
            return [_bad_batch(batching, size, len(splits.train), error)]
    return []


def _push(network: nn.Module, splits: Splits, size: int) -> None:
    """A training batch through the network on the meta device."""
    stack = (2,) if isinstance(network, StackedReplicas) else ()
    logits = network(torch.empty(*stack, size, *splits.input_shape, device="meta"))
    if tuple(logits.shape) != (*stack, size, splits.num_classes):
        raise ValueError(
            f"gives {tuple(logits.shape[len(stack) :])} where logits ({size}, {splits.num_classes}) are due"
        )


def _bad_batch(batching: Batching, size: int, count: int, error: Exception) -> str:
    reason = str(error).splitlines()[0]
    if size == 1 and batching.batch_size > 1:
        return (
            f"data.batch_size={batching.batch_size}: leaves a last batch of one of {count} examples, and the norm "
            f"needs two ({reason}); allowed: a size that leaves none or more; change it, or set data.drop_last=true"
        )
    if size == 1:
        return f"data.batch_size=1: the norm needs two examples ({reason}); allowed: 2 or more; raise it"
    return f"model: a batch of {size} does not pass ({reason}); allowed: a model that fits the data; change either"


def _slots(config: Config, network: nn.Module) -> list[str]:
    """A norm that found no layer would make two arms the same."""
    slot = build.slot(config)
    parametrized = any(nn.utils.parametrize.is_parametrized(module) for module in network.modules())
    if slot.target is None or norms_of(network) or parametrized:
        return []
    return [
        f"norm.layers={slot.layers}: the model has no such layer, so the norm would do nothing; allowed: a model "
        "that has one; choose another model or norm"
    ]


def _memory(config: Config, network: nn.Module) -> list[str]:
    weights = sum(parameter.numel() for parameter in network.parameters())
    width = 8 if config["trainer"]["precision"] == "64-true" else 4
    needed = weights * config["replicas"] * TENSORS_PER_WEIGHT * width
    if build.device(config) == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory
    else:
        memory = psutil.virtual_memory().total
    if needed <= memory:
        return []
    return [
        f"model: {weights:,} weights in {config['replicas']} replicas need {needed / 1e9:,.0f} GB to train; allowed: "
        f"what the machine has, {memory / 1e9:,.0f} GB; make the model smaller, or lower replicas"
    ]


def _folder(folder: Path) -> list[str]:
    """Whether a cell's folder can be made, without making it."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return []
    reason = "cannot be written" if there.is_dir() else "is no folder"
    return [f"paths.output_dir: {there} {reason}; allowed: a folder that can be written; set paths.output_dir to one"]


def _alike(cells: Sequence[Cell]) -> list[str]:
    """Cells that would be the same, or share a folder."""
    lines = []
    seen: dict[str, Cell] = {}
    for cell in cells:
        if _missing(cell.config):
            continue
        for mark in (str(cell.folder), config_hash(cell.config)):
            twin = seen.setdefault(mark, cell)
            if twin is not cell:
                lines.append(f"{_typed(cell)}: the same cell as {_typed(twin)}; allowed: cells that differ; drop one")
                break
    return list(dict.fromkeys(lines))


def _typed(cell: Cell) -> str:
    groups = [f"{group}={cell.choices[group]}" for group in GROUPS[:4]]
    return " ".join([*groups, *cell.choices["overrides"]])
