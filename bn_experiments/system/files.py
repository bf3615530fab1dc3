"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial"  # the end of the name of a file while it is written


def write_whole(path: Path, content: str | bytes | Callable[[BinaryIO], None], lasting: bool = True) -> None:
    """Writes a file so that it always holds either its old content or all of the new content.

    Args:
        path: The file, in a folder that exists.
        content: The new content, or a function that writes it into an open file.
        lasting: Whether to wait until the file outlasts a loss of power, which takes some milliseconds.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
