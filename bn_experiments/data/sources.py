"""Sources: each function returns a published data set as tensors. A process loads each data set once."""

import hashlib
import random
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from bn_experiments.refusal import Refusal, one_line

# MD5 of MNIST's decompressed files; torchvision has those of the compressed files (datasets.MNIST.resources)
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


class Source(NamedTuple):
    """A data set: images uint8 (N, channels, H, W) in 0..255, signals float32 (N, channels, L); labels int64 (N,)."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: tuple[str, ...]


@cache
def mnist1d(root: str) -> Source:
    """MNIST-1D: 4,000 training and 1,000 test signals (1, 40), made locally and kept in `root` if it can be written.

    The package's generator makes the published data set with its default arguments, seed 42.

    Raises:
        Refusal: The file in `root` is damaged.

    Source: Greydanus & Kobak 2024, arXiv:2011.14439.
    """
    file = Path(root) / "mnist1d" / "mnist1d.npz"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            if not file.exists():
                partial = file.with_suffix(".partial.npz")
                np.savez(partial, allow_pickle=False, **_make_mnist1d())
                partial.replace(file)
    except OSError:  # the folder cannot be written, such as a shared one: each process makes the data again
        arrays = _read_npz(file) if file.exists() else _make_mnist1d()
    else:
        arrays = _read_npz(file)
    x, y, test_x, test_y = (torch.from_numpy(arrays[key]) for key in ("x", "y", "x_test", "y_test"))
    return Source(x[:, None].float(), y.long(), test_x[:, None].float(), test_y.long(), _digits())


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
    """Fashion-MNIST: 60,000 training and 10,000 test images (1, 28, 28).

    Raises:
        Refusal: A file is damaged, or is missing and cannot be downloaded.

    Source: Xiao et al. 2017, arXiv:1708.07747.
    """
    from torchvision.datasets import FashionMNIST

    return _idx_images(FashionMNIST, root, "fashion_mnist", dict.fromkeys(MNIST_MD5, ""))


@cache
def cifar10(root: str) -> Source:
    """CIFAR-10: 50,000 training and 10,000 test images (3, 32, 32), checked against torchvision's digests.

    Raises:
        Refusal: A file is damaged, or is missing and cannot be downloaded.

    Source: Krizhevsky 2009, Learning multiple layers of features from tiny images, chapter 3.
    """
    from torchvision.datasets import CIFAR10

    _download(CIFAR10, root, "cifar10", f"{CIFAR10.base_folder}/data_batch_1 ... test_batch, batches.meta")
    train, test = (CIFAR10(root, train=train) for train in (True, False))
    train_x, test_x = (torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in (train, test))
    return Source(train_x, torch.tensor(train.targets), test_x, torch.tensor(test.targets), tuple(train.classes))


def _make_mnist1d() -> dict[str, np.ndarray]:
    from mnist1d.data import get_dataset_args, make_dataset

    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - the package seeds the global generators
    try:
        made = make_dataset(get_dataset_args())
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
    return {key: made[key] for key in ("x", "y", "x_test", "y_test")}


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in ("x", "y", "x_test", "y_test")}
    except Exception as error:
        remedy = "delete the file, and it is made again"
        raise Refusal("paths.data_dir", f"{file} is damaged ({error})", "what this program wrote", remedy) from error


def _digits() -> tuple[str, ...]:
    return tuple("0123456789")


def _idx_images(dataset: Any, root: str, name: str, md5: dict[str, str]) -> Source:
    """A data set that consists of four idx files, as MNIST and its drop-in replacements do."""
    raw = Path(root) / dataset.__name__ / "raw"
    _download(dataset, root, name, f"{dataset.__name__}/raw/{', '.join(md5)} (or .gz)")
    for file, digest in md5.items():
        if digest and hashlib.md5((raw / file).read_bytes()).hexdigest() != digest:
            got = f"{raw / file} is damaged (its MD5 is not {digest})"
            raise Refusal("data", got, "the published file", "delete it, and it is fetched again", value=name)
    try:
        train, test = (dataset(root, train=train) for train in (True, False))
    except Exception as error:
        remedy = "delete the folder, and they are fetched again"
        got = f"a file in {raw} is damaged ({error})"
        raise Refusal("data", got, "the published files", remedy, value=name) from error
    for part, size in ((train, 60_000), (test, 10_000)):
        if tuple(part.data.shape) != (size, 28, 28) or tuple(part.targets.shape) != (size,):
            got = f"{raw} holds images {tuple(part.data.shape)} and labels {tuple(part.targets.shape)}"
            remedy = "delete the folder, and the files are fetched again"
            raise Refusal("data", got, f"({size}, 28, 28)", remedy, value=name)
    return Source(train.data[:, None], train.targets, test.data[:, None], test.targets, tuple(train.classes))


def _download(dataset: Any, root: str, name: str, files: str) -> None:
    """Downloads missing files with torchvision, which checks digests; one process at a time."""
    with _alone(Path(root), name):
        try:
            dataset(root, train=True)
            dataset(root, train=False)
            return
        except RuntimeError:  # torchvision raises it for files that are missing or damaged
            pass
        except Exception as error:
            got = f"files below {root} are damaged ({one_line(error)})"
            remedy = "delete them, and they are fetched again"
            raise Refusal("data", got, f"{files}, as published", remedy, value=name) from error
        try:
            _fetch(dataset, Path(root), Path(root) / f".{name}.partial")
        except Exception as error:
            got = f"not in {Path(root).resolve()}, and the download failed ({one_line(error)})"
            elsewhere = "set paths.data_dir or BN_DATA_DIR to a folder that has them, or use data=mnist1d"
            raise Refusal(
                "data", got, files, f"put them there, {elsewhere}, which is made locally", value=name
            ) from error


@contextmanager
def _alone(root: Path, name: str) -> Iterator[None]:
    """A context in which no other process downloads this data set; a folder that cannot be written needs no lock."""
    lock = FileLock(root / f".{name}.lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    except ValueError:  # a refusal leaves no file behind
        Path(lock.lock_file).unlink(missing_ok=True)
        raise
    finally:
        lock.release()


def _fetch(dataset: Any, root: Path, partial: Path) -> None:
    """Downloads and unpacks into the folder `partial`, then moves the files, so that `root` never holds half a file."""
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    try:
        partial.mkdir()
        for there in (dataset.__name__, getattr(dataset, "base_folder", ""), getattr(dataset, "filename", "")):
            if there and (root / there).is_dir():
                shutil.copytree(root / there, partial / there)
            elif there and (root / there).exists():
                shutil.copy(root / there, partial / there)
        with _short_timeout():
            dataset(str(partial), train=True, download=True)
            dataset(str(partial), train=False, download=True)
        for file in [path for path in partial.rglob("*") if path.is_file()]:
            target = root / file.relative_to(partial)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _short_timeout() -> Iterator[None]:
    """A context in which a connection that does not answer within three seconds has failed."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(3)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
