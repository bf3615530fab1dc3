"""Image folders: a user's own data set, read from image files."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor

from bn_experiments.data.sources import Source
from bn_experiments.refusal import Refusal, one_line
from bn_experiments.seeds import generator


@cache
def image_folder(root: str, image_size: PositiveInt | None) -> Source:
    """The images in `root`/train/<class>/ and `root`/test/<class>/, as uint8 RGB (N, 3, H, W) in 0..255.

    The images come in a fixed random order. In the order of the folders a batch would hold a single class, and so would
    the first N images, which `data.train_examples` keeps, or the last, on which `data.val_split=tail` validates.

    Args:
        root: The folder that holds train and test.
        image_size: The side of the square images in pixels: the shorter side is resized to it, and the middle is cut
            out. None: the images stay as they are, and all must have one size.

    Raises:
        Refusal: A folder is missing or empty, train and test have different classes, a file is damaged, or the images
            differ in size and `image_size` is None.
    """
    train, test = (_find_images(Path(root) / part) for part in ("train", "test"))
    if train.classes != test.classes:
        odd = ", ".join(sorted(set(train.classes) ^ set(test.classes)))
        got = f"train and test differ in their classes ({odd})"
        raise Refusal("data.root", got, "the same folders in both", "add or remove them", value=root)
    train_x, test_x = (_read_images(part.samples, image_size) for part in (train, test))
    train_y, test_y = (torch.tensor(part.targets) for part in (train, test))
    order = torch.randperm(len(train_y), generator=generator(0, "training images"))
    test_order = torch.randperm(len(test_y), generator=generator(0, "test images"))
    return Source(train_x[order], train_y[order], test_x[test_order], test_y[test_order], tuple(train.classes))


def _find_images(folder: Path) -> Any:
    from torchvision.datasets import ImageFolder

    try:
        return ImageFolder(folder)
    except (OSError, RuntimeError) as error:
        allowed = "a folder with train/<class>/ and test/<class>/"
        got = f"no images in {folder} ({one_line(error)})"
        raise Refusal("data.root", got, allowed, "set data.root to one", value=folder.parent) from error


def _read_images(samples: list[tuple[str, int]], image_size: int | None) -> Tensor:
    """The images as uint8 (N, 3, H, W). Pillow decodes without Python's lock, so threads make it faster."""

    def read(sample: tuple[str, int]) -> np.ndarray:
        from PIL import Image
        from torchvision.transforms import functional

        try:
            with Image.open(sample[0]) as file:
                image = file.convert("RGB")
        except Exception as error:
            got = f"{sample[0]} is damaged ({one_line(error)})"
            raise Refusal("data.root", got, "images that Pillow reads", "repair or delete the file") from error
        if image_size is not None:
            image = functional.center_crop(functional.resize(image, image_size), image_size)
        return np.asarray(image)

    with ThreadPoolExecutor() as pool:
        arrays = list(pool.map(read, samples))
    odd = next((i for i, array in enumerate(arrays) if array.shape != arrays[0].shape), None)
    if odd is not None:
        got = ", ".join(f"{samples[i][0]} is {arrays[i].shape[1]}x{arrays[i].shape[0]}" for i in (odd, 0))
        raise Refusal("data.image_size=null", got, "one size", "set data.image_size")
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
