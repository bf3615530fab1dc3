"""Kinds of modules: which modules of an existing network are norms, and where the channels of their input are."""

import re

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

FIRST = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LocalResponseNorm)  # their channels are on axis 1
OF_TORCH = (*FIRST, nn.LayerNorm, nn.RMSNorm)
NAMED_FIRST = re.compile(r"\dd|batch|group|instance", re.IGNORECASE)  # where both axes have the norm's width
IS_NORM = re.compile(r"norm(?!al)|^normalization", re.IGNORECASE)  # in names of classes and operations, not `normal_`


def norms_in(network: nn.Module) -> dict[str, nn.Module]:
    """The norms of an existing network by name: those of torch's classes, and those whose class name says norm.

    A class with such a name is none if it has modules in it, parameters that are more than one number for each
    channel, or the name Normalize, or if it computes a layer's weight. A norm that is part of another one is left out.

    >>> list(norms_in(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))))
    ['1']
    """
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        is_part = any(name.startswith(f"{outer}.") for outer in found) or ".parametrizations." in f".{name}."
        if not is_part and (isinstance(module, OF_TORCH) or _is_named_norm(module)):
            found[name] = module
    return found


def _is_named_norm(module: nn.Module) -> bool:
    kind = type(module).__name__
    per_channel = all(parameter.numel() == max(parameter.shape, default=1) for parameter in module.parameters())
    is_leaf = not any(not isinstance(child, nn.Identity) for child in module.children())
    return IS_NORM.search(kind) is not None and kind != "Normalize" and per_channel and is_leaf


def takes_several_axes(norm: nn.Module) -> bool:
    """Whether a norm is over several axes, as `nn.LayerNorm((channels, height, width))`."""
    shape = getattr(norm, "normalized_shape", ())
    return isinstance(shape, tuple | list | torch.Size) and len(shape) > 1


def channel_axis(norm: nn.Module, x: Tensor) -> tuple[int, str | None]:
    """The axis of a norm's channels in its input, and why it is not known, if so.

    Args:
        norm: The norm.
        x: Its input (B, ...).
    """
    last = x.dim() - 1
    if x.dim() == 2 or isinstance(norm, FIRST):
        return 1, None
    shape = getattr(norm, "normalized_shape", ())
    if takes_several_axes(norm):
        return x.dim() - len(shape), None
    widths = [tensor.numel() for tensor in (*norm.parameters(), *norm.buffers()) if tensor.dim()] or list(shape)
    if not widths:
        return last, "has no width, which would tell its channels from its positions"
    fitting = [axis for axis in (1, last) if x.shape[axis] == max(widths)]
    if (
        len(fitting) == 1
        or (fitting and isinstance(norm, OF_TORCH))
        or (fitting and NAMED_FIRST.search(type(norm).__name__))
    ):
        return fitting[0 if NAMED_FIRST.search(type(norm).__name__) else -1], None
    return last, "may have its channels on axis 1 or last" if fitting else "has another width than its input"
