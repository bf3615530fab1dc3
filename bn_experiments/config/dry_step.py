"""The dry step: what an optimizer and a scheduler say to their options, asked of one weight."""

import re
from collections.abc import Iterator

import torch
from torch import nn

from bn_experiments.config import objects
from bn_experiments.config.errors import reason_of
from bn_experiments.config.objects import Config
from bn_experiments.refusal import Refusal, shown


class _Accepted(Exception):
    """Raised where an optimizer turns from its options to the parameters."""


def takes_options(config: Config) -> list[Refusal]:
    """What the optimizer says to its options; torch's do so first, and making a whole one takes two seconds."""

    def parameters() -> Iterator[nn.Parameter]:
        raise _Accepted
        yield

    try:
        objects.optimizer(config)(parameters())
    except _Accepted:
        return []
    except (Exception, SystemExit) as error:
        return [_refusal(config, "optimizer", error)]
    return []


def step(config: Config) -> list[Refusal]:
    """What is wrong with the optimizer and the scheduler as they take a step."""
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    try:
        optimizer = objects.optimizer(config)([parameter])
        optimizer.step()
    except (Exception, SystemExit) as error:
        return [_refusal(config, "optimizer", error)]
    try:
        scheduler = objects.scheduler(config)(optimizer)
        optimizer.step()  # a scheduler warns where it steps first
        scheduler.step()
    except (Exception, SystemExit) as error:
        return [_refusal(config, "scheduler", error)]
    return []


def _refusal(config: Config, group: str, error: BaseException) -> Refusal:
    """The refusal of options that a class of torch's refuses; torch tends to name the argument."""
    reason = reason_of(error)
    named = [
        f"{group}.{key}={shown(value)}"
        for key, value in objects.options(config, group).items()
        if re.search(rf"\b({key}|{key.removesuffix('s')}\b)", reason, re.IGNORECASE)
    ]
    target = config[group]["_target_"]
    allowed = f"what the documentation of {target} says"
    return Refusal(", ".join(named) or group, f"{target} refuses this ({reason})", allowed, "change it")
