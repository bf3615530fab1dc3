"""Gradient norms: how much of the loss's gradient reaches each layer."""

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from bn_experiments.data.splits import Splits
from bn_experiments.probes.layers import MAPS
from bn_experiments.probes.probe import Probe, Reading, TrainingBatch, fixed_batch, networks, watch
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


def last_hidden_layer(network: nn.Module, x: Tensor) -> str | None:
    """The name of the last hidden layer: the linear or convolutional one that is called last but one.

    It is the layer before the one that makes the logits; in a transformer the second map of the last block's network.

    Args:
        network: The network, which is put into evaluation mode.
        x: A batch (B, ...).

    Returns:
        The name; None where fewer than two such layers are called.
    """
    maps = {name: module for name, module in network.named_modules() if isinstance(module, MAPS)}
    called: dict[str, None] = {}  # in the order of their last calls

    def see(name: str, *_: Tensor) -> None:
        called.pop(name, None)
        called[name] = None

    watch(network.eval(), x, maps, see)
    return list(called)[-2] if len(called) > 1 else None


class Gradients(Probe):
    """The norm of the loss's gradient in each of L layers, on a fixed training batch of each replica.

    The norm in the last hidden layer (see `last_hidden_layer`) has one name in networks of every depth. Weight and bias
    count together, as in every layer. For one example and a layer whose input is a vector a, the bias adds 1 / ||a||^2
    of the weight's squared norm.

    Readings: norm (R, L), last_hidden (R,), in training mode.

    Args:
        examples: The size of the batch.
    """

    quantities = ("norm", "last_hidden")

    def __init__(self, *, examples: PositiveInt):
        self.examples = examples

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Takes the gradient of each replica's loss on its batch."""
        x, y = fixed_batch(splits.train, self.seeds, self.examples)
        with torch.enable_grad():
            found = [gradient_norms(network, x[i], y[i]) for i, network in enumerate(networks(replicas, "train"))]
        norms = torch.tensor([[norm.item() for norm in each.values()] for each in found])  # (R, L)
        layers, last = list(found[0]), last_hidden_layer(replicas.replica(0), x[0])
        last_hidden = norms[:, layers.index(last)] if last in layers else torch.full((len(norms),), torch.nan)
        return Reading("layer", layers, {"norm": norms, "last_hidden": last_hidden})

    def training_batches(self, splits: Splits) -> list[TrainingBatch]:
        """The gradient is that of training mode."""
        return [TrainingBatch.of("examples", self.examples, "train", splits)]
