"""Variance by depth: how the spread of the signal grows or fades from one stage of the network to the next."""

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from bn_experiments.data.splits import Splits
from bn_experiments.probes.probe import Mode, Probe, Reading, Split, TrainingBatch, fixed_batch, networks, watch
from bn_experiments.training.replicas import Replicas


def unit_variance(x: Tensor) -> Tensor:
    """The mean over units of the variance over the batch, and over positions where there are any.

    The variance is the population variance. Shapes: (B, F, ...) to ().

    >>> unit_variance(torch.tensor([[0.0, 0.0], [2.0, 4.0]]))
    tensor(2.5000)
    """
    return x.transpose(0, 1).flatten(1).var(dim=1, correction=0).mean()


def stages(network: nn.Module) -> dict[str, nn.Module]:
    """The modules that a signal passes from the input to the logits.

    They are the network's children in order, where a `Sequential` stands for its own children, and so does a child
    that is the only one.

    >>> list(stages(nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 1))))
    ['0.0', '0.1', '1']
    """
    found: dict[str, nn.Module] = {}
    children = dict(network.named_children())
    if len(children) == 1 and len(inner := stages(*children.values())) > 1:
        (name,) = children
        return {f"{name}.{key}": part for key, part in inner.items()}
    for name, child in children.items():
        inner = {f"{name}.{key}": part for key, part in child.named_children()} if type(child) is nn.Sequential else {}
        found |= inner or {name: child}
    return found


def variance_by_depth(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """`unit_variance` of the input, `x`, and of the output of each of the network's stages, by name.

    Args:
        network: The network, in the mode that it is to be measured in.
        x: A batch (B, ...).

    Returns:
        The variance of each stage, a scalar.

    Source: Prince 2023, Understanding Deep Learning, section 11.4 and figure 11.6.
    """
    found = {"x": unit_variance(x.flatten(1))}

    def see(name: str, before: Tensor, after: Tensor) -> None:
        found[name] = unit_variance(after)

    watch(network, x, stages(network), see)
    return found


class VarianceByDepth(Probe):
    """The variance of the signal at each of D stages, on a fixed batch of each replica (see `variance_by_depth`).

    Readings: variance (R, D).

    Args:
        mode: The mode of the networks: train, with the batch's own statistics, or eval, with the running ones.
        split: The split that the batch is drawn from: train, val or test.
        examples: The size of the batch.
    """

    quantities = ("variance",)

    def __init__(self, *, mode: Mode, split: Split, examples: PositiveInt):
        self.mode, self.split, self.examples = mode, split, examples

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Measures each replica on its batch."""
        x, _ = fixed_batch(getattr(splits, self.split), self.seeds, self.examples)
        found = [variance_by_depth(network, x[i]) for i, network in enumerate(networks(replicas, self.mode))]
        variances = torch.tensor([[variance.item() for variance in each.values()] for each in found])
        return Reading("stage", list(found[0]), {"variance": variances})

    def training_batches(self, splits: Splits) -> list[TrainingBatch]:
        """The batch, where the networks are in training mode."""
        return [TrainingBatch.of("examples", self.examples, self.split, splits)] if self.mode == "train" else []
