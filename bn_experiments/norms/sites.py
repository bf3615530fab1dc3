"""Sites: where the norms of an existing network are, and what forward passes show of each."""

import copy
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

EXAMPLES = 13  # of the batch that is looked at: a size that no other axis is likely to have
LAYERS = (nn.Linear, _ConvNd)
FIRST = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LocalResponseNorm)  # their channels are on axis 1
OF_TORCH = (*FIRST, nn.LayerNorm, nn.RMSNorm)
NAMED_FIRST = re.compile(r"\dd|batch|group|instance", re.IGNORECASE)  # where both axes have the norm's width
IS_NORM = re.compile(r"norm(?!al)|^normalization", re.IGNORECASE)  # in names of classes and operations, not `normal_`
SPREAD = re.compile(r"::(std|var|std_mean|var_mean|rsqrt)$")  # what a norm that is written out takes


@dataclass
class Site:
    """A norm of a network, and what forward passes showed of it.

    Args:
        name: The name of the norm's module.
        width: The number of its channels.
        axis: The axis of the channels in its input: 1, or -1 where that is the last of more than two.
        positions: The number of the other axes beside the batch: 0 for (B, C).
        producer: The name of the linear or convolutional layer whose output goes to the norm and nowhere else; None if
            there is no such layer.
        problem: Why it cannot be replaced, as a clause; None if it can.
    """

    name: str
    width: int
    axis: int
    positions: int
    producer: str | None
    problem: str | None


@dataclass
class Seen:
    """What forward passes showed of a network.

    Args:
        sites: The network's norms in the order of their first call.
        functional: The names of modules that normalize without a norm of their own, each with the operation.
        spread: The names of modules that take a spread outside a norm, each with the operation.
    """

    sites: list[Site] = field(default_factory=list)
    functional: dict[str, str] = field(default_factory=dict)
    spread: dict[str, str] = field(default_factory=dict)


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


def look(network: nn.Module, input_shape: Sequence[int]) -> Seen:
    """Puts a batch through a copy of a network, in training and in evaluation mode, and looks at its norms.

    The passes take no arithmetic where the network can do it without (on torch's meta device), and change nothing of
    the network or of the state of the random generators.

    Args:
        network: The network.
        input_shape: The shape of one example.
    """
    try:
        return _look(copy.deepcopy(network).to("meta"), torch.empty(EXAMPLES, *input_shape, device="meta"))
    except Exception:  # of a network that reads a number off a tensor, or of one that cannot take the input at all
        if any(parameter.is_meta for parameter in network.parameters()):
            network = copy.deepcopy(network).to_empty(device="cpu")
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        return _look(copy.deepcopy(network), torch.zeros(EXAMPLES, *input_shape))


def _look(network: nn.Module, x: Tensor) -> Seen:
    with _Watch(network.train()) as watch:
        seen = watch.seen(watch.run(x))
    with _Watch(network.eval()) as evaluated:
        evaluated.run(x)
    for name in evaluated.calls.keys() & evaluated.norms.keys() - watch.calls.keys():
        seen.sites.append(Site(name, 0, 1, 0, None, "is called in evaluation alone"))
    seen.functional = {**evaluated.operations.functional, **seen.functional}
    return seen


class _Watch:
    """Hooks on all modules of a network, which note what goes in and out of its norms and layers."""

    def __init__(self, network: nn.Module):
        self.network, self.norms = network, norms_in(network)
        self.names = {id(module): name for name, module in network.named_modules()}
        self.calls: Counter[str] = Counter()
        self.inputs: dict[str, Tensor] = {}  # of each norm's first call
        self.outputs: dict[str, Tensor] = {}
        self.problems: dict[str, str] = {}
        self.spans: defaultdict[str, list[int]] = defaultdict(list)  # of the nodes of gradients that a norm made
        self.readers: defaultdict[int, list[str]] = defaultdict(list)  # names of modules by the id of what they read
        self.made: dict[int, str] = {}  # names of layers by the id of their output
        self.kept: list[Tensor] = []  # so that no id is used again
        self.inside: list[str] = []
        self.operations = _Operations(self)

    def __enter__(self) -> "_Watch":
        self.hooks = [
            hook
            for module in self.network.modules()
            for hook in (
                module.register_forward_pre_hook(self._enter, with_kwargs=True),
                module.register_forward_hook(self._leave),
            )
        ]
        return self

    def __exit__(self, *_: Any) -> None:
        for hook in self.hooks:
            hook.remove()

    def run(self, x: Tensor) -> Any:
        """The network's output for a batch whose gradient is taken, so that all that follows is part of the graph."""
        with torch.enable_grad():
            x = x.requires_grad_().clone()
            with _Functions(self.operations), self.operations:
                return self.network(x)

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        name = self.names[id(module)]
        self.inside.append(name)
        if inputs and isinstance(inputs[0], Tensor):
            self.kept.append(inputs[0])
            self.readers[id(inputs[0])].append(name)
            if name in self.norms:
                self.inputs.setdefault(name, inputs[0])
                self.spans[name].append(_now(inputs[0]))
        if name in self.norms and (named or len(inputs) != 1):
            self.problems[name] = "is given more than one tensor, or by a name"

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        name = self.inside.pop()
        self.calls[name] += 1
        if name in self.norms and not (inputs and isinstance(output, Tensor) and output.shape == inputs[0].shape):
            self.problems.setdefault(name, "gives something else than a tensor of its input's shape")
        if not isinstance(output, Tensor):
            return
        self.kept.append(output)
        if inputs and output is inputs[0]:  # an identity, which reads nothing
            self.readers[id(output)].remove(name)
        if name in self.norms:
            self.outputs.setdefault(name, output)
            self.spans[name].append(_now(output))
        if isinstance(module, LAYERS):
            self.made[id(output)] = name

    def seen(self, output: Any) -> Seen:
        """What the run showed."""
        users, found = _users(output), Seen([], self.operations.functional, self.operations.spread)
        for name in (name for name in self.norms if name in self.calls):
            x, problem = self.inputs.get(name), self.problems.get(name)
            if x is None or problem is not None:
                found.sites.append(Site(name, 0, 1, 0, None, problem or "is given no tensor"))
                continue
            axis, problem = _axis(self.norms[name], x)
            others = any(not _is_within(name, own) for own in self.readers[id(x)])
            adds = any(_is_addition(node) for node in users[self.outputs[name].grad_fn])
            problems = {
                "is called more than once in a pass, so its statistics are of several layers": self.calls[name] > 1,
                "does not have the examples on the first axis": x.shape[0] % EXAMPLES != 0,
                "stands alone on a branch beside a layer, so without it the branch would be its input": others and adds,
                "does not have its channels on the first or last axis": axis not in (1, x.dim() - 1),
            }
            problem = problem or next((text for text, holds in problems.items() if holds), None)
            producer = self.made.get(id(x))
            first, last = self.spans[name][:2]
            goes_elsewhere = any(not first < node._sequence_nr() <= last for node in users[x.grad_fn])
            if producer and (others or goes_elsewhere or self.calls[producer] > 1):
                producer = None
            at_end = axis == x.dim() - 1 and x.dim() > 2
            found.sites.append(Site(name, x.shape[axis], -1 if at_end else 1, x.dim() - 2, producer, problem))
        return found


class _Operations(TorchDispatchMode):
    """Notes each operation of torch that normalizes, or takes a spread, while no norm is at work."""

    def __init__(self, watch: _Watch):
        super().__init__()
        self.watch = watch
        self.functional: dict[str, str] = {}
        self.spread: dict[str, str] = {}

    def note(self, operation: str) -> None:
        """Notes an operation that runs now."""
        if not self.watch.inside or any(name in self.watch.norms for name in self.watch.inside):
            return
        where, name = self.watch.inside[-1], operation.partition("::")[2] or operation
        if IS_NORM.search(name):
            self.functional.setdefault(where, name)
        elif SPREAD.search(operation):
            self.spread.setdefault(where, name)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.note(func.name().partition(".")[0])
        return func(*args, **(kwargs or {}))


class _Functions(TorchFunctionMode):
    """Notes functions that torch makes of other operations before it dispatches them, such as `rms_norm`."""

    def __init__(self, operations: _Operations):
        super().__init__()
        self.operations = operations

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.operations.watch.inside:
            self.operations.note(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


def _now(x: Tensor) -> int:
    """A number between those of the nodes of gradients that were made before and those that are made after it."""
    node = x.view_as(x).grad_fn
    return -1 if node is None else node._sequence_nr()


def _is_within(name: str, outer: str) -> bool:
    return not outer or name == outer or name.startswith(f"{outer}.")


def _axis(norm: nn.Module, x: Tensor) -> tuple[int, str | None]:
    """The axis of a norm's channels in its input x, and why it is not known, if so."""
    last = x.dim() - 1
    if x.dim() == 2 or isinstance(norm, FIRST):
        return 1, None
    shape = getattr(norm, "normalized_shape", ())
    if isinstance(shape, tuple | list | torch.Size) and len(shape) > 1:
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


def _users(output: Any) -> defaultdict[Any, list[Any]]:
    """The nodes of a graph of gradients that take the result of each of its nodes."""
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


def _is_addition(node: Any) -> bool:
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
