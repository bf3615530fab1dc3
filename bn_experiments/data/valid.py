"""Valid data: what a data set must be, from whatever function it comes, so that the models train on what was meant."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from bn_experiments.data.sources import Source
from bn_experiments.refusal import Refusal

LABELS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)  # int64 holds every value of each


def valid(found: Any, loaded_by: str) -> Source:
    """The data set that a function loaded, with labels as int64; a data set is looked at once.

    Args:
        found: What the function returned.
        loaded_by: The dotted path of the function.

    Raises:
        Refusal: It is no `Source` of four tensors and names of classes; examples are not (N, C, L) or (N, C, H, W),
            are none, are not finite, or differ in shape or type between training and test set; labels are not one
            integer in 0..C-1 for each example, where C classes have names.
    """
    if not isinstance(found, Source) or not all(isinstance(tensor, Tensor) for tensor in found[:4]):
        kinds = [type(part).__name__ for part in found[:4]] if isinstance(found, Source) else []
        got = f"a {type(found).__name__}" + (f" of {', '.join(kinds)}" if kinds else "")
        raise _refusal(loaded_by, got, "a bn_experiments.data.sources.Source of four tensors", "return one")
    if not found.classes or isinstance(found.classes, str) or not all(isinstance(name, str) for name in found.classes):
        got = f"classes={found.classes!r}"
        raise _refusal(loaded_by, got, "a tuple with the name of each class", "name the classes")
    return _valid(found._replace(classes=tuple(found.classes)), loaded_by)


@cache
def _valid(source: Source, loaded_by: str) -> Source:
    for part, x, y in (("train", source.train_x, source.train_y), ("test", source.test_x, source.test_y)):
        _check_examples(loaded_by, f"{part}_x", x)
        _check_labels(loaded_by, f"{part}_y", y, len(x), len(source.classes))
    shapes = [tuple(x.shape[1:]) for x in (source.train_x, source.test_x)]
    kinds = [x.dtype for x in (source.train_x, source.test_x)]
    if shapes[0] != shapes[1] or kinds[0] != kinds[1]:  # one scale and one network serve both
        got = f"train_x of {kinds[0]} {shapes[0]} and test_x of {kinds[1]} {shapes[1]} for an example"
        raise _refusal(loaded_by, got, "one type and one shape", "bring them to one")
    return source._replace(train_y=source.train_y.long(), test_y=source.test_y.long())


def _check_examples(loaded_by: str, name: str, x: Tensor) -> None:
    shape = tuple(x.shape)
    if len(shape) not in (3, 4):
        allowed = "(N, C, L) for signals of C channels, or (N, C, H, W) for images"
        raise _refusal(loaded_by, f"{name} of the shape {shape}", allowed, "give it these axes, C = 1 for one channel")
    if 0 in shape:
        raise _refusal(loaded_by, f"an empty {name}, {shape}", "one example or more", "look where the others are lost")
    if x.dtype != torch.uint8 and not x.is_floating_point():
        allowed = "uint8 in 0..255, or a float type"
        raise _refusal(loaded_by, f"{name} of {x.dtype}", allowed, f"convert it, such as {name}.float()")
    if x.is_floating_point() and not all(bool(chunk.isfinite().all()) for chunk in x.split(5000)):
        count = sum(int((~chunk.isfinite()).sum()) for chunk in x.split(5000))
        got = f"{count} of {x.numel()} values in {name} that are not finite"
        raise _refusal(loaded_by, got, "finite numbers", "leave their examples out, or fill them in")


def _check_labels(loaded_by: str, name: str, y: Tensor, examples: int, classes: int) -> None:
    if tuple(y.shape) != (examples,):
        got = f"{name} of the shape {tuple(y.shape)} for {examples} examples"
        raise _refusal(loaded_by, got, f"({examples},), one label for each example", "match labels and examples")
    if y.dtype not in LABELS:
        allowed = ", ".join(str(kind).removeprefix("torch.") for kind in LABELS)
        raise _refusal(loaded_by, f"{name} of {y.dtype}", allowed, f"convert the numbers of the classes, {name}.long()")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        remedy = "number the classes from 0, and name each in classes"
        raise _refusal(
            loaded_by,
            f"labels {low} to {high} in {name}",
            f"0 to {classes - 1}, for the {classes} names in classes",
            remedy,
        )


def _refusal(loaded_by: str, got: str, allowed: str, remedy: str) -> Refusal:
    return Refusal("data", f"{loaded_by} gives {got}", allowed, remedy)
