"""Dropout whose mask is a function of (seed, layer, step), so that replicas and arms can share it."""

import torch
from torch import Tensor, nn

_GAMMA = 0x9E3779B97F4A7C15 - 2**64  # the odd constant nearest 2^64 / golden ratio, as a signed integer
_MIX = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


class Dropout(nn.Module):
    r"""Zeroes each element with probability `p` in training mode and scales the rest by 1 / (1 - p).

    Element i of step t is kept where SplitMix64(SplitMix64(seed + t) + i) is at least p 2^64. With no generator's
    state, a stack of replicas draws what each of them would draw alone, both arms of a comparison drop the
    same units, and a run that was cut short goes on with the same masks. The step is counted in training
    mode and saved with the network.

    Shapes: (B, ...) to the same.

    Args:
        p: Probability of zeroing, in [0, 1).

    Source: Srivastava et al. 2014; SplitMix64: Steele et al. 2014, doi:10.1145/2660193.2660195, figure 18.
    """

    seed: Tensor
    step: Tensor

    def __init__(self, p: float):
        super().__init__()
        self.p = p
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def reset_parameters(self) -> None:
        """Draws the layer's seed from the global generator, and starts at step 0."""
        self.seed.random_()
        self.step.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) to the same."""
        if not self.training:
            return x
        self.step += 1
        element = torch.arange(x.numel(), device=x.device).view(x.shape)
        bits = _split_mix(_split_mix(self.seed + self.step) + element)
        kept = _shift_right(bits, 11) >= round(self.p * 2**53)
        return x * kept * (1 / (1 - self.p))

    def extra_repr(self) -> str:
        """As torch's dropout."""
        return f"p={self.p}"


def _split_mix(z: Tensor) -> Tensor:
    """SplitMix64's output for counter `z`: 64 bits that look random; int64 to int64, it wraps around."""
    z = z * _GAMMA
    z = (z ^ _shift_right(z, 30)) * _MIX[0]
    z = (z ^ _shift_right(z, 27)) * _MIX[1]
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's int64 would copy the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
