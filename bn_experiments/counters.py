"""Counter-based random numbers: each is a function of a seed, a step and a place; there is no state of a generator.

So a stack of replicas draws what each replica draws alone, and a run that was interrupted goes on with equal numbers.
"""

import math

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15 - 2**64  # the odd constant nearest 2^64 / golden ratio, as a signed integer
_MIX = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


def random_bits(seed: Tensor, step: Tensor, count: int) -> Tensor:
    """The bits SplitMix64(SplitMix64(seed + step) + i) for i from 0 to count - 1; int64 (count,).

    Args:
        seed: The seed, int64 ().
        step: The step, int64 ().
        count: How many.

    Source: Steele et al. 2014, doi:10.1145/2660193.2660195, figure 18.
    """
    return split_mix(split_mix(seed + step) + torch.arange(count, device=seed.device))


def uniform(bits: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) of float32, the upper 24 of the 64 bits (...) each, to (...)."""
    return shift_right(bits, 40).float() * 2.0**-24


def normal(bits: Tensor) -> Tensor:
    """Standard normal numbers of float32 from two 64-bit numbers each, (2, ...) to (...).

    Source: Box & Muller 1958, doi:10.1214/aoms/1177706645.
    """
    radius, angle = uniform(bits).unbind()
    return (-2 * torch.log1p(-radius)).sqrt() * torch.cos(2 * math.pi * angle)


def split_mix(z: Tensor) -> Tensor:
    """SplitMix64's output for the counters z (...), 64 bits that look random; int64 (...), which wraps around."""
    z = z * _GAMMA
    z = (z ^ shift_right(z, 30)) * _MIX[0]
    z = (z ^ shift_right(z, 27)) * _MIX[1]
    return z ^ shift_right(z, 31)


def shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 z (...) to (...); torch's own shift would copy the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
