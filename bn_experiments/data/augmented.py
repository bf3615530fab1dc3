"""Augmented examples: training examples that are changed anew in each epoch and replica, by what its seed draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bn_experiments.data.examples import Examples
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
class Augmented:
    """N training examples as each of R replicas sees them in one epoch.

    The random numbers of an epoch are drawn at its start, into memory that stays where it is, for a captured step
    reads them from there. They depend on the replica's seed, the name of the augmentation, the epoch and the example,
    and so on no other replica or augmentation, nor on the batches.

    Args:
        examples: The examples before any change.
        augmentations: The augmentations by name, in the order in which they act.
        seeds: The seeds of the R replicas.
        draws: The random numbers (R N, D) for each augmentation.
    """

    examples: Examples
    augmentations: Mapping[str, Augmentation]
    seeds: Sequence[int]
    draws: Mapping[str, Tensor]

    @classmethod
    def of(cls, examples: Examples, augmentations: Mapping[str, Augmentation], seeds: Sequence[int]) -> "Augmented":
        """The examples with their augmentations, before any epoch."""
        rows, device = len(seeds) * len(examples), examples.y.device
        draws = {name: torch.zeros(rows, made.draws, device=device) for name, made in augmentations.items()}
        return cls(examples, augmentations, seeds, draws)

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def x(self) -> Tensor:
        """The examples as they are stored."""
        return self.examples.x

    @property
    def y(self) -> Tensor:
        """Their labels."""
        return self.examples.y

    def begin(self, epoch: int) -> None:
        """Draws the random numbers of an epoch."""
        for name, draws in self.draws.items():
            shape = (len(self), draws.shape[1])
            drawn = [torch.rand(shape, generator=generator(seed, "augmentation", name, epoch)) for seed in self.seeds]
            draws.copy_(torch.cat(drawn))

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The augmented examples at an index r N + i of any shape (...): x (..., channels, ...) and y (...)."""
        flat = index.flatten()
        x, y = self.examples.take(flat)
        for name, augmentation in self.augmentations.items():
            x = augmentation(x, self.draws[name].index_select(0, flat))
        return x.reshape(*index.shape, *x.shape[1:]), y.view(index.shape)


Trained = Examples | Augmented  # what mini-batches are taken from
