"""Splits: the training, validation and test examples of a source, with one scale and shift for all three."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from bn_experiments.data.sources import Source
from bn_experiments.refusal import Refusal
from bn_experiments.seeds import generator

PerChannel = float | list[float]


@dataclass(frozen=True)
class Examples:
    """Examples on one device, stored as the source has them; `take` and `slice` normalize them.

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

    def chance(self) -> float:
        """The accuracy that a network without skill does not exceed, p + 3 sqrt(p (1 - p) / N).

        p is the share of the largest class, the accuracy of a network that always names it. The rest is three standard
        errors of a network that guesses.
        """
        share = float(self.y.bincount().max()) / len(self.y)
        return share + 3 * (share * (1 - share) / len(self.y)) ** 0.5

    def to(self, device: torch.device, dtype: torch.dtype) -> "Examples":
        """The same examples on `device`, normalized in `dtype`."""
        scale, shift = (tensor.to(device, dtype) for tensor in (self.scale, self.shift))
        return Examples(self.x.to(device), self.y.to(device), scale, shift)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The examples at an index of any shape (...), normalized: x (..., channels, ...) and y (...)."""
        x = self.x.index_select(0, index.flatten())
        return self.normalize(x).view(*index.shape, *self.x.shape[1:]), self.y[index]

    def slice(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The B = stop - start examples from `start` on, normalized: x (B, channels, ...) and y (B,)."""
        return self.normalize(self.x[start:stop]), self.y[start:stop]

    def normalize(self, x: Tensor) -> Tensor:
        """The normalized examples scale x + shift, (B, channels, ...) like x, in the dtype of scale."""
        return x.to(self.scale.dtype, copy=True).mul_(self.scale).add_(self.shift)


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


def split(
    source: Source,
    *,
    train_examples: PositiveInt | None,
    test_examples: PositiveInt | None,
    val_split: Literal["tail", "random", "test"],
    val_fraction: Annotated[float, Field(gt=0, lt=1)],
    split_seed: NonNegativeInt,
    normalization: Literal["none", "given", "train"],
    mean: PerChannel,
    std: PerChannel,
) -> Splits:
    """Cuts a source into splits, and sets their scale and shift.

    uint8 is scaled to [0, 1] first; then x (N, channels, ...) becomes (x - mean) / std.

    Args:
        source: The whole data set.
        train_examples: The number of training examples that are kept, the first ones, before the split. None: all.
        test_examples: The number of test examples that are kept, the first ones. None: all.
        val_split: The validation split: the last examples of the training set (tail), a random part of it (random),
            or the test set (test), which leaves the training set whole.
        val_fraction: The fraction of the training set that is for validation, rounded to whole examples; without
            effect for test.
        split_seed: The seed of the random part, the same for every replica and arm.
        normalization: The mean and std: 0 and 1 (none), `mean` and `std` (given), or those of each channel of the
            training split (train).
        mean: One number, or one number for each channel, for given.
        std: One number, or one number for each channel, above 0, for given.

    Raises:
        Refusal: A set has fewer examples than are to be kept, a split would be empty, mean and std do not fit the
            channels, or a std is not above 0.
    """
    _require_examples("data.train_examples", "training", train_examples, len(source.train_y))
    _require_examples("data.test_examples", "test", test_examples, len(source.test_y))
    x, y = source.train_x[:train_examples], source.train_y[:train_examples]
    count = len(y)
    kept = count if val_split == "test" else count - round(count * val_fraction)
    if val_split != "test" and not 0 < kept < count:
        got = f"leaves {kept} of {count} examples to train on and {count - kept} to validate on"
        remedy = "change it, or data.train_examples"
        raise Refusal("data.val_fraction", got, "at least one each", remedy, value=val_fraction)
    if val_split == "random":
        order = torch.randperm(count, generator=generator(split_seed, "validation split"))
        x, y = x[order], y[order]
    scale, shift = _scale_and_shift(x[:kept], normalization, mean, std)
    parts = [(x[:kept], y[:kept]), (x[kept:], y[kept:]), (source.test_x[:test_examples], source.test_y[:test_examples])]
    train, held_out, test = (Examples(x, y, scale, shift) for x, y in parts)
    return Splits(train, test if val_split == "test" else held_out, test, source.classes)


def _require_examples(key: str, name: str, asked: int | None, count: int) -> None:
    """Raises a refusal where a set has fewer examples than are to be kept."""
    if asked is not None and asked > count:
        got, remedy = f"the {name} set has {count}", "lower it, or leave it at null for all"
        raise Refusal(key, got, f"1 to {count}", remedy, value=asked)


def _scale_and_shift(x: Tensor, normalization: str, mean: PerChannel, std: PerChannel) -> tuple[Tensor, Tensor]:
    """The scale and shift (channels, 1, ...) in float64, such that scale x + shift is the normalized x."""
    unit = 255.0 if x.dtype == torch.uint8 else 1.0
    if normalization == "train":
        means, stds = _mean_and_std(x, unit)
    else:
        mean, std = (mean, std) if normalization == "given" else (0.0, 1.0)
        means, stds = _per_channel("mean", mean, x.shape[1]), _per_channel("std", std, x.shape[1])
    if not bool((stds > 0).all()):
        got = f"cannot divide by {stds.flatten().tolist()}"
        raise Refusal("data.std", got, "above 0", "change data.std or data.normalization", value=std)
    shape = (-1, *(1,) * (x.dim() - 2))
    return (1 / (unit * stds)).view(shape), (-means / stds).view(shape)


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
