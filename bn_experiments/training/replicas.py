"""Replicas: R networks of one architecture with different seeds, which are trained at once."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state


class StackedReplicas(nn.Module):
    """R networks as one module, in which every parameter and buffer has a leading axis R.

    A forward pass is one `torch.vmap` over that axis, so R small networks cost little more than one. Replicas never
    interact: the sum of the losses over R gives each replica its own gradient. An optimizer that acts element by
    element trains the stack as it would train each network alone.

    Args:
        networks: The R networks of one architecture.
    """

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.size = len(networks)
        self.network = copy.deepcopy(networks[0])
        parameters, buffers = stack_module_state(list(networks))
        _set_tensors(self.network, {**parameters, **buffers})
        self._tensors: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (R, B, ...), one batch for each replica, to logits (R, B, C)."""
        return self._map(x, x_dim=0)

    def forward_shared(self, x: Tensor) -> Tensor:
        """Maps x (B, ...), the same batch for all replicas, to logits (R, B, C)."""
        return self._map(x, x_dim=None)

    def _map(self, x: Tensor, x_dim: int | None) -> Tensor:
        if self._tensors is None:
            self._tensors = dict(self.network.named_parameters()), dict(self.network.named_buffers())
        mapped = torch.vmap(self._call, in_dims=(0, 0, x_dim), randomness="different")
        return mapped(*self._tensors, x)

    def _call(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self.network, (parameters, buffers), (x,))

    def _apply(self, *args: Any, **kwargs: Any) -> "StackedReplicas":
        self._tensors = None  # a move to another device or dtype makes new tensors
        return super()._apply(*args, **kwargs)

    def replica(self, i: int) -> nn.Module:
        """The replica `i` as a plain network, with copies of its weights and buffers."""
        network = copy.deepcopy(self.network)
        tensors = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        _set_tensors(network, {name: tensor[i].detach().clone() for name, tensor in tensors.items()})
        return network

    def parts(self) -> list[tuple[nn.Module, slice | int]]:
        """The modules that are trained separately, each with its replicas: here one module with all replicas."""
        return [(self, slice(None))]


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
        """Maps x (R, B, ...), one batch for each replica, to logits (R, B, C)."""
        return torch.stack([network(batch) for network, batch in zip(self.networks, x, strict=True)])

    def forward_shared(self, x: Tensor) -> Tensor:
        """Maps x (B, ...), the same batch for all replicas, to logits (R, B, C)."""
        return torch.stack([network(x) for network in self.networks])

    def replica(self, i: int) -> nn.Module:
        """The replica `i` as a plain network, with copies of its weights and buffers."""
        return copy.deepcopy(self.networks[i])

    def parts(self) -> list[tuple[nn.Module, slice | int]]:
        """The modules that are trained separately, each with its replicas: here one module for each replica."""
        return [(network, i) for i, network in enumerate(self.networks)]


Replicas = StackedReplicas | SeparateReplicas


def clip_gradients(part: nn.Module, max_norm: float) -> None:
    """Scales the gradient g of each replica in place, g min(1, max_norm / ||g||).

    ||g|| is the 2-norm over all parameters of the replica.

    Args:
        part: A stack of replicas with gradients (R, ...), or one network with gradients (...).
        max_norm: The largest 2-norm, above 0.
    """
    if not isinstance(part, StackedReplicas):
        nn.utils.clip_grad_norm_(part.parameters(), max_norm)
        return
    gradients = [p.grad for p in part.parameters() if p.grad is not None]
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)  # (R,)
    factors = (max_norm / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *(1,) * (gradient.dim() - 1)))


def _set_tensors(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Replaces the parameters and buffers of the network by the tensors with their names."""
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        owner = network.get_submodule(path)
        new = nn.Parameter(tensor, requires_grad=tensor.is_floating_point()) if leaf in owner._parameters else tensor
        setattr(owner, leaf, new)
