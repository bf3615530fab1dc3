"""Directions: how far apart a network keeps the examples of a batch, layer by layer."""

import torch
from torch import Tensor

from bn_experiments.data.batches import BatchSize, size_of
from bn_experiments.data.splits import Splits
from bn_experiments.probes.layers import numbered, outputs_of_layers
from bn_experiments.probes.probe import Mode, Probe, Reading, TrainingBatch, fixed_batch
from bn_experiments.training.replicas import Replicas


def mean_cosine(z: Tensor) -> Tensor:
    """The mean cosine of the angle between two examples of a batch, over all pairs.

    Shapes: (B, ...), B >= 2, to (). An example that is zero has no direction, and makes it NaN.

    >>> mean_cosine(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    tensor(0.)
    """
    flat = z.flatten(1)
    unit = flat / flat.norm(dim=1, keepdim=True)
    count = len(unit)
    return (unit.sum(0).square().sum() - count) / (count * (count - 1))


def effective_rank(z: Tensor) -> Tensor:
    """The effective rank of the examples of a batch, (tr G)^2 / ||G||_F^2 of their Gram matrix G = z z'.

    It is 1 where all examples are parallel, and B where they are orthogonal and of equal length.

    Shapes: (B, ...) to ().

    >>> effective_rank(torch.eye(3))
    tensor(3.)
    """
    flat = z.flatten(1)
    gram = flat @ flat.T
    return gram.diagonal().sum().square() / gram.square().sum()


class Directions(Probe):
    """The mean cosine between two examples, and the effective rank of a batch, at the output of each of L layers.

    The outputs are those of linear and convolutional layers, before any norm and activation.

    Readings: cosine, effective_rank (R, L).

    Args:
        mode: The mode of the networks: train, with the batch's own statistics, or eval, with the running ones.
        batch_size: The size B of the batch, which each replica's seed draws from the training split; full: all of it.
    """

    quantities = ("cosine", "effective_rank")

    def __init__(self, *, mode: Mode, batch_size: BatchSize):
        self.mode, self.batch_size = mode, batch_size

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Looks at each replica on its batch."""
        x, _ = fixed_batch(splits.train, self.seeds, size_of(self.batch_size, len(splits.train)))
        found: dict[str, list[list[float]]] = {"cosine": [], "effective_rank": []}
        for i in range(replicas.size):  # of one network at a time, for deep ones are large
            network = replicas.replica(i).train(self.mode == "train")
            with torch.set_grad_enabled(self.mode == "train"):  # by which some norms know the mode
                layers = [z.detach().double() for z in outputs_of_layers(network, x[i])]
            found["cosine"].append([mean_cosine(z).item() for z in layers])
            found["effective_rank"].append([effective_rank(z).item() for z in layers])
        values = {name: torch.tensor(rows, dtype=torch.float64) for name, rows in found.items()}
        return Reading("layer", numbered(values["cosine"].shape[1]), values)

    def training_batches(self, splits: Splits) -> list[TrainingBatch]:
        """The batch, where the networks are in training mode."""
        return [TrainingBatch.of("batch_size", self.batch_size, "train", splits)] if self.mode == "train" else []
