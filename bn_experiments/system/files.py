"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial"  # the end of the name of a file while it is written


def write_whole(path: Path, content: str | bytes | Callable[[BinaryIO], None]) -> None:
    """Writes a file so that it always holds either its old content or all of the new content.

    Args:
        path: The file, in a folder that exists.
        content: The new content, or a function that writes it into an open file.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
