"""Residual branches: the place of their norm, what scales them, and how they start without a norm."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bn_experiments.norms.slot import Slot
from bn_experiments.refusal import Refusal

Scaling = Literal["none", "skipinit", "rezero", "layer_scale"]
ScaleStart = Literal["inverse_sqrt_branches"] | float
Layer = nn.Linear | nn.Conv1d | nn.Conv2d


class BranchScale(nn.Module):
    r"""Multiplies a branch by a learned number alpha, or each of its features by a learned number of its own.

    y = alpha x, or y_F = alpha_F x_F.

    Shapes: x (B, F, ...) to (B, F, ...).

    Args:
        size: The number F of features with a number each. None: one number for all.
        start: The number that alpha starts at.

    Source: One number: De & Smith 2020, arXiv:2002.10444 (SkipInit); Bachlechner et al. 2020, arXiv:2003.04887
    (ReZero). One for each feature: Touvron et al. 2021, arXiv:2103.17239, section 2 (LayerScale).
    """

    def __init__(self, size: int | None, start: float):
        super().__init__()
        self.start = start
        self.weight = nn.Parameter(torch.full(() if size is None else (size,), start))

    def reset_parameters(self) -> None:
        """Sets alpha to its start value."""
        nn.init.constant_(self.weight, self.start)

    def forward(self, x: Tensor) -> Tensor:
        """Scales x (B, F, ...) to (B, F, ...)."""
        alpha = self.weight
        return x * (alpha.view(-1, *(1,) * (x.dim() - 2)) if alpha.dim() else alpha)


class FixedScale(nn.Module):
    """Multiplies a branch by a number that is not learned.

    Args:
        number: The number.
    """

    def __init__(self, number: float):
        super().__init__()
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        """Scales x, of any shape."""
        return x * self.number


def start_of(start: ScaleStart, branches: int) -> float:
    """The number that scales start at, 1 / sqrt(L) of L branches for inverse_sqrt_branches."""
    return 1 / math.sqrt(branches) if start == "inverse_sqrt_branches" else float(start)


def scale_of(scaling: Scaling | Literal["fixup", "nf"], start: ScaleStart, size: int, branches: int) -> nn.Module:
    """What scales a branch at its end, before the addition.

    Args:
        scaling: The kind: one number (skipinit, rezero, fixup), one for each feature (layer_scale), one that is not
            learned (nf), or none.
        start: What the numbers of skipinit and layer_scale start at, and that of nf is (see `start_of`). Those of
            rezero start at 0 and those of fixup at 1, by their definition.
        size: The number of features of the branch.
        branches: The number L of residual branches in the network.
    """
    if scaling == "none":
        return nn.Identity()
    if scaling in ("rezero", "fixup"):
        return BranchScale(None, float(scaling == "fixup"))
    number = start_of(start, branches)
    if scaling == "nf":
        return FixedScale(number)
    return BranchScale(size if scaling == "layer_scale" else None, number)


class Fixup(nn.Module):
    r"""The start of a residual network without norms, in which the depth does not change the size of a step.

    The last layer of each branch and the classifier start at zero; the m - 1 layers before the last one start at what
    they were drawn as, times L^(-1 / (2 m - 2)), in L branches of m layers; all biases start at zero. A network holds
    it as its last child, so that its `reset_parameters` is called after those of the layers. The source adds a
    learned number before each layer and each activation; here the layers keep their biases in their place.

    Args:
        branches: The layers of each branch, in the order of the forward pass.
        classifier: The linear map to the classes.

    Raises:
        Refusal: A layer's weight is parametrized, as by weight normalization: a weight of zero has no direction.

    Source: Zhang et al. 2019, arXiv:1901.09321, section 3, rules 1 to 3.
    """

    def __init__(self, branches: Sequence[Sequence[Layer]], classifier: nn.Linear):
        super().__init__()
        self.branches = tuple(tuple(layers) for layers in branches)  # no children: the layers have owners
        self.classifier = (classifier,)
        if any(parametrize.is_parametrized(layer) for layers in branches for layer in layers):
            got, allowed = "starts layers at zero, where a parametrized weight has no direction", "another norm"
            raise Refusal("model.branch_scale=fixup", got, allowed, "choose norm=none")
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Scales and zeroes the weights that the layers were just drawn with."""
        for *inner, last in self.branches:
            for layer in inner:
                layer.weight.mul_(len(self.branches) ** (-1 / (2 * len(inner))))  # m - 1 inner layers
            last.weight.zero_()
        self.classifier[0].weight.zero_()
        for layers in (*self.branches, self.classifier):
            for layer in layers:
                if layer.bias is not None:
                    layer.bias.zero_()


def entrance(norm: Slot, layer: nn.Module, activation: nn.Module) -> nn.Sequential:
    """The activation of a pre-activation branch with its norm, before it (pre) or after it (post).

    Args:
        norm: The slot.
        layer: The layer whose features the norm has; an addition lies between the two, so the layer keeps its bias.
        activation: The activation.

    Raises:
        Refusal: The norm cannot be made (see `Slot.make`).
    """
    parts: list[tuple[str, nn.Module]] = [("activation", activation)]
    made = norm.fill(layer)
    if made is not None:
        parts.insert(0 if norm.placement == "pre" else 1, ("norm", made))
    return nn.Sequential(OrderedDict(parts))


def norm_after(norm: Slot, layer: nn.Module) -> nn.Module | None:
    """The norm that reads what a layer puts out, whether or not the slot places norms before activations.

    The layer loses its bias where `norm.bias=auto` and the norm has a shift.

    Returns:
        The norm; None if the layer gets none, or a parametrization.

    Raises:
        Refusal: The norm cannot be made (see `Slot.make`).
    """
    made = norm.fill(layer)
    if norm.bias == "auto" and getattr(made, "bias", None) is not None:
        layer.register_parameter("bias", None)
    return made


def followed(norm: Slot, layer: nn.Module) -> nn.Sequential:
    """A layer and the norm that reads what it puts out, if there is one (see `norm_after`)."""
    parts = nn.Sequential(OrderedDict(layer=layer))
    made = norm_after(norm, layer)
    if made is not None:
        parts.add_module("norm", made)
    return parts
