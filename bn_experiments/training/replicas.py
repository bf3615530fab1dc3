"""Replicas: R networks of one architecture with different seeds, which are trained at once."""

import copy
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bn_experiments.training.attributes import apart, memory
from bn_experiments.training.mixed_precision import as_alone


class Unstackable(RuntimeError):
    """Raised where `torch.vmap` refuses what a network does, as where it reads a number off a tensor."""


def refuse_what_vmap_refuses(error: RuntimeError) -> None:
    """Raises `Unstackable` where an error is of `torch.vmap`, also of a tensor that was kept beyond a forward pass."""
    if re.search("vmap|[Bb]atching rule|BatchedTensor|functorch", str(error)):
        raise Unstackable(str(error)) from error


class StackedReplicas(nn.Module):
    """R networks as one module, in which every parameter and buffer has a leading axis R.

    A forward pass is one `torch.vmap` over that axis, so R small networks cost little more than one. Replicas never
    interact: the sum of the losses over R gives each replica its own gradient. A buffer to which a module assigns a new
    tensor, as in `self.mean = 0.9 * self.mean + 0.1 * x.mean(0)`, keeps what was assigned.

    Args:
        networks: The R networks of one architecture.
    """

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.size = len(networks)
        self.network = copy.deepcopy(networks[0])
        tensors = [_tensors(network) for network in networks]
        _replace(self.network, lambda name, _: torch.stack([own[name].detach() for own in tensors]))
        self._tensors: dict[str, Tensor] | None = None

    @classmethod
    def _around(cls, network: nn.Module, size: int) -> "StackedReplicas":
        """The stack of so many replicas whose parameters and buffers a network holds."""
        stack = cls.__new__(cls)
        nn.Module.__init__(stack)
        stack.size, stack.network, stack._tensors = size, network, None
        return stack

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (R, B, ...), a batch for each replica, or (1, B, ...), one for all of them, to logits (R, B, C)."""
        if self._tensors is None:
            self._tensors = _tensors(self.network)
        shared = len(x) == 1 < self.size
        mapped = torch.vmap(self._call, in_dims=(0, None if shared else 0), randomness="different")
        kind = x.device.type
        try:
            with as_alone(kind) if kind != "meta" and torch.is_autocast_enabled(kind) else nullcontext():
                logits, assigned = mapped(self._tensors, x[0] if shared else x)
        except RuntimeError as error:
            refuse_what_vmap_refuses(error)
            raise
        if assigned:
            with torch.no_grad():
                self._keep(assigned)
        return logits

    def _call(self, tensors: dict[str, Tensor], x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits of one replica, and the tensors that its modules assigned to their buffers."""
        held = dict(tensors)  # which functional_call fills with what is there after the call
        logits = functional_call(self.network, held, (x,), tie_weights=False)
        return logits, {name: tensor for name, tensor in held.items() if tensor is not tensors[name]}

    def _keep(self, assigned: dict[str, Tensor]) -> None:
        """Stores what was assigned, (R, ...) each, in a buffer's own memory where it fits, as a captured step needs."""
        assert self._tensors is not None
        held = {memory(tensor) for tensor in self._tensors.values()}
        assigned = {name: apart(new, held) for name, new in assigned.items()}  # one may be another buffer
        fits = [name for name, new in assigned.items() if fit(new, self._tensors[name])]
        for name in fits:
            self._tensors[name].copy_(assigned[name])
        if len(fits) < len(assigned):
            _replace(self.network, lambda name, old: assigned[name] if name in assigned.keys() - fits else old)
            self._tensors = None

    def _apply(self, *args: Any, **kwargs: Any) -> "StackedReplicas":
        self._tensors = None  # a move to another device or dtype makes new tensors
        return super()._apply(*args, **kwargs)

    def replica(self, i: int) -> nn.Module:
        """The replica `i` as a plain network, with copies of its weights and buffers."""
        network = copy.deepcopy(self.network)
        _replace(network, lambda _, tensor: tensor[i].detach().clone())
        return network

    def view(self, replicas: int | slice) -> nn.Module:
        """Replicas whose parameters and buffers are parts of the stack's own memory.

        Args:
            replicas: One of them, which becomes a plain network, or some that follow on each other, which become a
                stack.
        """
        network = copy.deepcopy(self.network)
        tensors = _tensors(self.network)
        _replace(network, lambda name, _: tensors[name].detach()[replicas])
        if isinstance(replicas, int):
            return network
        return StackedReplicas._around(network, len(range(self.size)[replicas]))

    @property
    def content(self) -> nn.Module:
        """The module with the modules of the networks; a plain attribute of it is every replica's."""
        return self.network

    def parts(self, shares: Sequence[range] | None = None) -> list["Part"]:
        """What is trained separately: here one module with all replicas (see `Part`).

        Args:
            shares: The replicas that share an optimizer; None: all of them do.
        """
        if shares is None or (len(shares) == 1 < self.size):
            return [Part(self, slice(None), [self], [slice(0, self.size)])]
        places = [share[0] if len(share) == 1 else slice(share.start, share.stop) for share in shares]
        return [Part(self, slice(None), [*map(self.view, places)], places)]


class SeparateReplicas(nn.Module):
    """R networks one after the other, with the interface of `StackedReplicas`.

    This class is for a single replica, which then has no cost for the axis R, and for networks that are too large to
    become faster in a stack.

    Args:
        networks: The R networks of one architecture.
    """

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.size = len(networks)
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (R, B, ...), a batch for each replica, or (1, B, ...), one for all of them, to logits (R, B, C)."""
        shared = len(x) == 1 < self.size
        batches = (x[0].clone() for _ in self.networks) if shared else x  # a network may change its input in place
        return torch.stack([network(batch) for network, batch in zip(self.networks, batches, strict=True)])

    def replica(self, i: int) -> nn.Module:
        """The replica `i` as a plain network, with copies of its weights and buffers."""
        return copy.deepcopy(self.networks[i])

    @property
    def content(self) -> nn.Module:
        """The module with the modules of the networks."""
        return self.networks

    def parts(self, shares: Sequence[range] | None = None) -> list["Part"]:
        """What is trained separately: here one module for each replica, which shares its optimizer with no other."""
        return [Part(network, i, [network], [i]) for i, network in enumerate(self.networks)]


Replicas = StackedReplicas | SeparateReplicas


class Part(NamedTuple):
    """A module that is trained on its own.

    Args:
        module: A stack of replicas, or one network.
        replicas: Which replicas it holds.
        networks: What gets an optimizer each: the module itself or, where some replicas of a stack do not share an
            optimizer with the others, each share of them, in the memory of the stack.
        places: Which of all replicas each of `networks` holds.
    """

    module: nn.Module
    replicas: slice | int
    networks: Sequence[nn.Module]
    places: Sequence[slice | int]

    @classmethod
    def of(cls, network: nn.Module) -> "Part":
        """One network as a part."""
        return cls(network, 0, [network], [0])

    def shares_memory(self) -> bool:
        """Whether each share of a stack still lies in its memory, out of which an optimizer may put a parameter."""
        if self.networks[0] is self.module:
            return True
        return all(
            own.data_ptr() == stacked[place].data_ptr()
            for place, network in zip(self.places, self.networks, strict=True)
            for own, stacked in zip(network.parameters(), self.module.parameters(), strict=True)
        )

    def hand_out_gradients(self) -> None:
        """Gives each share of a stack its part of the gradients, where shares have optimizers of their own."""
        if self.networks[0] is self.module:
            return
        for place, network in zip(self.places, self.networks, strict=True):
            for own, stacked in zip(network.parameters(), self.module.parameters(), strict=True):
                own.grad = None if stacked.grad is None else stacked.grad[place]


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers by name. One that several modules share has a name in each of them."""
    return {
        f"{path}.{leaf}" if path else leaf: tensor
        for path, module in network.named_modules()
        for leaf, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None
    }


def fit(new: Tensor, old: Tensor) -> bool:
    """Whether a tensor can be copied into the memory of another without a change of its values."""
    return new.shape == old.shape and new.dtype == old.dtype


def _replace(network: nn.Module, change: Callable[[str, Tensor], Tensor]) -> None:
    """Replaces each parameter and buffer by what `change` makes of its name and of itself; what is shared stays so."""
    changed: dict[int, Tensor] = {}
    for name, tensor in _tensors(network).items():
        path, _, leaf = name.rpartition(".")
        owner = network.get_submodule(path)
        if id(tensor) not in changed:
            new = change(name, tensor)
            if isinstance(tensor, nn.Parameter) and new is not tensor:
                new = nn.Parameter(new, requires_grad=tensor.requires_grad)
            changed[id(tensor)] = new
        own: dict[str, Any] = owner._parameters if leaf in owner._parameters else owner._buffers
        own[leaf] = changed[id(tensor)]
