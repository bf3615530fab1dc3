"""A snapshot: what a training step may change, so that an attempt at one leaves no trace."""

from typing import Any

import torch
from torch import Tensor, nn

Owner = nn.Module | torch.optim.Optimizer
PLAIN = (int, float, complex, str, bytes)  # are compared by their values; all else by what it is


class Snapshot:
    """The state of modules and optimizers at one moment.

    It holds copies of all tensors, and the entries of all attributes, dictionaries and lists, at any depth, with the
    state of torch's generator on the CPU. What objects of other classes hold is not part of it.

    Args:
        owners: The modules and optimizers.
    """

    def __init__(self, *owners: Owner):
        self.tensors: list[tuple[Tensor, Tensor]] = []
        self.entries: list[tuple[str, Any, Any]] = []  # the name of a dictionary or list, it, and what is in it
        self.generator = torch.get_rng_state()
        seen: set[int] = set()
        waiting: list[tuple[str, Any]] = [("", owner) for owner in owners]
        while waiting:
            name, value = waiting.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, Tensor):
                self.tensors.append((value, value.detach().clone()))
            elif isinstance(value, Owner):
                waiting.append((name, vars(value)))
            elif isinstance(value, dict | list | tuple):
                items = value.items() if isinstance(value, dict) else enumerate(value)
                waiting += [(key if isinstance(key, str) else name, item) for key, item in items]
                if not isinstance(value, tuple):
                    self.entries.append((name, value, value.copy()))

    def replaced(self) -> list[str]:
        """The names of attributes and keys with another object or number; a tensor with other values is no other."""
        names = [(name, key) for name, value, entries in self.entries for key in _differing(value, entries)]
        return sorted({key if isinstance(key, str) else name for name, key in names})

    def put_back(self) -> None:
        """Makes all that changed what it was, in place."""
        for _, value, entries in self.entries:
            if _differing(value, entries):
                value.clear()
                value.extend(entries) if isinstance(value, list) else value.update(entries)
        with torch.no_grad():
            for tensor, copy in self.tensors:
                if not torch.equal(tensor, copy):
                    tensor.copy_(copy)
        torch.set_rng_state(self.generator)


def _differing(value: Any, entries: Any) -> list[Any]:
    """The keys of a dictionary, or indices of a list, at which it is no longer what it was."""
    now, before = (each if isinstance(each, dict) else dict(enumerate(each)) for each in (value, entries))
    absent = object()
    return [key for key in {**now, **before} if not _is_same(now.get(key, absent), before.get(key, absent))]


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (isinstance(one, PLAIN) and isinstance(other, PLAIN) and one == other)
