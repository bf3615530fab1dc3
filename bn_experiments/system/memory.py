"""Memory: a network that does not fit into the machine's memory is refused while it is made."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from bn_experiments.refusal import Refusal

COPIES = 4  # weights, gradients and two running averages of the optimizer
MOST_TENSORS = 10_000  # tensors of weights in one network; more of them take minutes to make


@contextmanager
def refuse_what_does_not_fit(replicas: int, bytes_per_number: int, device: str | None) -> Iterator[None]:
    """A context in which no network can be made that is too large to train.

    Args:
        replicas: The number of replicas that are trained at once.
        bytes_per_number: The bytes that a number takes in the precision of the training.
        device: The kind of device: cpu, cuda or mps. None: one of another machine, of any size.

    Raises:
        Refusal: The network has too many weights, or too many tensors of weights.
    """
    has = _bytes_of(device)
    most = has // (replicas * COPIES * bytes_per_number)
    weights = tensors = 0

    def too_large(what: str) -> Refusal:
        allowed = f"{most:,}, which fill {has / 1e9:,.0f} GB in training"
        got = f"has {what} weights in each of {replicas} replicas"
        return Refusal("model", got, allowed, "make the model smaller, or lower replicas")

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal weights, tensors
        weights += parameter.numel()
        tensors += 1
        if weights > most:
            raise too_large(f"{weights:,} or more")
        if tensors > MOST_TENSORS:
            got = f"has more than {MOST_TENSORS:,} tensors of weights"
            raise Refusal("model", got, f"{MOST_TENSORS:,}", "make the model less deep")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    except (RuntimeError, TypeError) as error:
        if "overflow" not in str(error).lower():
            raise
        raise too_large("too many") from error
    finally:
        hook.remove()


def _bytes_of(device: str | None) -> int:
    if device is None:
        return sys.maxsize
    return torch.cuda.get_device_properties(0).total_memory if device == "cuda" else psutil.virtual_memory().total
