"""Random streams: every draw is seeded by what it is for, so that arms share what they can share."""

import hashlib

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """The seed of the stream that serves `purpose` in replica `seed`.

    The first 8 bytes of SHA-256 over `seed/purpose/...`, less the sign bit: streams of different
    purposes or seeds are unrelated, and the same on every machine.

    Args:
        seed: The replica's seed.
        *purpose: What the stream is for, such as a layer's name, or ("batches", epoch).

    Returns:
        A seed in [0, 2^63).

    >>> derive(0, "hidden.0.layer") == derive(0, "hidden.0.layer") != derive(1, "hidden.0.layer")
    True
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator at the start of the stream that serves `purpose` (see `derive`)."""
    return torch.Generator().manual_seed(derive(seed, *purpose))
