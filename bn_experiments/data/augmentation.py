"""Augmentations: changes of training examples, each decided by random numbers that it is handed."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor

from bn_experiments.refusal import Refusal


class Crop:
    """A random crop of images: a window of the image's size in the image with zeros around it.

    y[c, i, j] = x[c, i + a, j + b], zero outside of the image, with a and b uniform in -padding..padding. The zeros
    come after normalization.

    Args:
        input_shape: The shape (channels, H, W) of an example.
        padding: The number of pixels with zeros on each side.

    Raises:
        Refusal: The examples are no images, or the padding is not smaller than they are.

    Source: He et al. 2016, arXiv:1512.03385, section 4.2 (4 pixels, 32 x 32 images).
    """

    draws = 2

    def __init__(self, input_shape: Sequence[int], *, padding: PositiveInt):
        _refuse_signals("crop", input_shape, ", or choose shift")
        _refuse_large("crop.padding", padding, input_shape)
        self.padding = padding

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """The cropped images (B, channels, H, W)."""
        return _windows(x, u, self.padding)


class Flip:
    """A horizontal flip of images, left to right, with probability 1/2.

    Args:
        input_shape: The shape (channels, H, W) of an example.

    Raises:
        Refusal: The examples are no images.

    Source: He et al. 2016, arXiv:1512.03385, section 4.2.
    """

    draws = 1

    def __init__(self, input_shape: Sequence[int]):
        _refuse_signals("flip", input_shape, "")

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """The images (B, channels, H, W), half of them flipped."""
        return torch.where(u[:, :, None, None] < 0.5, x.flip(-1), x)


class Cutout:
    """A square of zeros in each image, or a stretch of zeros in each signal, around a random position.

    The position is uniform in the example, so the square can reach over the border. The zeros come after normalization.

    Args:
        input_shape: The shape (channels, ...) of an example.
        size: The side of the square in pixels.

    Raises:
        Refusal: The square is not smaller than the example.

    Source: DeVries & Taylor 2017, arXiv:1708.04552, section 3.2.
    """

    def __init__(self, input_shape: Sequence[int], *, size: PositiveInt):
        _refuse_large("cutout.size", size, input_shape)
        self.draws = len(input_shape) - 1
        self.size = size

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """The examples (B, channels, ...) with their zeros."""
        inside = torch.ones(len(x), device=x.device, dtype=torch.bool)
        for axis, count in enumerate(x.shape[2:]):
            center = (u[:, axis, None] * count).long()
            place = torch.arange(count, device=x.device) - center + self.size // 2  # (B, count)
            own = (place >= 0) & (place < self.size)
            inside = inside[..., None] & own.view(len(x), *(1,) * axis, count)  # (B, ..., count)
        return x.masked_fill(inside[:, None], 0)


class Shift:
    """A random shift of signals, with zeros where nothing is shifted to.

    y[c, i] = x[c, i + a], zero outside of the signal, with a uniform in -points..points. The zeros come after
    normalization.

    Args:
        input_shape: The shape (channels, L) of an example.
        points: The largest shift, in points.

    Raises:
        Refusal: The examples are no signals, or the shift is not smaller than they are.
    """

    draws = 1

    def __init__(self, input_shape: Sequence[int], *, points: PositiveInt):
        if len(input_shape) != 2:
            got = f"shifts signals, and an example is of the shape {tuple(input_shape)}"
            raise Refusal("augmentation.shift", got, "data of signals (channels, L)", "leave it out, or choose crop")
        _refuse_large("shift.points", points, input_shape)
        self.points = points

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """The shifted signals (B, channels, L)."""
        return _windows(x, u, self.points)


class Scale:
    """A random factor for each example, y = (1 + a) x, with a uniform in [-amount, amount).

    Args:
        amount: The largest change of the factor.
    """

    draws = 1

    def __init__(self, *, amount: Annotated[float, Field(gt=0, lt=1)]):
        self.amount = amount

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """The scaled examples (B, channels, ...)."""
        factor = 1 + self.amount * (2 * u - 1)  # (B, 1)
        return x * factor.view(-1, *(1,) * (x.dim() - 1)).to(x.dtype)


def _windows(x: Tensor, u: Tensor, padding: int) -> Tensor:
    """A window of each example's size in the example with zeros around it.

    Args:
        x: The examples (B, channels, ...), with A axes after the channels.
        u: Random numbers (B, A), which place the window.
        padding: The number of zeros on each side.
    """
    starts = (u * (2 * padding + 1)).long()  # (B, A)
    windows = F.pad(x, [padding] * (2 * starts.shape[1]))
    for axis, size in enumerate(x.shape[2:]):
        windows = windows.unfold(2 + axis, size, 1)
    windows = windows.movedim(1, 1 + starts.shape[1])  # (B, one axis for each of A places, channels, ...), a view
    return windows[(torch.arange(len(x), device=x.device), *starts.unbind(1))]


def _refuse_signals(name: str, input_shape: Sequence[int], remedy: str) -> None:
    if len(input_shape) != 3:
        got = f"{name}s images, and an example is of the shape {tuple(input_shape)}"
        raise Refusal(f"augmentation.{name}", got, "data of images (channels, H, W)", f"leave it out{remedy}")


def _refuse_large(key: str, value: int, input_shape: Sequence[int]) -> None:
    most = min(input_shape[1:]) - 1
    if value > most:
        got = f"not smaller than an example of the shape {tuple(input_shape)}"
        raise Refusal(f"augmentation.{key}", got, f"1 to {most}", "lower it", value=value)
