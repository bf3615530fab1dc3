"""Downloads: what torchvision reads of a folder, fetched by one process where it is missing, and never by halves."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from inspect import signature
from pathlib import Path
from typing import Any

from filelock import FileLock

from bn_experiments.refusal import Refusal, one_line


def load(dataset: Any, root: str, name: str, files: str) -> tuple[Any, Any]:
    """The training and the test set of a torchvision class; one process at a time downloads missing files."""
    with alone(Path(root), name):
        try:
            return _train_and_test(dataset, root)
        except RuntimeError:  # torchvision raises it for files that are missing or damaged
            fetch(dataset, Path(root), name, files)
            return _train_and_test(dataset, root)
        except Exception as error:
            got = f"files below {root} are damaged ({one_line(error)})"
            remedy = "delete them, and they are fetched again"
            raise Refusal("data", got, f"{files}, as published", remedy, value=name) from error


def _train_and_test(dataset: Any, root: str, **options: Any) -> tuple[Any, Any]:
    if "split" in signature(dataset).parameters:
        return dataset(root, split="train", **options), dataset(root, split="test", **options)
    return dataset(root, train=True, **options), dataset(root, train=False, **options)


@contextmanager
def alone(root: Path, name: str) -> Iterator[None]:
    """A context in which no other process downloads this data set; a folder that cannot be written needs no lock."""
    lock = FileLock(root / f".{name}.lock")
    with suppress(OSError, NotImplementedError):
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    except ValueError:  # a refusal leaves no file behind
        if lock.is_locked:
            Path(lock.lock_file).unlink()
        raise
    finally:
        lock.release()


def fetch(dataset: Any, root: Path, name: str, files: str) -> None:
    """Downloads what is missing, or refuses with the files that are; `root` never holds half a file."""
    try:
        _download(dataset, root, root / f".{name}.partial")
    except Exception as error:
        got = f"not in {root.resolve()}, and the download failed ({one_line(error)})"
        elsewhere = "set paths.data_dir or BN_DATA_DIR to a folder that has them, or use data=mnist1d"
        remedy = f"put them there, {elsewhere}, which is made locally"
        raise Refusal("data", got, files, remedy, value=name) from error


def _download(dataset: Any, root: Path, partial: Path) -> None:
    """Downloads and unpacks into the folder `partial`, then moves the files.

    A connection that does not answer within three seconds has failed.
    """
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    timeout = socket.getdefaulttimeout()
    try:
        own = {dataset.__name__, getattr(dataset, "base_folder", ""), getattr(dataset, "filename", "")}
        own |= {dataset.split_list[part][1] for part in ("train", "test") if hasattr(dataset, "split_list")}
        shutil.copytree(root, partial, ignore=lambda at, names: set(names) - own if Path(at) == root else set())
        socket.setdefaulttimeout(3)
        _train_and_test(dataset, str(partial), download=True)
        shutil.copytree(partial, root, dirs_exist_ok=True, copy_function=os.replace)
    finally:
        socket.setdefaulttimeout(timeout)
        shutil.rmtree(partial, ignore_errors=True)
