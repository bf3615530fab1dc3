"""Batches: the mini-batches of an epoch. (seed, epoch) seeds their order, so that arms see the same mini-batches."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from bn_experiments.data.augmented import Augmented, Trained
from bn_experiments.data.examples import Examples, of_replicas
from bn_experiments.seeds import generator

TAKEN_AT_ONCE = 2**18  # numbers; as float32 they fill 1 MB, about half of a core's cache
BatchSize = PositiveInt | Literal["full"]


def size_of(batch_size: BatchSize, count: int) -> int:
    """The number of examples in a batch of a split with `count` examples, all of them where the size is full.

    >>> size_of(64, 1000), size_of("full", 1000)
    (64, 1000)
    """
    return count if batch_size == "full" else batch_size


@dataclass(frozen=True)
class Batching:
    """How splits are cut into batches.

    Args:
        batch_size: The size B of the training batches. full: one batch of the whole split, in its order.
        shuffle: Whether each epoch and replica has its own order. False: the order of the split.
        drop_last: Whether a last batch of fewer than B examples is left out.
        eval_batch_size: The size of the validation and test batches.
    """

    batch_size: BatchSize
    shuffle: bool
    drop_last: bool
    eval_batch_size: PositiveInt

    def sizes(self, count: int) -> set[int]:
        """The sizes of the training batches into which `count` examples are cut.

        >>> sorted(Batching(64, True, False, 1000).sizes(130))
        [2, 64]
        """
        size = size_of(self.batch_size, count)
        full, rest = divmod(count, size)
        return ({size} if full else set()) | ({rest} if rest and not self.drop_last else set())


class Block:
    """K consecutive mini-batches, which Lightning gets as one batch.

    A block is neither a tuple nor a dataclass: Lightning would search those for tensors to move and convert.

    Args:
        examples: The examples from which the mini-batches are taken.
        index: The indices (R, K, B) of the examples in the K mini-batches of each replica (see `Examples.take`).
    """

    def __init__(self, examples: Trained, index: Tensor):
        self.examples = examples
        self.index = index

    def __len__(self) -> int:
        return self.index.shape[1]


def mini_batches(examples: Trained, index: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the K mini-batches at `index`; it takes as many at once as fit into a processor's cache.

    Args:
        examples: The examples from which the mini-batches are taken.
        index: The indices (K, ...), where ... is (B,) or (R, B).

    Yields:
        x (..., channels, ...) and y (...) of one mini-batch.
    """
    at_once = max(1, TAKEN_AT_ONCE // (index[0].numel() * examples.x[0].numel()))
    for part in index.split(at_once):
        x, y = examples.take(part)
        yield from zip(x.unbind(), y.unbind(), strict=True)


@dataclass(eq=False)
class Blocks:
    """The training data for Lightning: each iteration is the current epoch, in blocks.

    Lightning saves the state of this object in a checkpoint. So an epoch that was interrupted continues after its last
    block.

    Args:
        examples: The training split, with its augmentations where it has any.
        seeds: The seeds of the R replicas. (seed, epoch) seeds the permutation that is a replica's order.
        epoch: A function that returns the current epoch.
        batching: The size and order of the batches.
        steps_per_execution: The number K of mini-batches in each block.
    """

    examples: Trained
    seeds: Sequence[int]
    epoch: Callable[[], int]
    batching: Batching
    steps_per_execution: int

    def __post_init__(self) -> None:
        self.size = size_of(self.batching.batch_size, len(self.examples))
        self.full, rest = divmod(len(self.examples), self.size)
        self.last = 0 if self.batching.drop_last else rest
        self.taken = 0  # blocks of the current epoch that were given out
        self.to_skip = 0  # blocks of the next iteration that a run before this one has taken

    def state_dict(self) -> dict[str, int]:
        """The number of blocks of the current epoch that were taken; 0 at its end."""
        return {"taken": self.taken % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Sets the next iteration to start after the blocks that were taken."""
        self.to_skip = state["taken"]

    def __len__(self) -> int:
        return math.ceil(self.full / self.steps_per_execution) + (self.last > 0)

    def order(self, epoch: int) -> Tensor:
        """The order (R, N) in which each replica takes the N examples in `epoch`."""
        count = len(self.examples)
        if not self.batching.shuffle or self.batching.batch_size == "full":
            return torch.arange(count).expand(len(self.seeds), -1)
        return torch.stack([torch.randperm(count, generator=generator(seed, "batches", epoch)) for seed in self.seeds])

    def __iter__(self) -> Iterator[Block]:
        self.taken, self.to_skip = self.to_skip, 0
        for block in itertools.islice(self._blocks(), self.taken, None):
            self.taken += 1
            yield block

    def _blocks(self) -> Iterator[Block]:
        epoch = self.epoch()
        order = self.order(epoch).to(self.examples.y.device)
        if isinstance(self.examples, Augmented):
            self.examples.begin(epoch)
        index = of_replicas(order, len(self.examples))
        in_full_batches = self.full * self.size
        batches = index[:, :in_full_batches].reshape(len(self.seeds), self.full, self.size)  # (R, K, B)
        for places in batches.split(self.steps_per_execution, dim=1) if self.full else ():
            yield Block(self.examples, places)
        if self.last:
            yield Block(self.examples, index[:, None, in_full_batches:])


class EvaluationBatches:
    """A split in its own order, which Lightning gets as one batch.

    Args:
        examples: The split.
        batch_size: The size B of the batches; the last one may be smaller.
    """

    def __init__(self, examples: Examples, batch_size: int):
        self.examples = examples
        self.batch_size = batch_size

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator["EvaluationBatches"]:
        yield self

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields x (1 or R, B, channels, ...) and y (1 or R, B) of each batch (see `Examples.slice`)."""
        for start in range(0, len(self.examples), self.batch_size):
            yield self.examples.slice(start, start + self.batch_size)
