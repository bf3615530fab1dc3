"""Random streams: the purpose of a draw decides its seed, so that arms share the draws that both need."""

import hashlib

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
