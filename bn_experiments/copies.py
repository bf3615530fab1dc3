"""Copies: a network is copied to be looked at, stacked and measured, so `copy.deepcopy` has to take it."""

import copy

from torch import nn

from bn_experiments.refusal import Refusal, one_line

OLD = "torch.nn.utils."  # whose hooks keep a weight with the graph of its gradients
PARAMETRIZED = ("weight_norm", "spectral_norm")  # those of which torch.nn.utils.parametrizations has a version


def refuse_what_cannot_be_copied(network: nn.Module, key: str) -> None:
    """Refuses a network that cannot be copied, with the module in it that is the reason.

    Args:
        network: The network.
        key: The key that the refusal names.

    Raises:
        Refusal: `copy.deepcopy` does not take it.
    """
    if _reason(network) is None:
        return
    for path, module in reversed([*network.named_modules()]):  # those within a module before it
        if reason := _reason(module):
            got = f"{path or 'the network'}, {type(module).__name__}, cannot be copied ({reason})"
            raise Refusal(key, got, "a network that copy.deepcopy takes", _remedy(module))


def _reason(module: nn.Module) -> str | None:
    """Why a module cannot be copied; None if it can. Its parameters are not tried, which torch copies."""
    try:
        copy.deepcopy(module, {id(parameter): parameter for parameter in module.parameters()})
    except Exception as error:
        return one_line(error)
    return None


def _remedy(module: nn.Module) -> str:
    hooks = [type(hook).__module__.removeprefix(OLD) for hook in module._forward_pre_hooks.values()]
    if old := [name for name in hooks if name in PARAMETRIZED]:
        return f"write torch.nn.utils.parametrizations.{old[0]} for torch.nn.utils.{old[0]}"
    return f"make what cannot be copied where it is used, or give {type(module).__name__} a __deepcopy__"
