"""Population statistics: the networks scored with statistics of the training set, estimated at their final weights."""

import copy
from typing import Any, cast

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from bn_experiments.data.batches import BatchSize, size_of
from bn_experiments.data.splits import Splits
from bn_experiments.probes.probe import Probe, Reading, TrainingBatch, fixed_batch, networks
from bn_experiments.probes.scoring import SPLITS, scores_by_split
from bn_experiments.refusal import Refusal
from bn_experiments.seeds import generator
from bn_experiments.system import interruption
from bn_experiments.training.attributes import Unseen, memories, same, settle
from bn_experiments.training.replicas import Replicas, SeparateReplicas
from bn_experiments.training.snapshot import Snapshot


def estimate_population_statistics(network: nn.Module, batches: Tensor) -> None:
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
    with torch.enable_grad():  # by which some norms know the mode
        for x in batches:
            interruption.check()
            network(x.clone())
            settle(network)
    network.eval()
    _refuse([name for name in _moved(before, network) if name.rpartition(".")[0] not in known], modules)


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
        remedy = f"give them to {owner}, or leave population out of probes=[...]"
        raise Refusal("probes.population", got, allowed, remedy)


class Population(Probe):
    """Loss and accuracy of every split in evaluation mode, with population statistics.

    They replace the running statistics of a copy (see `estimate_population_statistics`).

    Readings: loss, acc (R, 3), over train, val and test.

    Args:
        batch_size: B, the size of the batches that the statistics are estimated on; full: one of the training split.
        examples: The number of these examples, which each replica's seed draws; a rest that fills no batch is left out.
        eval_batch_size: The size of the batches in evaluation mode, which changes no number.
    """

    def __init__(self, *, batch_size: BatchSize, examples: PositiveInt, eval_batch_size: PositiveInt):
        self.batch_size, self.examples, self.eval_batch_size = batch_size, examples, eval_batch_size

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Estimates the statistics of each replica, and scores every split with them."""
        size = min(size_of(self.batch_size, len(splits.train)), len(splits.train))
        count = min(self.examples, len(splits.train)) // size
        x, _ = fixed_batch(splits.train, self.seeds, max(count, 1) * size)
        estimated = networks(replicas, "eval")
        for i, network in enumerate(estimated):
            estimate_population_statistics(network, x[i].unflatten(0, (-1, size)))
        scores = scores_by_split(splits, SeparateReplicas(estimated).eval(), self.eval_batch_size)
        return Reading("split", list(SPLITS), scores)

    def refusals(self, network: nn.Module, batch: Tensor) -> list[Refusal]:
        """Running statistics that cannot be estimated anew keep it from measuring."""
        settle(network)
        there, before = Snapshot(network), _statistics(network)
        tried, source = copy.deepcopy(network), generator(0, "population")
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

    def training_batches(self, splits: Splits) -> list[TrainingBatch]:
        """The statistics are estimated in training mode."""
        return [TrainingBatch.of("batch_size", self.batch_size, "train", splits)]
