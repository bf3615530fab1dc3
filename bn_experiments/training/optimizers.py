"""Optimizers of captured steps: rates that lie on the device, and states that captured and plain runs share."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

FORM = {"lr", "capturable"}  # settings of a group that differ between captured and plain runs


def put_rates_on_device(optimizer: Optimizer) -> None:
    """Makes each learning rate a tensor beside the parameters, which a captured step reads and a scheduler fills.

    It is of float32, as torch's fused kernels read it. A rate stays a number where a kernel would take it as one: in
    optimizers that are not torch's, and in those of torch that are neither fused nor capturable over lists of tensors.
    A scheduler that was made before keeps its own numbers as they are.

    Args:
        optimizer: The optimizer, with its parameters where they are trained.
    """
    device = next(one for group in optimizer.param_groups for one in group["params"]).device  # a group can be empty
    for group in optimizer.param_groups:
        over_lists = group.get("capturable") and group.get("foreach") is not False
        if type(optimizer).__module__.startswith("torch.optim.") and (group.get("fused") or over_lists):
            group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float32, device=device)


def keep_form(optimizer: Optimizer) -> None:
    """Lets the optimizer go on from the state of a captured or a plain run, whichever it is itself.

    A saved state says whether the step is `capturable`, which decides the device to which torch moves its counters, and
    has each rate as a tensor or a number. Both become what they are in this optimizer.
    """
    optimizer.register_load_state_dict_pre_hook(_in_form_of)


def _in_form_of(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    pairs = zip(optimizer.param_groups, state["param_groups"], strict=False)  # torch refuses another number of groups
    groups = [{**saved, **{key: _like(own[key], saved[key]) for key in own.keys() & saved.keys() & FORM}}
              for own, saved in pairs]  # fmt: skip
    return {**state, "param_groups": groups}


def _like(own: Any, saved: Any) -> Any:
    if isinstance(own, bool):
        return own
    return torch.full_like(own, float(saved)) if isinstance(own, Tensor) else float(saved)
