"""Replicas: R seeds of one network, trained at once."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state


class StackedReplicas(nn.Module):
    """R networks as one, every parameter and buffer with a leading axis R.

    A forward pass is one `torch.vmap` over that axis, so R small networks cost little more than one.
    Replicas never interact: a loss summed over R gives each its own gradient, and optimizers that act
    element by element train the stack as they would train each network alone.

    Args:
        networks: R networks of one architecture.
    """

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.size = len(networks)
        self.network = copy.deepcopy(networks[0])
        parameters, buffers = stack_module_state(list(networks))
        _set_tensors(self.network, {**parameters, **buffers})
        self._tensors: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """X (R, B, ...), a batch for each replica, to logits (R, B, C)."""
        return self._map(x, x_dim=0)

    def forward_shared(self, x: Tensor) -> Tensor:
        """X (B, ...), the same batch for all, to logits (R, B, C)."""
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
        """Replica `i` as an ordinary network, with copies of its weights and buffers."""
        network = copy.deepcopy(self.network)
        tensors = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        _set_tensors(network, {name: tensor[i].detach().clone() for name, tensor in tensors.items()})
        return network

    def parts(self) -> list[tuple[nn.Module, slice | int]]:
        """What is trained apart from one another, and which replicas it is: here all at once."""
        return [(self, slice(None))]


class SeparateReplicas(nn.Module):
    """R networks side by side, behind the interface of `StackedReplicas`.

    For a single replica, which pays nothing for the axis R, and for networks whose work is too large
    to gain from stacking.

    Args:
        networks: R networks of one architecture.
    """

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.size = len(networks)
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """X (R, B, ...), a batch for each replica, to logits (R, B, C)."""
        return torch.stack([network(batch) for network, batch in zip(self.networks, x, strict=True)])

    def forward_shared(self, x: Tensor) -> Tensor:
        """X (B, ...), the same batch for all, to logits (R, B, C)."""
        return torch.stack([network(x) for network in self.networks])

    def replica(self, i: int) -> nn.Module:
        """Replica `i` as an ordinary network, with copies of its weights and buffers."""
        return copy.deepcopy(self.networks[i])

    def parts(self) -> list[tuple[nn.Module, slice | int]]:
        """What is trained apart from one another, and which replicas it is: here one each."""
        return [(network, i) for i, network in enumerate(self.networks)]


Replicas = StackedReplicas | SeparateReplicas


def clip_gradients(part: nn.Module, max_norm: float) -> None:
    """Scales each replica's gradient to at most `max_norm` in the 2-norm over all its parameters.

    Args:
        part: A stack of replicas, or one network.
        max_norm: Above 0.
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
    """Puts `tensors` in the places of the network's parameters and buffers of those names."""
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        owner = network.get_submodule(path)
        if leaf in owner._parameters:
            owner.register_parameter(leaf, nn.Parameter(tensor, requires_grad=tensor.is_floating_point()))
        else:
            owner.register_buffer(leaf, tensor, persistent=leaf not in owner._non_persistent_buffers_set)
