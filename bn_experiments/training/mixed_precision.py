"""Mixed precision in a stack: what `torch.vmap` needs so that a stack computes in bfloat16 as each replica does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class Float32BatchNorm(TorchFunctionMode):
    """Within it batch norm computes in float32, and gives what it was given the type of.

    Torch's batch norm takes numbers in bfloat16 with parameters and running statistics in float32. Its rule for
    `torch.vmap` makes parameters of the numbers' type, which its kernel refuses ("expected scalar type BFloat16 but
    found Float"). Inside, the kernel computes in float32 either way.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls a function of torch."""
        if func is not F.batch_norm or args[0].dtype not in (torch.bfloat16, torch.float16):
            return func(*args, **(kwargs or {}))
        return func(args[0].float(), *args[1:], **(kwargs or {})).to(args[0].dtype)


@contextmanager
def as_alone(device: str) -> Iterator[None]:
    """Within it a stack can be called in mixed precision, if that is on.

    Weights that were cast are not kept for the next call: under `torch.vmap` each call wraps them anew, so that what
    autocast keeps would never be used, and would grow until the end of an epoch.

    Args:
        device: The type of the device.
    """
    dtype = torch.get_autocast_dtype(device)
    with torch.autocast(device, dtype, cache_enabled=False), Float32BatchNorm():
        yield
