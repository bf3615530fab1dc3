"""Idx files: the format of MNIST and of the data sets made to take its place, compressed or not."""

import gzip
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def found(folders: Iterable[Path], names: Iterable[str]) -> Path | None:
    """The first of some folders that holds every file, as it is or as .gz; None if none does."""
    names = list(names)
    return next((folder for folder in folders if all(_file(folder, name) for name in names)), None)


def read(folder: Path, name: str, md5: str) -> Tensor:
    """What an idx file of bytes holds, a uint8 tensor of the file's shape.

    The digest is that of the content: who compresses the same bytes at another time, or with another program, gets an
    archive with other bytes, so that a digest of the archive says nothing against it.

    Args:
        folder: The folder of the file.
        name: The name of the file, which is there as it is or as .gz.
        md5: The MD5 of what the file holds when it is not compressed.

    Raises:
        ValueError: The content is damaged.
    """
    file = _file(folder, name)
    assert file is not None, "`found` has seen it"
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except Exception as error:  # gzip, zlib and the system each raise their own errors
        raise ValueError(f"{file} is damaged ({error})") from error
    if hashlib.md5(content).hexdigest() != md5:
        raise ValueError(f"{file} is damaged (the MD5 of its content is not {md5})")
    axes = content[3]  # after two zero bytes and the type, 8 for bytes
    shape = np.frombuffer(content, ">u4", axes, offset=4)
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy())


def _file(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.exists()), None)
