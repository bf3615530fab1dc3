"""Plain attributes: the state that modules keep beside their parameters and buffers, such as a count of steps."""

import random
from collections import deque
from collections.abc import Callable, Collection, Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bn_experiments.norms.slot import EVERY_MODULES

Attributes = dict[str, Any]  # by name, such as hidden.0.norm.steps
VALUES = (bool, int, float, complex, str, type(None))
OF_OPTIMIZERS = ("state", "param_groups")  # which a checkpoint holds
GENERATORS: dict[type, Callable[[Any], Any]] = {  # of random numbers, and the function that gives the state of each
    torch.Generator: lambda one: one.get_state().tolist(),
    random.Random: lambda one: one.getstate(),
    np.random.Generator: lambda one: one.bit_generator.state,
    np.random.BitGenerator: lambda one: one.state,
    np.random.RandomState: lambda one: one.get_state(legacy=False),
}


class Unseen:
    """A state that cannot be seen, as that of an iterator; it equals no other one, nor itself later."""


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


def memories(owner: Any) -> Attributes:
    """All that a network or an optimizer may remember beside what torch keeps for it.

    These are the numbers, texts and tensors below its attributes, at any depth of containers and of objects of any
    class, also those that `attributes` does not find and a checkpoint does not hold; of functions, the names; of
    generators of random numbers, the state as bytes; of iterators, `Unseen`.

    >>> memories(nn.Sequential(nn.Dropout(0.5)))
    {'0.p': 0.5, '0.inplace': False}
    """
    named = _named(owner) if isinstance(owner, nn.Module) else vars(owner).items()
    own = {name: value for name, value in named if name not in OF_OPTIMIZERS}
    return {
        f"{name}[{i}]" if i else name: leaf
        for name, value in own.items()
        for i, leaf in enumerate(_leaves(value, set()))
    }


def _leaves(value: Any, seen: set[int]) -> Iterator[Any]:
    if isinstance(value, np.ndarray | np.generic):
        yield value.tolist()
    elif isinstance(value, (*VALUES, Tensor)):
        yield value
    elif isinstance(value, tuple(GENERATORS)):
        state = next(state for kind, state in GENERATORS.items() if isinstance(value, kind))
        yield repr(list(_leaves(state(value), set()))).encode()
    elif isinstance(value, FunctionType | BuiltinFunctionType):
        yield value.__qualname__
    elif id(value) not in seen and not isinstance(value, nn.Module | type | ModuleType):
        seen.add(id(value))
        inner = value if isinstance(value, list | tuple | set | deque | dict) else _held(value)
        if inner is None:
            yield Unseen()
            return
        for one in inner.values() if isinstance(inner, dict) else inner:
            yield from _leaves(one, seen)


def _held(value: Any) -> Any:
    """What an object holds in its attributes and slots; None of an iterator that does not show where it is."""
    state = object.__getstate__(value)
    if state is None and hasattr(type(value), "__next__"):
        return None
    own, slots = state if isinstance(state, tuple) else (state, {})
    return {**(own or {}), **slots}


def settle(network: nn.Module) -> None:
    """Lets go of the gradients of the tensors in buffers and plain attributes, as the end of a training step does."""
    for module in network.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.requires_grad:
                module._buffers[name] = buffer.detach()
        settle_attributes(module, ())


def settle_attributes(module: nn.Module, held: Collection[int]) -> None:
    """Lets go of the gradients of the tensors in the plain attributes of one module.

    Args:
        module: The module, which is changed in place.
        held: The memory (see `memory`) that is about to be overwritten, from which attributes get copies.
    """
    attributes = vars(module)
    for name in attributes.keys() - EVERY_MODULES:
        if _holds_tensor(attributes[name]):
            attributes[name] = _settled(attributes[name], held)


def apart(tensor: Tensor, held: Collection[int]) -> Tensor:
    """A tensor without its gradients; a copy where it lies in held memory (see `settle_attributes`)."""
    return tensor.detach().clone() if held and memory(tensor) in held else tensor.detach()


def memory(tensor: Tensor) -> int:
    """The address of a tensor's memory, which is that of all its views."""
    return tensor.untyped_storage().data_ptr()


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
            if name not in EVERY_MODULES:
                yield f"{path}.{name}" if path else name, value


def _holds_tensor(value: Any) -> bool:
    """Whether a value is a tensor or a container with one."""
    if isinstance(value, dict):
        return any(map(_holds_tensor, value.values()))
    return any(map(_holds_tensor, value)) if isinstance(value, list | tuple) else isinstance(value, Tensor)


def _settled(value: Any, held: Collection[int]) -> Any:
    """A tensor apart from gradients and held memory, or a container of such tensors, changed in place if it can be."""
    if isinstance(value, Tensor):
        return apart(value, held) if value.requires_grad or (held and memory(value) in held) else value
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            value[key] = _settled(inner, held)
    return tuple(_settled(inner, held) for inner in value) if type(value) is tuple else value


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
