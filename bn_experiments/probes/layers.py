"""Layers: the linear and convolutional maps of a network in the order in which a signal passes them."""

import torch
from torch import Tensor, nn

from bn_experiments.refusal import Refusal

MAPS = (nn.Linear, nn.modules.conv._ConvNd)


def outputs_of_layers(network: nn.Module, x: Tensor) -> list[Tensor]:
    """The output of each linear or convolutional layer (B, F, ...), in the order of their calls, before any norm.

    Gradients can be taken with respect to them, where gradients are on.

    Args:
        network: The network, in the mode that it is to be measured in.
        x: A batch (B, ...).
    """
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        found.append(output)
        return output.clone()  # which an activation may change in place

    hooks = [module.register_forward_hook(keep) for module in network.modules() if isinstance(module, MAPS)]
    try:
        network(x.clone())
    finally:
        for hook in hooks:
            hook.remove()
    return found


def weights_of_layers(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weight (out, in, ...) of each linear or convolutional layer, by the layer's name.

    Of a layer whose weight a parametrization computes it is the parameter with the most elements, the one that gives
    the direction. A weight that layers share is that of the first of them; a frozen one is left out.

    >>> [*weights_of_layers(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)))]
    ['0', '2']
    """
    found: dict[str, nn.Parameter] = {}
    for name, layer in network.named_modules():
        own = [one for one in layer.parameters() if one.requires_grad] if isinstance(layer, MAPS) else []
        if own:
            weight = max(reversed(own), key=lambda one: (one.dim() > 1, one.numel()))  # a direction after its length
            if all(weight is not other for other in found.values()):
                found[name] = weight
    return found


def refusals_without_layers(network: nn.Module, probe: str) -> list[Refusal]:
    """The refusal of a network that has no weight of a layer to look at, if it has none."""
    if weights_of_layers(network):
        return []
    got, allowed = "the network has no linear or convolutional layer that is trained", "a network with one"
    return [Refusal(f"probes.{probe}", got, allowed, f"leave {probe} out of probes=[...]")]


def numbered(count: int) -> list[str]:
    """The labels of so many layers: their numbers, from 1."""
    return [str(i + 1) for i in range(count)]


def slope(values: Tensor) -> Tensor:
    """The least-squares slope against 0..P-1.

    Shapes: values (..., P), P >= 2, to (...).

    >>> slope(torch.tensor([1.0, 3.0, 5.0]))
    tensor(2.)
    """
    k = torch.arange(values.shape[-1], dtype=values.dtype, device=values.device)
    k = k - k.mean()
    return (values * k).sum(-1) / k.square().sum()
