"""Augmented examples: training examples that are changed anew in each epoch and replica, by what its seed draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bn_experiments.data.splits import Examples
from bn_experiments.seeds import generator


class Augmentation(Protocol):
    """A change of examples that random numbers decide.

    Args:
        draws: The number D of random numbers for each example.
    """

    draws: int

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """The changed examples.

        Args:
            x: Normalized examples (B, channels, ...), of one replica or of several.
            u: Random numbers (B, D), uniform in [0, 1).

        Returns:
            Examples of the same shape, each a function of its own row of x and u alone, computed on their device.
        """


@dataclass(frozen=True, eq=False)
class Augmented(Examples):
    """N training examples as each of R replicas sees them in one epoch; r N + i is the index of example i in replica r.

    The random numbers of an epoch are drawn at its start, into memory that stays where it is, for a captured step
    reads them from there. They depend on the replica's seed, the name of the augmentation, the epoch and the example,
    and so on no other replica or augmentation, nor on the batches.

    Args:
        augmentations: The augmentations by name, in the order in which they act.
        seeds: The seeds of the R replicas.
        draws: The random numbers (R N, D) for each augmentation.
    """

    augmentations: Mapping[str, Augmentation]
    seeds: Sequence[int]
    draws: Mapping[str, Tensor]

    @classmethod
    def of(cls, examples: Examples, augmentations: Mapping[str, Augmentation], seeds: Sequence[int]) -> "Augmented":
        """The examples with their augmentations, before any epoch."""
        rows, device = len(seeds) * len(examples), examples.y.device
        draws = {name: torch.zeros(rows, made.draws, device=device) for name, made in augmentations.items()}
        return cls(examples.x, examples.y, examples.scale, examples.shift, augmentations, seeds, draws)

    def begin(self, epoch: int, order: Tensor) -> Tensor:
        """Draws the random numbers of an epoch.

        Args:
            epoch: The epoch.
            order: The order (R, N) in which each replica takes the N examples.

        Returns:
            The same order as indices (R, N) for `take`.
        """
        for name, draws in self.draws.items():
            shape = (len(self), draws.shape[1])
            drawn = [torch.rand(shape, generator=generator(seed, "augmentation", name, epoch)) for seed in self.seeds]
            draws.copy_(torch.cat(drawn))
        return order + len(self) * torch.arange(len(self.seeds), device=order.device)[:, None]

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The augmented examples at an index of any shape (...): x (..., channels, ...) and y (...)."""
        flat = index.flatten()
        x, y = super().take(flat % len(self))
        for name, augmentation in self.augmentations.items():
            x = augmentation(x, self.draws[name].index_select(0, flat))
        return x.reshape(*index.shape, *x.shape[1:]), y.view(index.shape)
