"""Random streams: the purpose of a draw decides its seed, so that arms share the draws that both need."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def derive(seed: int, *purpose: str | int) -> int:
    """The seed of the random stream for `purpose` in the replica with the seed `seed`.

    It is the first 8 bytes of SHA-256 over `seed/purpose/...` without the last bit. Streams with different purposes or
    seeds are unrelated, and each is the same on every machine.

    Args:
        seed: The seed of the replica.
        *purpose: The use of the stream, such as the name of a layer, or ("batches", epoch).

    Returns:
        A seed in [0, 2^63).

    >>> derive(0, "hidden.0.layer") == derive(0, "hidden.0.layer") != derive(1, "hidden.0.layer")
    True
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator at the start of the random stream for `purpose` (see `derive`)."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


class Stream:
    """A random stream for code that draws from the global generators, those of torch, NumPy and Python.

    Within `drawn` that code draws from this stream, which goes on where it was left; after it the global generators
    are what they were before.

    Args:
        seed: The seed of the replica.
        *purpose: The use of the stream (see `derive`).

    Attributes:
        state: The state of the stream, of numbers and tensors as a checkpoint keeps them; None before the first draw.

    >>> stream = Stream(0, "noise")
    >>> with stream.drawn():
    ...     first = torch.rand(1)
    >>> with Stream(0, "noise").drawn():
    ...     torch.equal(first, torch.rand(1))
    True
    """

    def __init__(self, seed: int, *purpose: str | int):
        self.seed = derive(seed, *purpose)
        self.state: dict[str, Any] | None = None

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Within it the global generators draw from this stream."""
        outside = global_state()
        if self.state is None:
            torch.manual_seed(self.seed)
            random.seed(self.seed)
            np.random.seed(self.seed % 2**32)  # noqa: NPY002  # the generator that other people's code draws from
        else:
            _set_global_state(self.state)
        try:
            yield
        finally:
            self.state = global_state()
            _set_global_state(outside)


def global_state() -> dict[str, Any]:
    """The state of the global generators."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    numpy = (name, np.asarray(keys).tolist(), *rest)
    state: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": numpy}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_global_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"].cpu())
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu())
