"""Sites: where the norms of an existing network are, and what forward passes show of each."""

import copy
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bn_experiments.norms.kinds import channel_axis, norms_in, takes_several_axes
from bn_experiments.norms.traces import Functions, Operations, called_from, is_addition, now, users
from bn_experiments.seeds import Stream

EXAMPLES = (13, 11)  # in the batches that are looked at; an axis that is a multiple of both has the examples
LAYERS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
LAYERS += (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NO_EXAMPLES_FIRST = "does not have the examples on the first axis"
CHECKPOINT = str(Path("torch", "utils", "checkpoint.py"))


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
        recomputed: The name of a module that is computed once more in the backward pass, if there is one.
    """

    sites: list[Site] = field(default_factory=list)
    functional: dict[str, str] = field(default_factory=dict)
    spread: dict[str, str] = field(default_factory=dict)
    recomputed: str | None = None


def look(network: nn.Module, input_shape: Sequence[int]) -> Seen:
    """Puts a batch through a copy of a network, in training and in evaluation mode, and looks at its norms.

    The passes take no arithmetic where the network can do it without (on torch's meta device), and change nothing of
    the network or of the state of the random generators.

    Args:
        network: The network.
        input_shape: The shape of one example.
    """
    seen = _seen(network, input_shape)
    holders = Counter(id(one) for module in network.modules() for one in module._parameters.values() if one is not None)
    for site in seen.sites:
        own = [] if site.producer is None else network.get_submodule(site.producer).parameters()
        if any(holders[id(one)] > 1 for one in own):  # a copy on another device is not tied
            site.producer = None
    return seen


def _seen(network: nn.Module, input_shape: Sequence[int]) -> Seen:
    try:
        with Stream(0, "look").drawn():
            batches = [torch.empty(size, *input_shape, device="meta") for size in EXAMPLES]
            return _look(copy.deepcopy(network).to("meta"), *batches)
    except Exception:  # of a network that reads a number off a tensor, or of one that cannot take the input at all
        if any(parameter.is_meta for parameter in network.parameters()):
            network = copy.deepcopy(network).to_empty(device="cpu")
    with Stream(0, "look").drawn(), torch.device("cpu"):
        return _look(copy.deepcopy(network), *(torch.zeros(size, *input_shape) for size in EXAMPLES))


def _look(network: nn.Module, x: Tensor, of_another_size: Tensor) -> Seen:
    with _Watch(network.train()) as watch:
        seen = watch.seen(watch.run(x))
    with _Watch(network.eval()) as evaluated:
        evaluated.run(of_another_size)
    for site in seen.sites:
        own = evaluated.inputs.get(site.name)
        if own is not None and own.shape[0] % len(of_another_size):
            site.problem = site.problem or NO_EXAMPLES_FIRST
    for name in evaluated.norms.keys() - watch.calls.keys():
        problem = "is called in evaluation alone" if name in evaluated.calls else "is not called in a pass"
        seen.sites.append(Site(name, 0, 1, 0, None, problem))
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
        self.made: dict[int, tuple[str, int]] = {}  # names of layers, and versions, by the id of their output
        self.versions: dict[str, int] = {}  # of each norm's first input, which a change in place raises
        self.recomputed: str | None = None
        self.kept: list[Tensor] = []  # so that no id is used again
        self.inside: list[str] = []
        self.operations = Operations(self.inside, self.norms)

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
            with Functions(self.operations), self.operations:
                return self.network(x)

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        name = self.names[id(module)]
        self.inside.append(name)
        if self.recomputed is None and called_from(CHECKPOINT):
            self.recomputed = name
        if inputs and isinstance(inputs[0], Tensor):
            self.kept.append(inputs[0])
            self.readers[id(inputs[0])].append(name)
            if name in self.norms:
                self.inputs.setdefault(name, inputs[0])
                self.versions.setdefault(name, inputs[0]._version)
                self.spans[name].append(now(inputs[0]))
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
            self.spans[name].append(now(output))
        if type(module) in LAYERS:  # what is derived from one may do more than it does
            self.made[id(output)] = name, output._version

    def seen(self, output: Any) -> Seen:
        """What the run showed."""
        nodes = users(output)
        sites = [self._site(name, nodes) for name in self.norms if name in self.calls]
        return Seen(sites, self.operations.functional, self.operations.spread, self.recomputed)

    def _site(self, name: str, nodes: Mapping[Any, Sequence[Any]]) -> Site:
        x, problem = self.inputs.get(name), self.problems.get(name)
        if x is None or problem is not None:
            return Site(name, 0, 1, 0, None, problem or "is given no tensor")
        producer = self._producer(name, x, nodes)
        axis, problem = channel_axis(self.norms[name], x)
        if producer and takes_several_axes(self.norms[name]):  # of them the layer before it tells the channels
            axis = _axis_of(self.network.get_submodule(producer), x)
        is_read = any(not _is_within(name, own) for own in self.readers[id(x)])
        is_added = any(is_addition(node) for node in nodes[self.outputs[name].grad_fn])
        problems = {
            "is called more than once in a pass, so its statistics are of several layers": self.calls[name] > 1,
            NO_EXAMPLES_FIRST: x.shape[0] % EXAMPLES[0] != 0,
            "stands alone on a branch beside a layer, so without it the branch is its input": is_read and is_added,
            "does not have its channels on the first or last axis": axis not in (1, x.dim() - 1),
        }
        problem = problem or next((text for text, holds in problems.items() if holds), None)
        if producer and (is_read or axis != _axis_of(self.network.get_submodule(producer), x)):
            producer = None
        at_end = axis == x.dim() - 1 and x.dim() > 2
        return Site(name, x.shape[axis], -1 if at_end else 1, x.dim() - 2, producer, problem)

    def _producer(self, name: str, x: Tensor, nodes: Mapping[Any, Sequence[Any]]) -> str | None:
        """The layer whose output x, as the layer left it, goes to a norm alone, and whose parameters are used once."""
        producer, version = self.made.get(id(x), (None, 0))
        if producer is None or version != self.versions[name] or x.grad_fn is None or self.calls[producer] > 1:
            return None
        first, last, *_ = self.spans[name]
        if any(not first < node._sequence_nr() <= last for node in nodes[x.grad_fn]):
            return None
        own = {id(one) for one in self.network.get_submodule(producer).parameters()}
        uses = [len(takers) for node, takers in nodes.items() if id(getattr(node, "variable", None)) in own]
        return producer if uses == [1] * len(own) else None


def _axis_of(layer: nn.Module, output: Tensor) -> int:
    """The axis of the channels in the output of a layer."""
    return output.dim() - 1 if isinstance(layer, nn.Linear) else 1


def _is_within(name: str, outer: str) -> bool:
    return not outer or name == outer or name.startswith(f"{outer}.")
