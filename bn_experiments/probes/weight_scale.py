"""Weight scale: what the loss and its gradient make of the length of each layer's weight."""

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor, nn

from bn_experiments.data.batches import BatchSize, size_of
from bn_experiments.data.splits import Splits
from bn_experiments.probes.layers import refusals_without_layers, weights_of_layers
from bn_experiments.probes.probe import Probe, Reading, TrainingBatch, fixed_batch
from bn_experiments.refusal import Refusal
from bn_experiments.seeds import Stream
from bn_experiments.training.replicas import Replicas


class Scaling(NamedTuple):
    """What is measured of a layer's weight w (out, in, ...) with the gradient g; all are 0 where a norm takes |w| out.

    Args:
        loss_change: L(a w) - L(w), in nats.
        gradient_change: a |g(a w)| / |g(w)| - 1.
        radial: The absolute cosine of the angle between w and g, |w . g| / (|w| |g|).
        radial_of_units: The mean of that over the output units, of a row of w each; a row without a gradient has 0.
        step_growth: (|w'|^2 - |w|^2) / (eta^2 |g|^2) - 1 of a step w' = w - eta g of SGD.
    """

    loss_change: float
    gradient_change: float
    radial: float
    radial_of_units: float
    step_growth: float


def scaling(network: nn.Module, x: Tensor, y: Tensor, factor: float, lr: float) -> dict[str, Scaling]:
    """How far each layer of a network is from invariance under a scaling of its weight, by the layer's name.

    The other weights stay as they are, and what a network draws in a pass is drawn again in the next.

    Args:
        network: The network in float64, in the mode that it is to be measured in; it is left as it is.
        x: A batch (B, ...).
        y: The labels (B,).
        factor: a.
        lr: eta.

    Source: van Laarhoven 2017, arXiv:1706.05350; Arora, Li & Lyu 2019, arXiv:1812.03981, lemma 2.4.
    """
    before = copy.deepcopy(network)
    loss, gradients = _loss_and_gradients(before, x, y)
    stepped = copy.deepcopy(network)
    for weight, gradient in zip(weights_of_layers(stepped).values(), gradients.values(), strict=True):
        weight.grad = gradient.clone()
    torch.optim.SGD(weights_of_layers(stepped).values(), lr).step()
    longer = weights_of_layers(stepped)
    found = {}
    for name, w in weights_of_layers(network).items():
        scaled = copy.deepcopy(network)
        with torch.no_grad():
            weights_of_layers(scaled)[name].mul_(factor)
        other_loss, others = _loss_and_gradients(scaled, x, y)
        g = gradients[name]
        growth = longer[name].square().sum() - w.square().sum()
        found[name] = Scaling(
            (other_loss - loss).item(),
            (factor * others[name].norm() / g.norm() - 1).item(),
            _cosine(w.flatten(), g.flatten()).item(),
            _cosine(w.flatten(1), g.flatten(1)).mean().item(),
            (growth / (lr**2 * g.square().sum()) - 1).item(),
        )
    return found


def _loss_and_gradients(network: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    weights = weights_of_layers(network)
    with torch.enable_grad(), Stream(0, "weight scale").drawn():
        loss = F.cross_entropy(network(x.clone()), y)
        gradients = torch.autograd.grad(loss, [*weights.values()], materialize_grads=True)
    return loss.detach(), dict(zip(weights, gradients, strict=True))


def _cosine(w: Tensor, g: Tensor) -> Tensor:
    """The absolute cosine of the angle between vectors on the last axis; 0 where there is no gradient."""
    product = (w.detach() * g).sum(-1).abs()
    return torch.where(product == 0, product, product / (w.detach().norm(dim=-1) * g.norm(dim=-1)))


class WeightScale(Probe):
    """How far each of L layers is from invariance under a scaling of its weight (see `Scaling`), in training mode.

    It is computed in float64, whatever the networks train in, on a fixed batch of each replica, for the mean
    cross-entropy. The error of an invariant layer is about eps / (a^2 v), v the variance before the norm.

    Readings: loss_change, gradient_change, radial, radial_of_units, step_growth (R, L).

    Args:
        factor: a, by which a weight is multiplied.
        lr: eta, the rate of the step of SGD.
        batch_size: The size B of the batch, which each replica's seed draws from the training split; full: all of it.
    """

    quantities = ("loss_change", "gradient_change", "radial", "radial_of_units", "step_growth")

    def __init__(self, *, factor: PositiveFloat, lr: PositiveFloat, batch_size: BatchSize):
        self.factor, self.lr, self.batch_size = factor, lr, batch_size

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Measures each replica on its batch."""
        x, y = fixed_batch(splits.train, self.seeds, size_of(self.batch_size, len(splits.train)))
        found = [
            scaling(replicas.replica(i).double().train(), x[i].double(), y[i], self.factor, self.lr)
            for i in range(replicas.size)
        ]
        values = torch.tensor([list(each.values()) for each in found], dtype=torch.float64)  # (R, L, quantities)
        quantities = dict(zip(Scaling._fields, values.unbind(2), strict=True))
        return Reading("layer", list(found[0]), quantities)

    def refusals(self, network: nn.Module, batch: Tensor) -> list[Refusal]:
        """A network without a layer that has a weight keeps it from measuring."""
        return refusals_without_layers(network, "weight_scale")

    def training_batches(self, splits: Splits) -> list[TrainingBatch]:
        """The batch."""
        return [TrainingBatch.of("batch_size", self.batch_size, "train", splits)]
