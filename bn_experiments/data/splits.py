"""Splits: the training, validation and test examples of a source, with one scale and shift for all three."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from bn_experiments.data.examples import Examples, ExamplesByReplica
from bn_experiments.data.sources import Source
from bn_experiments.refusal import Refusal
from bn_experiments.seeds import generator

PerChannel = float | list[float]
OWN = "replica"  # the split_seed with which each replica has splits of its own


@dataclass(frozen=True)
class Splits:
    """The examples for training, validation and test, and the names of their classes.

    Args:
        train: The training split.
        val: The validation split.
        test: The test set.
        classes: The names of the classes.
    """

    train: Examples
    val: Examples
    test: Examples
    classes: tuple[str, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example, (channels, L) or (channels, H, W)."""
        return tuple(self.train.x.shape[1:])

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Splits":
        """The same splits on `device`, normalized in `dtype`."""
        train, val, test = (part.to(device, dtype) for part in (self.train, self.val, self.test))
        return replace(self, train=train, val=val, test=test)


@dataclass(frozen=True)
class Splitting:
    """How a data set is cut into splits, and how its examples are scaled and shifted.

    uint8 is scaled to [0, 1] first; then x (N, channels, ...) becomes (x - mean) / std.

    Args:
        train_examples: The number of training examples that are kept, the first ones, before the split. None: all.
        test_examples: The number of test examples that are kept, the first ones. None: all.
        val_split: The validation split: the last examples of the training set (tail), a random part of it (random),
            or the test set (test), which leaves the training set whole.
        val_fraction: The fraction of the training set that is for validation, rounded to whole examples; without
            effect for test.
        split_seed: The seed of the random part, the same for every replica and arm. replica: each replica's own seed
            draws its part, the same in every arm, also where `val_split` is tail.
        normalization: The mean and std: 0 and 1 (none), `mean` and `std` (given), or those of each channel of the
            training split (train).
        mean: One number, or one number for each channel, for given.
        std: One number, or one number for each channel, above 0, for given.
    """

    train_examples: PositiveInt | None
    test_examples: PositiveInt | None
    val_split: Literal["tail", "random", "test"]
    val_fraction: Annotated[float, Field(gt=0, lt=1)]
    split_seed: NonNegativeInt | Literal["replica"]
    normalization: Literal["none", "given", "train"]
    mean: PerChannel
    std: PerChannel

    def split(self, source: Source) -> Splits:
        """The splits of a data set, the same for every replica.

        Raises:
            Refusal: A set has fewer examples than are to be kept, a split would be empty, mean and std do not fit the
                channels, or a std is not above 0.
        """
        count, kept = self._counts(source)
        x, y = source.train_x[:count], source.train_y[:count]
        if self.val_split == "random":
            order = _order(count, int(self.split_seed))
            x, y = x[order], y[order]
        scale, shift = self._scale_and_shift(x[:kept])
        parts = [(x[:kept], y[:kept]), (x[kept:], y[kept:]), self._test_set(source)]
        train, held_out, test = (Examples(x, y, scale, shift) for x, y in parts)
        return Splits(train, test if self.val_split == "test" else held_out, test, source.classes)

    def split_by_replica(self, sources: Sequence[Source], seeds: Sequence[int]) -> Splits:
        """The splits of each of R replicas.

        Args:
            sources: The data set, or a realisation of it for each replica.
            seeds: The seeds of the replicas.

        Raises:
            Refusal: As in `split`, or realisations differ in shape or classes.
        """
        count, kept = self._counts(sources[0])
        if len({(*(part.shape for part in each[:4]), each.classes) for each in sources}) > 1:
            got, allowed = "makes data of another shape with another data_seed", "as many examples with every seed"
            raise Refusal("data._target_", got, allowed, "change it, or set data.split_seed to a number")
        orders = [torch.arange(count) if self.val_split == "test" else _order(count, seed) for seed in seeds]
        rows = torch.stack(orders) + _starts(len(seeds), len(sources), count)
        x, y = map(_joined, zip(*((each.train_x[:count], each.train_y[:count]) for each in sources), strict=True))
        test_x, test_y = map(_joined, zip(*map(self._test_set, sources), strict=True))
        size = len(test_y) // len(sources)
        test_rows = torch.arange(size) + _starts(len(seeds), len(sources), size)
        depends = self.normalization == "train"
        pairs = [self._scale_and_shift(x[own[:kept]]) for own in rows] if depends else [self._scale_and_shift(x)]
        scale, shift = (torch.stack(each).expand(len(seeds), *each[0].shape) for each in zip(*pairs, strict=True))
        train = ExamplesByReplica(x, y, scale, shift, rows[:, :kept])
        test: Examples = ExamplesByReplica(test_x, test_y, scale, shift, test_rows)
        if len(sources) == 1 and not depends:
            test = Examples(test_x, test_y, scale[0], shift[0])
        val: Examples = test if self.val_split == "test" else replace(train, rows=rows[:, kept:])
        return Splits(train, val, test, sources[0].classes)

    def _counts(self, source: Source) -> tuple[int, int]:
        """The number of examples that are kept for training and validation, and of those for training."""
        _require_examples("data.train_examples", "training", self.train_examples, len(source.train_y))
        _require_examples("data.test_examples", "test", self.test_examples, len(source.test_y))
        count = self.train_examples or len(source.train_y)
        kept = count if self.val_split == "test" else count - round(count * self.val_fraction)
        if self.val_split != "test" and not 0 < kept < count:
            got = f"leaves {kept} of {count} examples to train on and {count - kept} to validate on"
            remedy = "change it, or data.train_examples"
            raise Refusal("data.val_fraction", got, "at least one each", remedy, value=self.val_fraction)
        return count, kept

    def _test_set(self, source: Source) -> tuple[Tensor, Tensor]:
        return source.test_x[: self.test_examples], source.test_y[: self.test_examples]

    def _scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The scale and shift (channels, 1, ...) in float64, such that scale x + shift is the normalized x."""
        unit = 255.0 if x.dtype == torch.uint8 else 1.0
        if self.normalization == "train":
            means, stds = _mean_and_std(x, unit)
        else:
            mean, std = (self.mean, self.std) if self.normalization == "given" else (0.0, 1.0)
            means, stds = _per_channel("mean", mean, x.shape[1]), _per_channel("std", std, x.shape[1])
        if not bool((stds > 0).all()):
            got = f"cannot divide by {stds.flatten().tolist()}"
            raise Refusal("data.std", got, "above 0", "change data.std or data.normalization", value=self.std)
        shape = (-1, *(1,) * (x.dim() - 2))
        return (1 / (unit * stds)).view(shape), (-means / stds).view(shape)


def _order(count: int, seed: int) -> Tensor:
    """A random order of so many examples, of which the last are for validation."""
    return torch.randperm(count, generator=generator(seed, "validation split"))


def _joined(parts: tuple[Tensor, ...]) -> Tensor:
    """The realisations one after another."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _starts(replicas: int, realisations: int, size: int) -> Tensor:
    """Where the realisation of each replica starts among all, (R, 1); the one that all share starts at 0."""
    return size * torch.arange(replicas)[:, None] * (realisations > 1)


def _require_examples(key: str, name: str, asked: int | None, count: int) -> None:
    """Raises a refusal where a set has fewer examples than are to be kept."""
    if asked is not None and asked > count:
        got, remedy = f"the {name} set has {count}", "lower it, or leave it at null for all"
        raise Refusal(key, got, f"1 to {count}", remedy, value=asked)


def _per_channel(key: str, value: PerChannel, channels: int) -> Tensor:
    values = torch.tensor(value, dtype=torch.float64).flatten()
    if len(values) not in (1, channels):
        got = f"{len(values)} numbers for {channels} channels"
        raise Refusal(f"data.{key}", got, "one number, or one for each channel", "change it", value=value)
    return values.expand(channels)


def _mean_and_std(x: Tensor, unit: float) -> tuple[Tensor, Tensor]:
    """The mean and population standard deviation (channels,) of x / unit (N, channels, ...), in float64, by chunks."""
    total = torch.zeros(2, x.shape[1], dtype=torch.float64)
    for chunk in x.split(5000):
        values = chunk.transpose(0, 1).flatten(1).double() / unit
        total += torch.stack([values.sum(1), values.square().sum(1)])
    mean, mean_square = total / (x.numel() // x.shape[1])
    return mean, (mean_square - mean.square()).clamp(min=0).sqrt()
