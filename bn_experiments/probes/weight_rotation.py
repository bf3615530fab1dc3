"""Weight rotation: the angle by which each step of training turns the layers' weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bn_experiments.data.splits import Splits
from bn_experiments.probes.layers import refusals_without_layers, weights_of_layers
from bn_experiments.probes.probe import Probe, Reading
from bn_experiments.refusal import Refusal
from bn_experiments.training.replicas import Part, Replicas, StackedReplicas


def angles(before: Tensor, after: Tensor) -> Tensor:
    """The angle between two vectors on the last axis, in radians, exact for small ones too.

    2 arctan(|u - v| / |u + v|) of the vectors u and v of length 1. Shapes: (..., F), twice, to (...).

    >>> angles(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 2.0]))
    tensor(0.7854)
    """
    u, v = (x / x.norm(dim=-1, keepdim=True) for x in (before, after))
    return 2 * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1))


class WeightRotation(Probe):
    """The angle by which a step turns the weight of each of L layers, the root mean square over the steps of an epoch.

    `angle` is that of the whole weight, `angle_of_units` that of the rows of the output units, of which the mean square
    is taken too. The steps are those of the last epoch before the reading. `length` is |w| after them.

    Readings: angle, angle_of_units, in radians, and length (R, L).

    Source: Wan et al. 2020, arXiv:2006.08419.
    """

    quantities = ("angle", "angle_of_units", "length")

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.epoch = 0  # the one that the steps so far are of
        self.held: list[dict[str, Tensor]] = []  # what a checkpoint brought along of these steps, by part

    def follow(self, parts: Sequence[Part], optimizers: Sequence[Sequence[torch.optim.Optimizer]]) -> None:
        """Follows the steps of the optimizers of each part from now on."""
        self.seen = [Seen(part, own) for part, own in zip(parts, optimizers, strict=True)]
        for seen, held in zip(self.seen, self.held, strict=False):
            seen.take_over(held)

    def start_epoch(self, epoch: int) -> None:
        """Forgets the steps of the epoch before; a run that goes on in the middle of an epoch forgets none."""
        if epoch != self.epoch:
            self.epoch = epoch
            for seen in self.seen:
                seen.forget()

    def state(self) -> dict[str, Any]:
        """The steps of the epoch so far."""
        held = [{name: tensor.cpu().clone() for name, tensor in seen.tensors.items()} for seen in self.seen]
        return {"epoch": self.epoch, "held": held or self.held}

    def take_over(self, state: dict[str, Any]) -> None:
        """Takes over these steps."""
        self.epoch, self.held = state["epoch"], state["held"]

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """The angles of the steps since the start of the epoch; NaN before any."""
        weights = [weights_of_layers(replicas.replica(i)) for i in range(replicas.size)]
        length = torch.stack([torch.stack([w.detach().norm() for w in own.values()]) for own in weights])
        parts = [seen.tensors for seen in self.seen] or self.held  # the latter where a cut run only measures
        values = {"length": length}
        for name in ("angle", "angle_of_units"):
            squares = [(part[name] / part["steps"]).T for part in parts]  # (R, L), NaN of no step
            values[name] = torch.cat(squares).sqrt() if parts else torch.full(length.shape, torch.nan)
        return Reading("layer", list(weights[0]), {name: each.cpu().double() for name, each in values.items()})

    def refusals(self, network: nn.Module, batch: Tensor) -> list[Refusal]:
        """A network without a layer that has a weight keeps it from measuring."""
        return refusals_without_layers(network, "weight_rotation")


class Seen:
    """What is seen of the steps of one part of the replicas, in tensors of its own, so that a step can be captured.

    Args:
        part: A stack of R replicas, or one network.
        optimizers: Its optimizers, which step in their order.
    """

    def __init__(self, part: Part, optimizers: Sequence[torch.optim.Optimizer]):
        stacked = isinstance(part.module, StackedReplicas)
        found = weights_of_layers(part.module).values()
        self.weights = [w.detach() if stacked else w.detach()[None] for w in found]  # (R, out, in, ...), in its memory
        self.before = [torch.empty_like(w) for w in self.weights]
        shape = (len(self.weights), len(self.weights[0]))  # (L, R)
        sums = ("angle", "angle_of_units")  # of squares
        self.tensors = {name: self.weights[0].new_zeros(shape) for name in sums}
        self.tensors["steps"] = self.weights[0].new_zeros(())
        optimizers[0].register_step_pre_hook(lambda *_: self._keep())
        optimizers[-1].register_step_post_hook(lambda *_: self._compare())

    def forget(self) -> None:
        """Starts anew."""
        for tensor in self.tensors.values():
            tensor.zero_()

    def take_over(self, held: dict[str, Tensor]) -> None:
        """Goes on from what was seen before."""
        for name, tensor in self.tensors.items():
            tensor.copy_(held[name])

    def _keep(self) -> None:
        for before, weight in zip(self.before, self.weights, strict=True):
            before.copy_(weight)

    def _compare(self) -> None:
        for i, (before, after) in enumerate(zip(self.before, self.weights, strict=True)):
            whole = angles(before.flatten(1), after.flatten(1))  # (R,)
            rows = angles(before.flatten(2), after.flatten(2))  # (R, out)
            self.tensors["angle"][i] += whole.square()
            self.tensors["angle_of_units"][i] += rows.square().mean(1)
        self.tensors["steps"] += 1
