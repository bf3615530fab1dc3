"""Precise statistics: running statistics estimated anew at a network's weights, for the probes that need them."""

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from bn_experiments.models.hidden import Dropout
from bn_experiments.refusal import Refusal
from bn_experiments.seeds import generator
from bn_experiments.system import interruption
from bn_experiments.training.attributes import Unseen, memories, same, settle
from bn_experiments.training.snapshot import Snapshot


def estimate_population_statistics(network: nn.Module, batches: Tensor, dropout: bool = True) -> None:
    """Replaces all running statistics by their means over batches, in place; the network is left in evaluation mode.

    While a network trains, its running statistics average over the weights of many steps, and trail behind. Recurrent
    networks suffer from that most, since what is wrong at one step goes into the next.

    A norm's statistics can be estimated anew if it has torch's `reset_running_stats` and `momentum`, where None stands
    for a cumulative mean. Another module with buffers or plain attributes that change in training mode, and are not
    integers, has a rule of its own: its old value would be in the estimate with an unknown weight, and to set some
    `momentum` to 1 would be a guess, since in one convention that is the weight of the batch, and in the other that of
    the past. So it is refused.

    Args:
        network: The network, which is changed in place.
        batches: K batches (K, B, ...).
        dropout: Whether dropout acts, as it does in training, or not, as in evaluation.

    Raises:
        Refusal: A module has running statistics that cannot be estimated anew.
        Interrupted: The process was asked to end.

    Source: Wu & Johnson 2021, Rethinking "Batch" in BatchNorm, arXiv:2105.07576, section 3.2 (precise statistics).
    """
    modules = dict(network.named_modules())
    known = {name for name, module in modules.items() if hasattr(module, "reset_running_stats")}
    known = {name for name in known if hasattr(modules[name], "momentum")}
    for name in known:
        norm = cast(nn.BatchNorm1d, modules[name])
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
    before = _statistics(network)
    network.train()
    for module in () if dropout else dropouts(network):
        module.eval()
    with torch.enable_grad():  # by which some norms know the mode
        for x in batches:
            interruption.check()
            network(x.clone())
            settle(network)
    network.eval()
    _refuse([name for name in _moved(before, network) if name.rpartition(".")[0] not in known], modules)


def dropouts(network: nn.Module) -> list[nn.Module]:
    """The modules that drop units of a network, this package's and torch's; a function that drops is not found."""
    return [module for module in network.modules() if isinstance(module, Dropout | nn.modules.dropout._DropoutNd)]


def _statistics(network: nn.Module) -> dict[str, Any]:
    """The buffers and plain attributes that may be running statistics.

    Integers, which count, and the states of random generators and iterators are none.
    """
    found = memories(network) | dict(network.named_buffers())
    tensors = {name: value.clone() for name, value in found.items() if isinstance(value, Tensor)}
    floats = {name: value for name, value in tensors.items() if value.is_floating_point()}
    return floats | {
        name: value for name, value in found.items() if not isinstance(value, Tensor | int | bytes | Unseen)
    }


def _moved(before: dict[str, Any], network: nn.Module) -> list[str]:
    """The names of those that are no longer what they were, bit for bit."""

    def equal(one: Any, other: Any) -> bool:
        if isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape:
            return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
        return one is other or same(one, other)

    now = _statistics(network)
    return [name for name, value in now.items() if name not in before or not equal(before[name], value)]


def _refuse(moved: list[str], modules: dict[str, nn.Module]) -> None:
    if moved:
        owner = type(modules[moved[0].rpartition(".")[0]]).__name__
        got = (
            f"{owner} changes {', '.join(moved)} in training mode by a rule of its own, which cannot be estimated anew"
        )
        allowed = "modules with reset_running_stats and momentum as in torch, or without running statistics"
        remedy = f"give them to {owner}, or leave what needs precise statistics out of probes=[...]"
        raise Refusal("probes", got, allowed, remedy)


def refusals_of_precise(network: nn.Module, batch: Tensor) -> list[Refusal]:
    """The refusal of running statistics that cannot be estimated anew, if a network has such.

    Args:
        network: The network, which is left as it is.
        batch: A batch (B, ...) to try it with.
    """
    settle(network)
    there, before = Snapshot(network), _statistics(network)
    tried, source = copy.deepcopy(network), generator(0, "precise statistics")
    for buffer in tried.buffers():
        buffer.fill_(1)  # an average of ones moves, whatever the weights make of the batch
    for parameter in tried.parameters():
        if parameter.is_floating_point():  # else zeros may give a mean of zero, where it starts
            parameter.data.copy_(torch.rand(parameter.shape, generator=source))
    try:
        estimate_population_statistics(tried, torch.rand(1, *batch.shape, generator=source).to(batch))
        _refuse(_moved(before, network), dict(network.named_modules()))  # by a hook of the original
    except Refusal as refusal:
        return [refusal]
    finally:
        there.put_back()
    return []
