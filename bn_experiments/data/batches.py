"""Batches: the mini-batches of an epoch, drawn by (seed, epoch), so that arms see the same ones."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from pydantic import PositiveInt
from torch import Tensor

from bn_experiments.data.splits import Examples
from bn_experiments.seeds import generator

TAKEN_AT_ONCE = 2**18  # numbers: a MB of them, half of what a core caches today


@dataclass(frozen=True)
class Batching:
    """How splits are cut into batches.

    Args:
        batch_size: B, of the training batches.
        shuffle: Whether each epoch and replica has its own order. False: all take the examples as they come.
        drop_last: Whether a last batch of fewer than B is left out.
        eval_batch_size: Of validation and test batches.
    """

    batch_size: PositiveInt
    shuffle: bool
    drop_last: bool
    eval_batch_size: PositiveInt

    def sizes(self, count: int) -> set[int]:
        """The sizes of the training batches of `count` examples.

        >>> sorted(Batching(64, True, False, 1000).sizes(130))
        [2, 64]
        """
        full, rest = divmod(count, self.batch_size)
        return ({self.batch_size} if full else set()) | ({rest} if rest and not self.drop_last else set())


class Block:
    """K consecutive mini-batches, handed to Lightning as one.

    Lightning would look into a tuple or a dataclass for tensors to move and convert; this is neither.

    Args:
        examples: What the mini-batches are taken from.
        index: (R, K, B).
    """

    def __init__(self, examples: Examples, index: Tensor):
        self.examples = examples
        self.index = index

    def __len__(self) -> int:
        return self.index.shape[1]


def mini_batches(examples: Examples, index: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The mini-batches at `index`, several of them taken at once while these fit into a processor's cache.

    Args:
        examples: What they are taken from.
        index: (K, ...).

    Yields:
        x (..., channels, ...) and y (...).
    """
    at_once = max(1, TAKEN_AT_ONCE // (index[0].numel() * examples.x[0].numel()))
    for part in index.split(at_once):
        x, y = examples.take(part)
        yield from zip(x.unbind(), y.unbind(), strict=True)


class Blocks:
    """The training data as Lightning sees them: each iteration is the current epoch, in blocks.

    Lightning saves its state with a checkpoint, and an epoch that was cut short goes on after its last block.

    Args:
        examples: The training split.
        seeds: Of the R replicas. Replica r's order in an epoch is a permutation seeded by (seed, epoch).
        epoch: Tells the current epoch.
        batching: Size and order of the batches.
        steps_per_execution: K.
    """

    def __init__(
        self,
        examples: Examples,
        seeds: Sequence[int],
        epoch: Callable[[], int],
        batching: Batching,
        steps_per_execution: int,
    ):
        self.examples = examples
        self.seeds = seeds
        self.epoch = epoch
        self.batching = batching
        self.steps_per_execution = steps_per_execution
        self.full, rest = divmod(len(examples), batching.batch_size)
        self.last = 0 if batching.drop_last else rest
        self.taken = 0  # blocks of the current epoch
        self.to_skip = 0  # of the next iteration, which were taken before

    def state_dict(self) -> dict[str, int]:
        """How many blocks of the current epoch were taken; none at its end."""
        return {"taken": self.taken % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on after the blocks that were taken."""
        self.to_skip = state["taken"]

    @property
    def steps(self) -> int:
        """Mini-batches an epoch."""
        return self.full + (self.last > 0)

    def __len__(self) -> int:
        return math.ceil(self.full / self.steps_per_execution) + (self.last > 0)

    def order(self, epoch: int) -> Tensor:
        """(R, N): the order in which each replica takes the examples in `epoch`."""
        count = len(self.examples)
        if not self.batching.shuffle:
            return torch.arange(count).expand(len(self.seeds), -1)
        return torch.stack([torch.randperm(count, generator=generator(seed, "batches", epoch)) for seed in self.seeds])

    def __iter__(self) -> Iterator[Block]:
        self.taken, self.to_skip = self.to_skip, 0
        for block in itertools.islice(self._blocks(), self.taken, None):
            self.taken += 1
            yield block

    def _blocks(self) -> Iterator[Block]:
        order = self.order(self.epoch()).to(self.examples.y.device)
        in_full_batches = self.full * self.batching.batch_size
        batches = order[:, :in_full_batches].reshape(len(self.seeds), self.full, self.batching.batch_size)
        for index in batches.split(self.steps_per_execution, dim=1) if self.full else ():
            yield Block(self.examples, index)
        if self.last:
            yield Block(self.examples, order[:, None, in_full_batches:])


class EvaluationBatches:
    """A split in order, handed to Lightning as one batch: the same for every replica.

    Args:
        examples: The split.
        batch_size: B; the last batch may be smaller.
    """

    def __init__(self, examples: Examples, batch_size: int):
        self.examples = examples
        self.batch_size = batch_size

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator["EvaluationBatches"]:
        yield self

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batch after batch, x (B, ...) and y (B,)."""
        for start in range(0, len(self.examples), self.batch_size):
            yield self.examples.slice(start, start + self.batch_size)
