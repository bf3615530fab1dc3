"""Gradient norms: how much of the loss's gradient reaches each layer."""

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from bn_experiments.data.splits import Splits
from bn_experiments.probes.probe import Probe, Reading, TrainingBatch, fixed_batch, networks
from bn_experiments.training.replicas import Replicas


def gradient_norms(network: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The 2-norm of the gradient of the mean cross-entropy with respect to each layer's parameters.

    Args:
        network: A network that gives logits (B, C) of a batch; a layer is a module with parameters of its own.
        x: A batch (B, ...).
        y: The labels (B,).

    Returns:
        The norm of each layer, a scalar, by the layer's name.
    """
    parameters = dict(network.named_parameters())
    loss = F.cross_entropy(network(x), y)
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    squares: dict[str, Tensor] = {}
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        layer = name.partition(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0]
        square = parameter.new_zeros(()) if gradient is None else gradient.square().sum()
        squares[layer] = squares.get(layer, torch.zeros_like(square)) + square
    return {layer: square.sqrt() for layer, square in squares.items()}


class Gradients(Probe):
    """The norm of the loss's gradient in each of L layers, on a fixed training batch of each replica.

    Readings: norm (R, L), in training mode.

    Args:
        examples: The size of the batch.
    """

    def __init__(self, *, examples: PositiveInt):
        self.examples = examples

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Takes the gradient of each replica's loss on its batch."""
        x, y = fixed_batch(splits.train, self.seeds, self.examples)
        with torch.enable_grad():
            found = [gradient_norms(network, x[i], y[i]) for i, network in enumerate(networks(replicas, "train"))]
        norms = torch.tensor([[norm.item() for norm in each.values()] for each in found])
        return Reading("layer", list(found[0]), {"norm": norms})

    def training_batches(self, splits: Splits) -> list[TrainingBatch]:
        """The gradient is that of training mode."""
        return [TrainingBatch.of("examples", self.examples, "train", splits)]
