"""Traces of a forward pass: the operations that normalize outside norms, and the graph of gradients that it leaves."""

import re
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bn_experiments.norms.kinds import IS_NORM

SPREAD = re.compile(
    r"::(std|var|std_mean|var_mean|rsqrt|sqrt|linalg_vector_norm)$"
)  # what a norm that is written out takes


class Operations(TorchDispatchMode):
    """Notes each operation of torch that normalizes, or takes a spread, while no norm is at work.

    Args:
        inside: The names of the modules that were called and have not returned, which changes as they are called.
        norms: The names of the norms.

    Attributes:
        functional: The first operation that normalizes in each module, by the module's name.
        spread: The first operation that takes a spread in each module, by the module's name.
    """

    def __init__(self, inside: list[str], norms: Collection[str]):
        super().__init__()
        self.inside, self.norms = inside, norms
        self.functional: dict[str, str] = {}
        self.spread: dict[str, str] = {}

    def note(self, operation: str) -> None:
        """Notes an operation that runs now."""
        if not self.inside or any(name in self.norms for name in self.inside):
            return
        where, name = self.inside[-1], operation.partition("::")[2] or operation
        if IS_NORM.search(name):
            self.functional.setdefault(where, name)
        elif SPREAD.search(operation):
            self.spread.setdefault(where, name)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.note(func.name().partition(".")[0])
        return func(*args, **(kwargs or {}))


class Functions(TorchFunctionMode):
    """Notes functions that torch makes of other operations before it dispatches them, such as `rms_norm`.

    Args:
        operations: What notes them.
    """

    def __init__(self, operations: Operations):
        super().__init__()
        self.operations = operations

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations.note(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


def called_from(file: str) -> bool:
    """Whether a function of a file whose path ends like this is among those that are being called."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.endswith(file):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def now(x: Tensor) -> int:
    """A number between those of the nodes of gradients that were made before the call and those made after it.

    Args:
        x: A tensor that is part of the graph.
    """
    node = x.view_as(x).grad_fn
    return -1 if node is None else node._sequence_nr()


def users(output: Any) -> defaultdict[Any, list[Any]]:
    """The nodes of a graph of gradients that take the result of each of its nodes.

    Args:
        output: The output of a network, whose tensors are the ends of the graph.
    """
    waiting = [tensor.grad_fn for tensor in _tensors(output)]
    seen, found = set(waiting), defaultdict(list)
    while waiting:
        node = waiting.pop()
        for below, _ in getattr(node, "next_functions", ()):
            if below is not None:
                found[below].append(node)
            if below is not None and below not in seen:
                seen.add(below)
                waiting.append(below)
    return found


def is_addition(node: Any) -> bool:
    """Whether a node of a graph of gradients is that of a sum of two tensors."""
    return type(node).__name__.startswith("AddBackward")


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)
