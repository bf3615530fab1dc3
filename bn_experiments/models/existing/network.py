"""An existing network: its norms are replaced by the norm of an arm, and its draws by counted ones."""

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from bn_experiments.models.hidden import Dropout
from bn_experiments.norms.slot import Slot
from bn_experiments.norms.surgery import replace_module, replace_norms
from bn_experiments.refusal import Refusal
from bn_experiments.seeds import Stream


class Existing(nn.Module):
    """A network that was written without a slot, with the norm of an arm in place of its own norms.

    It is constructed with its own norms, by the same call in every arm, and so draws the same weights. Then its norms
    are replaced (see `norms.surgery`). In every arm, activations do not change their input in place, and dropout and
    stochastic depth draw from counters (see `models.hidden.Dropout`).

    Shapes: x (B, C_in, ...) to logits (B, C). Where the data has one channel and the network takes three, it gets
    three copies.

    Args:
        network: The network with its own norms.
        norm: The slot of the arm.
        input_shape: The shape of one example.
        replaces: The norms that are replaced (see `norms.surgery.replace_norms`).
        channels: The number of channels that the network takes.
        name: What the user calls the network.

    Attributes:
        notes: What arms differ in beside their norms, if anything, in sentences.

    Raises:
        Refusal: The network has no norms that can be replaced.
    """

    def __init__(self, network: nn.Module, norm: Slot, input_shape: Sequence[int], replaces: str, channels: int,
                 name: str):  # fmt: skip
        super().__init__()
        self.channels = channels
        tensors = (*network.named_parameters(), *network.named_buffers())
        if lazy := [key for key, one in tensors if nn.parameter.is_lazy(one)]:
            got, allowed = f"{name} leaves the shape of {lazy[0]} to its first batch", "networks with all their weights"
            raise Refusal("model", got, allowed, "write the number of inputs in place of a lazy module")
        for module in network.modules():
            if getattr(module, "inplace", False) is True:
                cast(Any, module).inplace = False
        count_draws(network)
        self.notes = replace_norms(network, norm, (channels, *input_shape[1:]), replaces, name)
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, C_in, ...) to logits (B, C)."""
        if x.shape[1] == 1:
            x = x.expand(-1, self.channels, *(-1,) * (x.dim() - 2))
        output = self.network(x)
        return output if isinstance(output, Tensor) else output.logits


def count_draws(network: nn.Module) -> None:
    """Replaces torch's dropouts, and stochastic depth as torchvision and timm write it, by counted ones, in place."""
    for module in list(network.modules()):
        p = getattr(module, "drop_prob", getattr(module, "p", None))
        if isinstance(p, float) and 0 < p < 1 and (axes := _axes(module)) is not None:
            scales = getattr(module, "scale_by_keep", True)
            if type(module).__name__.endswith("DropPath") and not _drops_examples(module, p, scales):
                continue
            replace_module(network, module, Dropout(p, None if axes < 0 else axes, scales))


def _drops_examples(module: nn.Module, p: float, scales: bool) -> bool:
    """Whether a module drops whole examples with probability p and scales the rest, as a class of its name does."""
    x, tried = torch.ones(1000, 2, device="cpu"), copy.deepcopy(module)
    with Stream(0, "look").drawn():
        evaluated, trained = tried.eval()(x), tried.train()(x)
    kept = trained[:, 0] != 0
    expected = kept[:, None] * x / (1 - p if scales else 1)
    return torch.equal(evaluated, x) and torch.allclose(trained, expected) and abs(kept.float().mean() - 1 + p) < 0.1


def _axes(module: nn.Module) -> int | None:
    """The number of first axes with draws of their own, -1 for all of them; None for a module that drops nothing."""
    if type(module) is nn.Dropout:
        return -1
    if type(module) in (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d):
        return 2
    if type(module).__name__.endswith("DropPath"):
        return 1
    if type(module).__name__ == "StochasticDepth":
        return {"row": 1, "batch": 0}.get(str(getattr(module, "mode", None)))
    return None
