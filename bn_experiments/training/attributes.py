"""Plain attributes: the state that modules keep beside their parameters and buffers, such as a count of steps."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

Attributes = dict[str, Any]  # by name, such as hidden.0.norm.steps
VALUES = (bool, int, float, complex, str, type(None))
OF_TORCH = frozenset(vars(nn.Module()))  # what every module has


def attributes(network: nn.Module) -> Attributes:
    """Copies of the attributes of a network's modules that are numbers, texts, tensors, or containers of them.

    >>> attributes(nn.Sequential(nn.Dropout(0.5)))
    {'0.p': 0.5, '0.inplace': False}
    """
    return {name: _copy(value) for name, value in _named(network) if _is_plain(value)}


def restore(network: nn.Module, state: Attributes, device: torch.device | None = None) -> None:
    """Gives the modules of a network the attributes that `attributes` found.

    Args:
        network: The network.
        state: The attributes by name.
        device: The device for their tensors, which move with no module; None: where they are.
    """
    for name, value in state.items():
        path, _, leaf = name.rpartition(".")
        vars(network.get_submodule(path))[leaf] = _copy(value, device)


def with_tensors(network: nn.Module) -> list[str]:
    """The names of the attributes that are a tensor or a container with one."""
    return [name for name, value in _named(network) if _holds_tensor(value)]


def changed(before: Attributes, after: Attributes) -> list[str]:
    """The names of the attributes that differ."""
    return [name for name, value in after.items() if name not in before or not same(before[name], value)]


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, tensors element by element; NaN equals NaN."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.allclose(one, other.to(one), equal_nan=True)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _named(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """The attributes of all modules of a network that torch does not give to every module, by name."""
    for path, module in network.named_modules():
        for name, value in vars(module).items():
            if name not in OF_TORCH:
                yield f"{path}.{name}" if path else name, value


def _holds_tensor(value: Any) -> bool:
    """Whether a value is a tensor or a container with one."""
    if isinstance(value, dict):
        return any(map(_holds_tensor, value.values()))
    return any(map(_holds_tensor, value)) if isinstance(value, list | tuple) else isinstance(value, Tensor)


def _is_plain(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(map(_is_plain, (*value, *value.values())))
    return type(value) in VALUES or (isinstance(value, Tensor) and not isinstance(value, nn.Parameter))


def _copy(value: Any, device: torch.device | None = None) -> Any:
    if isinstance(value, dict):
        return {key: _copy(inner, device) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy(inner, device) for inner in value)
    return value.detach().to(device or value.device, copy=True) if isinstance(value, Tensor) else value
