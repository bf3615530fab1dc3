"""Sources: each function returns a published data set as tensors. A process loads each data set once."""

import hashlib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from bn_experiments.data import idx
from bn_experiments.data.download import alone, fetch, load
from bn_experiments.refusal import Refusal
from bn_experiments.seeds import Stream, generator
from bn_experiments.system.files import write_whole

# MD5 of the files' content. What is published are digests of the compressed files (datasets.MNIST.resources).
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
# Of Debian's dataset-fashion-mnist 0.0~git20200523.55506a9-1. Its archives become those of the published digests
# (datasets.FashionMNIST.resources) with the name and the time of 31 August 2017, 10:50 UTC, in their headers.
FASHION_MNIST_MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}


class Source(NamedTuple):
    """A data set: images uint8 (N, channels, H, W) in 0..255, signals float32 (N, channels, L); labels int64 (N,)."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: tuple[str, ...]


@cache
def digest(source: Source) -> str:
    """The first 16 hex digits of SHA-256 over all that a data set holds, with the types and shapes of its tensors."""
    found = hashlib.sha256("/".join(source.classes).encode())
    for tensor in source[:4]:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


PUBLISHED = 42  # the seed of the published MNIST-1D


@cache
def mnist1d(root: str, data_seed: NonNegativeInt = PUBLISHED) -> Source:
    """MNIST-1D: 4,000 training and 1,000 test signals (1, 40), made locally and kept in `root` if it can be written.

    The package's generator makes the published data set with its default arguments, seed 42. Another seed makes
    another sample of the same distribution: other shifts, scales, slopes and noise of the ten digits.

    Args:
        root: The folder of data sets.
        data_seed: The seed of the generator.

    Raises:
        Refusal: The file in `root` is damaged.

    Source: Greydanus & Kobak 2024, arXiv:2011.14439.
    """
    name = "mnist1d" if data_seed == PUBLISHED else f"mnist1d-{data_seed}"
    file = Path(root) / "mnist1d" / f"{name}.npz"
    if file.exists():
        arrays = _read_npz(file)
    else:
        arrays = _make_mnist1d(data_seed)
        with suppress(OSError):  # the folder cannot be written, such as a shared one: each process makes the data again
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, lambda stream: np.savez(stream, allow_pickle=False, **arrays))
    x, y, test_x, test_y = (torch.from_numpy(arrays[key]) for key in ("x", "y", "x_test", "y_test"))
    return Source(x[:, None].float(), y.long(), test_x[:, None].float(), test_y.long(), tuple("0123456789"))


@cache
def mnist(root: str) -> Source:
    """MNIST: 60,000 training and 10,000 test images (1, 28, 28), checked against their published digests.

    Raises:
        Refusal: A file is damaged, or is missing and cannot be downloaded.

    Source: LeCun et al. 1998, doi:10.1109/5.726791.
    """
    from torchvision.datasets import MNIST

    return _idx_images(MNIST, root, "mnist", MNIST_MD5)


@cache
def fashion_mnist(root: str) -> Source:
    """Fashion-MNIST: 60,000 training and 10,000 test images (1, 28, 28), checked against the digests of its content.

    With `root` /usr/share/datasets it is that of Debian's package dataset-fashion-mnist.

    Raises:
        Refusal: A file is damaged, or is missing and cannot be downloaded.

    Source: Xiao et al. 2017, arXiv:1708.07747.
    """
    from torchvision.datasets import FashionMNIST

    return _idx_images(FashionMNIST, root, "fashion_mnist", FASHION_MNIST_MD5)


@cache
def cifar10(root: str) -> Source:
    """CIFAR-10: 50,000 training and 10,000 test images (3, 32, 32), checked against torchvision's digests.

    Raises:
        Refusal: A file is damaged, or is missing and cannot be downloaded.

    Source: Krizhevsky 2009, Learning multiple layers of features from tiny images, chapter 3.
    """
    from torchvision.datasets import CIFAR10

    return _cifar(CIFAR10, root, "cifar10", f"{CIFAR10.base_folder}/data_batch_1 ... test_batch, batches.meta")


@cache
def cifar100(root: str) -> Source:
    """CIFAR-100: 50,000 training and 10,000 test images (3, 32, 32) of 100 classes, checked as CIFAR-10 is.

    Raises:
        Refusal: A file is damaged, or is missing and cannot be downloaded.

    Source: Krizhevsky 2009, Learning multiple layers of features from tiny images, chapter 3.
    """
    from torchvision.datasets import CIFAR100

    return _cifar(CIFAR100, root, "cifar100", f"{CIFAR100.base_folder}/train, test, meta")


@cache
def svhn(root: str) -> Source:
    """SVHN: 73,257 training and 26,032 test images (3, 32, 32) of digits, checked against torchvision's digests.

    The further images, extra_32x32.mat, are left out.

    Raises:
        Refusal: A file is damaged, or is missing and cannot be downloaded.

    Source: Netzer et al. 2011, Reading digits in natural images with unsupervised feature learning, section 3.
    """
    from torchvision.datasets import SVHN

    train, test = load(SVHN, root, "svhn", "train_32x32.mat, test_32x32.mat")
    train_x, test_x = (torch.from_numpy(part.data).contiguous() for part in (train, test))
    train_y, test_y = (torch.from_numpy(part.labels) for part in (train, test))
    return Source(train_x, train_y, test_x, test_y, tuple("0123456789"))


def gaussian(
    shape: Annotated[list[PositiveInt], Field(min_length=2, max_length=3)],
    classes: PositiveInt,
    examples: PositiveInt,
    test_examples: PositiveInt,
    data_seed: NonNegativeInt,
) -> Source:
    """Noise: every number of an example is drawn from N(0, 1), its label uniformly, for claims at initialization.

    Args:
        shape: The shape of an example, (channels, L) or (channels, H, W).
        classes: The number of classes.
        examples: The number of training examples.
        test_examples: The number of test examples.
        data_seed: The seed of all draws, the same for every replica and arm.
    """
    return _gaussian(tuple(shape), classes, examples, test_examples, data_seed)


@cache
def _gaussian(shape: tuple[int, ...], classes: int, examples: int, test_examples: int, seed: int) -> Source:
    def drawn(part: str, count: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(count, *shape, generator=generator(seed, "gaussian", part, "x"))
        return x, torch.randint(classes, (count,), generator=generator(seed, "gaussian", part, "y"))

    return Source(*drawn("training", examples), *drawn("test", test_examples), tuple(map(str, range(classes))))


def _make_mnist1d(seed: int) -> dict[str, np.ndarray]:
    from mnist1d.data import get_dataset_args, make_dataset

    arguments = get_dataset_args()
    arguments.seed = seed
    with Stream(0, "mnist1d").drawn():  # the package seeds the global generators
        made = make_dataset(arguments)
    return {key: made[key] for key in ("x", "y", "x_test", "y_test")}


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in ("x", "y", "x_test", "y_test")}
    except Exception as error:
        remedy = "delete the file, and it is made again"
        raise Refusal("paths.data_dir", f"{file} is damaged ({error})", "what this program wrote", remedy) from error


def _idx_images(dataset: Any, root: str, name: str, md5: dict[str, str]) -> Source:
    """A data set that consists of four idx files, as MNIST and its drop-in replacements do."""
    raw = Path(root) / dataset.__name__ / "raw"
    folders = (raw, Path(root) / name.replace("_", "-"))  # torchvision's, and that of a package of Debian
    folder = idx.found(folders, md5)
    if folder is None:
        with alone(Path(root), name):
            if idx.found(folders, md5) is None:  # which another process may have fetched just now
                fetch(dataset, Path(root), name, f"{dataset.__name__}/raw/{', '.join(md5)} (or .gz)")
        folder = idx.found(folders, md5) or raw
    try:
        train_x, train_y, test_x, test_y = (idx.read(folder, file, digest) for file, digest in md5.items())
    except ValueError as error:
        remedy = "delete it, and it is fetched again"
        raise Refusal("data", str(error), "the published file", remedy, value=name) from error
    return Source(train_x[:, None], train_y.long(), test_x[:, None], test_y.long(), tuple(dataset.classes))


def _cifar(dataset: Any, root: str, name: str, files: str) -> Source:
    """CIFAR-10 or CIFAR-100, whose images are stored with the channels last."""
    train, test = load(dataset, root, name, files)
    train_x, test_x = (torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in (train, test))
    return Source(train_x, torch.tensor(train.targets), test_x, torch.tensor(test.targets), tuple(train.classes))
