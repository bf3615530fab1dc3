"""The slot: the place in a network where a norm goes. The config alone decides which norm it is."""

import inspect
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from bn_experiments.imports import imported
from bn_experiments.refusal import Refusal, one_line
from bn_experiments.seeds import Stream

KEPT = f"{__name__}.kept"
EVERY_MODULES = frozenset(vars(nn.Module()))  # the attributes that torch gives to every module
LAYERS = {"conv": (nn.Conv1d, nn.Conv2d), "linear": (nn.Linear,), "all": (nn.Conv1d, nn.Conv2d, nn.Linear)}


class Slot:
    """The place for the norm of an arm at each hidden layer of a network.

    The norm is a class or a parametrization. A class takes a width, and its modules map (B, F), (B, F, L) or
    (B, F, H, W) to the same shape. A parametrization is a function that takes a layer as `module` and changes its
    weight (`torch.nn.utils.parametrizations`). The width or the layer goes to the first argument that the options do
    not set.

    Args:
        target: The import path of the class or function. `{dim}` in it stands for the number of spatial axes, which
            is 1 after linear layers. None: no norm.
        placement: The place of the norm, before (pre) or after (post) the activation.
        bias: auto removes the bias of a layer whose output goes to a norm with a shift of its own; keep keeps it.
        scale_init: The start value of the norm's scale: ones, uniform in (0, 1), a number, or kept, which is that of
            the norm that was replaced, in an existing network.
        layers: The layers that get the norm.
        **options: The arguments of the class or function.
    """

    def __init__(
        self,
        target: str | None,
        *,
        placement: Literal["pre", "post"] = "pre",
        bias: Literal["auto", "keep"] = "auto",
        scale_init: Literal["ones", "uniform", "kept"] | float = "ones",
        layers: Literal["all", "conv", "linear"],
        **options: Any,
    ):
        self.target = target
        self.placement = placement
        self.bias = bias
        self.scale_init = scale_init
        self.layers = layers
        self.options = options
        self.made = 0

    def import_target(self, dim: int) -> Callable[..., nn.Module]:
        """The class or function that the target names for `dim` spatial axes.

        Raises:
            Refusal: The target cannot be imported.
        """
        path = str(self.target).replace("{dim}", str(dim))
        return imported(path, "norm._target_", "the dotted path of an installed class")

    @property
    def keeps(self) -> bool:
        """Whether an existing network keeps the norms that it has."""
        return self.target == KEPT

    @cached_property
    def width_argument(self) -> str:
        """The name of the argument that takes the width; `module`, which takes the layer, for a parametrization.

        Raises:
            Refusal: The target cannot be imported, or has no argument for the width.
        """
        target = self.import_target(dim=1)
        for name, parameter in inspect.signature(target).parameters.items():
            if name not in self.options and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                return name
        allowed = "a class whose first argument is the number of features"
        remedy = "leave that argument out of the config"
        raise Refusal("norm._target_", "no argument is left for the width", allowed, remedy, value=self.target)

    def fill(self, layer: nn.Module) -> nn.Module | None:
        """Fills the slot of a layer.

        Args:
            layer: The layer, on which a parametrization is put in place.

        Returns:
            The norm for the features that the layer puts out; None if the layer gets none, or a parametrization.

        Raises:
            Refusal: The norm cannot be made (see `make`), or has an activation of its own, for which `around` has to
                leave out the network's.
        """
        norm = self._fill(layer)
        if activates(norm):
            got = "has an activation of its own, and this network places its activations itself"
            allowed, remedy = "a norm without one", "choose another norm or model"
            raise Refusal("norm._target_", got, allowed, remedy, value=self.target, no_place=True)
        return norm

    def _fill(self, layer: nn.Module) -> nn.Module | None:
        if self.target is None or not isinstance(layer, LAYERS[self.layers]):
            return None
        if self.width_argument == "module":
            with self._drawn():
                self.import_target(dim=1)(module=layer, **self.options)
            return None
        weight = layer.weight  # (out, in), or (out, in, kernel ...)
        return self.make(len(weight), dim=max(weight.dim() - 2, 1))

    def make(self, width: int, dim: int) -> nn.Module:
        """A norm for `width` features with `dim` spatial axes.

        Raises:
            Refusal: The target cannot be imported, or the class does not take the width or an option.
        """
        groups = self.options.get("num_groups")
        if isinstance(groups, int) and groups >= 1 and width % groups:
            allowed = ", ".join(str(g) for g in range(1, width + 1) if width % g == 0)
            got = f"does not divide the {width} features of a layer"
            raise Refusal("norm.num_groups", got, allowed, "choose one, or change the width", value=groups)
        try:
            with self._drawn():
                return mark(registered(self.import_target(dim)(**{self.width_argument: width}, **self.options)))
        except Refusal:
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            got = f"refuses {width} features with {self.options} ({one_line(error)})"
            allowed, remedy = "what its documentation says", "change its options or the width"
            raise Refusal("norm._target_", got, allowed, remedy, value=self.target) from error

    def _drawn(self) -> AbstractContextManager[None]:
        """A random stream for a norm that draws as it is made: what is made after it draws the same in every arm."""
        self.made += 1
        return Stream(torch.initial_seed(), "norm", self.made).drawn()

    def around(self, layer: nn.Module, activation: nn.Module) -> nn.Sequential:
        """One hidden layer: `layer`, norm, activation (pre), or `layer`, activation, norm (post).

        The children have the names layer, norm and activation in any order. So a layer has the same name in every
        arm, and the name seeds its initial weights. Where the norm has an activation of its own, the child activation
        is the identity.

        Raises:
            Refusal: The norm cannot be made (see `make`), or has an activation of its own and is placed after another.
        """
        norm = self._fill(layer)
        if activates(norm):
            if self.placement != "pre":
                got = "says that an activation comes first, but the norm has its own"
                raise Refusal("norm.placement", got, "pre", "set norm.placement=pre", value=self.placement)
            activation = nn.Identity()
        parts: list[tuple[str, nn.Module]] = [("layer", layer), ("activation", activation)]
        if norm is not None:
            parts.insert(1 if self.placement == "pre" else 2, ("norm", norm))
            if self.placement == "pre" and self.bias == "auto" and getattr(norm, "bias", None) is not None:
                layer.register_parameter("bias", None)
        return nn.Sequential(OrderedDict(parts))


def activates(norm: nn.Module | None) -> bool:
    """Whether a norm has an activation of its own, as its class says with `activates = True`."""
    return bool(getattr(norm, "activates", False))


def registered(module: nn.Module) -> nn.Module:
    """A module whose plain attributes that hold tensors become buffers, and whose buffers all go into checkpoints.

    A class that writes `self.mean = torch.zeros(width)` means a state, which then moves to a device with the module,
    has an axis of its own in a stack of replicas, and goes on after an interruption.

    Args:
        module: The module, which is changed in place with all modules in it.
    """
    for each in module.modules():
        for name, value in list(vars(each).items()):
            if isinstance(value, Tensor):
                delattr(each, name)
                each.register_buffer(name, value)
        each._non_persistent_buffers_set.clear()
    return module


def kept(num_features: int) -> nn.Module:
    """Stands for the norms that an existing network has; no other network has norms to keep.

    Raises:
        Refusal: Always.
    """
    got = "the model has no norms of its own to keep"
    allowed, remedy = "kept with model=torchvision, timm or own", "choose another norm"
    raise Refusal("norm", got, allowed, remedy, value="kept", no_place=True)


def mark(norm: nn.Module) -> nn.Module:
    """Marks a module as a norm, so that `norms_of` finds it."""
    cast(Any, norm).is_norm = True
    return norm


def norms_of(network: nn.Module) -> dict[str, nn.Module]:
    """The norms of a network by name, in the order of its modules: those that a slot made, or that it kept."""
    return {name: module for name, module in network.named_modules() if getattr(module, "is_norm", False)}
