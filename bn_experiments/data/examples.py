"""Examples: those of a split, the same for all replicas or each replica's own, normalized as they are taken."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Examples:
    """N examples on one device, the same for all replicas; `take` and `slice` normalize them.

    Args:
        x: The examples (N, channels, ...), uint8 or float.
        y: The labels (N,).
        scale: The factors (channels, 1, ...) of x. The normalized x has their dtype.
        shift: The numbers (channels, 1, ...) that are added to scale x.
    """

    x: Tensor
    y: Tensor
    scale: Tensor
    shift: Tensor

    def __len__(self) -> int:
        return len(self.y)

    @property
    def labels(self) -> Tensor:
        """The labels of all examples in their order: (1, N), or (R, N) where each replica has its own."""
        return self.y[None]

    def chance(self) -> float:
        """The accuracy that a network without skill does not exceed, p + 3 sqrt(p (1 - p) / N).

        p is the share of the largest class, the accuracy of a network that always names it. The rest is three standard
        errors of a network that guesses. Where each replica has its own examples, p is the largest of them.
        """
        share = max(float(own.bincount().max()) / len(self) for own in self.labels)
        return share + 3 * (share * (1 - share) / len(self)) ** 0.5

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same examples on `device`, normalized in `dtype`."""
        scale, shift = (tensor.to(device, dtype) for tensor in (self.scale, self.shift))
        return replace(self, x=self.x.to(device), y=self.y.to(device), scale=scale, shift=shift)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The examples at an index of any shape (...), normalized.

        Args:
            index: r N + i for example i as replica r has it; i alone is that of the first replica.

        Returns:
            x (..., channels, ...) and y (...).
        """
        flat = index.flatten() % len(self)
        x = self.normalize(self.x.index_select(0, flat))
        return x.view(*index.shape, *self.x.shape[1:]), self.y[flat].view(index.shape)

    def slice(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The B = stop - start examples from `start` on, normalized.

        Returns:
            x (1, B, channels, ...) and y (1, B), or (R, B, channels, ...) and (R, B) where each replica has its own.
        """
        return self.normalize(self.x[start:stop])[None], self.y[None, start:stop]

    def normalize(self, x: Tensor) -> Tensor:
        """The normalized examples scale x + shift, (B, channels, ...) like x, in the dtype of scale."""
        return x.to(self.scale.dtype, copy=True).mul_(self.scale).add_(self.shift)


@dataclass(frozen=True)
class ExamplesByReplica(Examples):
    """N examples for each of R replicas, which lie among M examples that they may share.

    Args:
        x: The M examples (M, channels, ...), uint8 or float.
        y: Their labels (M,).
        scale: The factors (R, channels, 1, ...) of x for each replica.
        shift: The numbers (R, channels, 1, ...) that are added to scale x.
        rows: Where each replica's examples lie among the M, (R, N).
    """

    rows: Tensor

    def __len__(self) -> int:
        return self.rows.shape[1]

    @property
    def labels(self) -> Tensor:
        """The labels (R, N)."""
        return self.y[self.rows]

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same examples on `device`, normalized in `dtype`."""
        return replace(super().to(device, dtype), rows=self.rows.to(device))

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The examples at an index of any shape (...), normalized (see `Examples.take`)."""
        flat = index.flatten()
        rows, replica = self.rows.flatten()[flat], flat // len(self)
        x = self.x.index_select(0, rows).to(self.scale.dtype)
        x = x.mul_(self.scale[replica]).add_(self.shift[replica])
        return x.view(*index.shape, *self.x.shape[1:]), self.y[rows].view(index.shape)

    def slice(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The B = stop - start examples of each replica from `start` on: x (R, B, channels, ...) and y (R, B)."""
        places = torch.arange(start, min(stop, len(self)), device=self.rows.device)
        return self.take(of_replicas(places.expand(len(self.rows), -1), len(self)))


def of_replicas(index: Tensor, count: int) -> Tensor:
    """The index r N + i, as `Examples.take` has it.

    Args:
        index: The index i of examples of each replica, (R, B).
        count: N.

    >>> of_replicas(torch.tensor([[0, 2], [1, 1]]), 3).tolist()
    [[0, 2], [4, 4]]
    """
    return index + count * torch.arange(len(index), device=index.device)[:, None]
