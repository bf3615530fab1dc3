"""Roles: which weights stand directly before a norm, and which layer is the last one; found by a forward pass."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from bn_experiments.norms.slot import norms_of
from bn_experiments.training.replicas import StackedReplicas

ATTRIBUTE = "parameter_roles"  # of a network whose roles were found; a stack copies it
# what torch calls the operations in a graph, without "Backward0": those that keep or reorder the numbers ...
RESHAPING = ("View", "UnsafeView", "Reshape", "Transpose", "T", "Permute", "Squeeze", "Unsqueeze", "Clone", "Expand")
# ... and those that multiply by weights
PRODUCTS = ("Addmm", "Mm", "Bmm", "Baddbmm", "Convolution", "MkldnnConvolution", "Linear")


class Roles(NamedTuple):
    """The names of parameters that have a role.

    Args:
        before_norm: The weights that stand directly before a norm, whose scale it takes out.
        last_layer: The parameters of the layer that makes the logits.
    """

    before_norm: frozenset[str] = frozenset()
    last_layer: frozenset[str] = frozenset()


def find_roles(network: nn.Module, input_shape: Sequence[int]) -> None:
    """Finds the roles in a copy's forward pass of zeros, in evaluation mode, and notes them on the network.

    A weight stands directly before a norm if it is a parameter with two or more axes that enters a matrix product or a
    convolution whose output, in whatever shape, is what the norm takes: nothing but the layer's own bias is added to
    it, and no activation is between. That is looked up in the graph of the gradient, so it is found for layers that
    are called and for `torch.nn.functional.linear`. Not counted are biases, a weight that a parametrization computes,
    a product that is summed with another one before the norm, and a weight after the norm. Whether the output also
    goes past the norm, as on a skip connection, is not looked at.

    The last layer is the product with weights that comes closest to the logits. Its bias is of it.

    Args:
        network: One network, whose norms are those of `norms_of`.
        input_shape: The shape of an example.
    """
    tried = copy.deepcopy(network).float().eval()
    names = {id(parameter): name for name, parameter in tried.named_parameters()}
    taken: list[Tensor] = []
    for norm in norms_of(tried).values():
        norm.register_forward_pre_hook(lambda _, inputs: taken.extend(inputs[:1]))
    with torch.enable_grad():
        logits = tried(torch.zeros(2, *input_shape))
    before = [_product_before(x.grad_fn) for x in taken]
    weights = [one for product in before if product for one in _parameters(product) if one.dim() >= 2]
    last = next((own for own in map(list, map(_parameters, _nearest(logits.grad_fn))) if own), [])
    found = {"before_norm": weights, "last_layer": last}
    held = {role: sorted({names[id(one)] for one in own if id(one) in names}) for role, own in found.items()}
    setattr(network, ATTRIBUTE, held)


def roles_of(module: nn.Module) -> Roles:
    """The roles of a network, or of the stack of networks, for which they were found; none for others."""
    stacked = isinstance(module, StackedReplicas)
    held: dict[str, list[str]] = getattr(module.network if stacked else module, ATTRIBUTE, {})
    prefix = "network." if stacked else ""
    return Roles(**{role: frozenset(prefix + name for name in names) for role, names in held.items()})


def _kind(node: Any) -> str:
    return str(node.name()).rstrip("0123456789").removesuffix("Backward")


def _through_shapes(node: Node | None) -> Node | None:
    """The node whose numbers a node passes on, as they are or in another shape."""
    while node is not None and _kind(node) in RESHAPING:
        node = node.next_functions[0][0]
    return node


def _product_before(node: Node | None) -> Node | None:
    """The product whose output a node passes on, as it is or in another shape."""
    found = _through_shapes(node)
    return found if found is not None and _kind(found) in PRODUCTS else None


def _parameters(product: Node) -> Iterator[Tensor]:
    """The parameters that enter a product, as they are or in another shape."""
    for node, _ in product.next_functions:
        if (parameter := getattr(_through_shapes(node), "variable", None)) is not None:
            yield parameter


def _nearest(node: Node | None) -> Iterator[Node]:
    """The products on the way back from a node, the nearest first."""
    waiting, seen = [node], {node}
    while waiting:
        one = waiting.pop(0)
        if one is None:
            continue
        if _kind(one) in PRODUCTS:
            yield one
        new = [other for other, _ in one.next_functions if other not in seen]
        seen.update(new)
        waiting += new
