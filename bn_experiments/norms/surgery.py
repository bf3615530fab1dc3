"""Surgery: the norms of an existing network are replaced by the norm of an arm, and nothing else of it changes."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from types import ModuleType
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bn_experiments.norms.kinds import norms_in
from bn_experiments.norms.places import Copy, Place, Shift
from bn_experiments.norms.remarks import effective_scale, remarks, scale_of, shift_of
from bn_experiments.norms.sites import Seen, Site, look
from bn_experiments.norms.slot import EVERY_MODULES, Slot, activates, mark
from bn_experiments.refusal import Refusal, one_line

PLAIN = (str, bytes, int, float, complex, torch.Tensor, type, ModuleType, type(None))  # in which no module is held
PARTS = ("drop", "act")  # what timm's norms do beside normalizing
OWN_ACTIVATION = ("evonorm", "filterresponse", "frn")  # in the names of norms that are their layer's activation too


def replace_norms(network: nn.Module, norm: Slot, input_shape: Sequence[int], replaces: str, name: str) -> list[str]:
    """Replaces the norms of a network by those of an arm, in place.

    Every other parameter and buffer stays as it is. Where a norm with a shift is removed and the arm has no norm, a
    shift of zeros stays. With `norm.bias=auto` a layer whose output goes only to a site with a shift loses its bias.
    A parametrization goes on the layers whose outputs went to the norms.

    Args:
        network: The network with its own norms.
        norm: The slot of the arm; one that keeps the network's norms marks them, and nothing is refused.
        input_shape: The shape of one example.
        replaces: The norms that are replaced: all, batch, layer, or a pattern of their names such as `layer1.*`.
        name: What the user calls the network, for refusals.

    Returns:
        What the arms differ in beside their norms, if anything, in sentences.

    Raises:
        Refusal: The network has no norm that can be replaced, or normalizes in another way too.
    """
    for module in network.modules():
        if isinstance(module, nn.TransformerEncoderLayer):  # whose pass in evaluation mode goes around its norms
            cast(Any, module).activation_relu_or_gelu = 0
    norms = norms_in(network)
    if norm.keeps:
        for each in norms.values():
            mark(each)
        return []
    if norm.placement != "pre":
        got = f"{name} has its norms where they are"
        raise Refusal("norm.placement", got, "pre", "set norm.placement=pre", value=norm.placement)
    seen = _look(network, input_shape, name)
    chosen = _replaceable(seen, norms, network, replaces, name)
    pairs = []
    for site in chosen:
        removed = norms[site.name]
        new = _place(network, norm, site, removed)
        replace_module(network, removed, new)
        pairs.append((removed, new.norm if isinstance(new, Place) else new))
    return remarks(norm, pairs, seen.spread, sum(site.producer is None for site in chosen))


def replace_module(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts a module in the place of another one, under each of the names that it has."""
    for owner in list(network.modules()):
        for name, child in list(owner._modules.items()):
            if child is old:
                owner._modules[name] = new


def _replaceable(
    seen: Seen, norms: Mapping[str, nn.Module], network: nn.Module, replaces: str, name: str
) -> list[Site]:
    """The sites of the norms that are replaced, in a network in which all normalizing is done by norms."""
    allowed = "a network whose norms are modules, each called once, such as a torchvision resnet"
    remedy = "choose another one, or norm=kept alone"
    if seen.functional:
        where, operation = next(iter(seen.functional.items()))
        got = f"normalizes in {where or 'its forward'} without a norm module ({operation}), which no arm replaces"
        raise Refusal("model", f"{name} {got}", allowed, remedy)
    if seen.recomputed is not None:
        got = f"{name} computes {seen.recomputed or 'itself'} once more in the backward pass (torch.utils.checkpoint)"
        raise Refusal("model", got, "a network that does not, where norms and dropout keep a state", "switch it off")
    if not seen.sites:
        raise Refusal("model", f"{name} has no norm", allowed, remedy)
    held, remedy = _held_elsewhere(network), "choose another one, leave it out by model.replaces, or norm=kept alone"
    chosen = _chosen(seen.sites, norms, replaces, name)
    for site in chosen:
        norm = network.get_submodule(site.name)
        extra = [
            child for child, module in norm.named_children() if child not in PARTS and type(module) is not nn.Identity
        ]
        does_more = extra or norm._forward_hooks or any(callable(one) for one in map(vars(norm).get, PARTS))
        problem = site.problem or ("does more than to normalize" if does_more else None)
        problem = problem or ("is held in a list or another plain attribute too" if id(norm) in held else None)
        if problem:
            raise Refusal("model", f"the norm {site.name} of {name} {problem}", allowed, remedy)
    return chosen


def _held_elsewhere(network: nn.Module) -> set[int]:
    """The ids of the modules that modules hold in plain attributes, however deep in containers, objects or closures."""
    waiting = [value for module in network.modules() for key, value in vars(module).items() if key not in EVERY_MODULES]
    found, seen = set[int](), set[int]()
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, PLAIN):
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            found.add(id(value))
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += value
        else:
            for cell in getattr(value, "__closure__", None) or ():
                with suppress(ValueError):  # one that is not filled yet
                    waiting.append(cell.cell_contents)
            waiting += [getattr(value, name, None) for name in ("__self__", "func", "args", "keywords", "__defaults__")]
            waiting += getattr(value, "__dict__", {}).values()
    return found


def _look(network: nn.Module, input_shape: Sequence[int], name: str) -> Seen:
    try:
        return look(network, input_shape)
    except Exception as error:
        got = f"{name} cannot take examples of shape {'x'.join(map(str, input_shape))} ({one_line(error)})"
        allowed, remedy = "a network for such examples", "choose another network, or data of another size"
        raise Refusal("model", got, allowed, remedy) from error


def _chosen(sites: Sequence[Site], norms: Mapping[str, nn.Module], replaces: str, name: str) -> list[Site]:
    """The sites of the norms that are replaced, at least one."""
    chosen = [site for site in sites if _is_chosen(site.name, norms[site.name], replaces)]
    if not chosen:
        kinds = ", ".join(dict.fromkeys(type(norms[site.name]).__name__ for site in sites))
        got = f"is none of the {len(sites)} norms of {name} ({kinds}; the first is {sites[0].name})"
        allowed = "all, batch, layer, or a pattern of names such as layer1.*"
        raise Refusal("model.replaces", got, allowed, "change it", value=replaces)
    return chosen


def _is_chosen(name: str, norm: nn.Module, replaces: str) -> bool:
    kind = type(norm).__name__.lower()
    if replaces == "batch":
        return isinstance(norm, _BatchNorm) or "batchnorm" in kind
    if replaces == "layer":
        return isinstance(norm, nn.LayerNorm) or "layernorm" in kind
    return replaces == "all" or fnmatchcase(name, replaces)


def _place(network: nn.Module, norm: Slot, site: Site, removed: nn.Module) -> nn.Module:
    """What stands in the place of a removed norm."""
    if any(own in type(removed).__name__.lower() for own in OWN_ACTIVATION):
        got = f"{site.name} is a {type(removed).__name__}, which is the activation of its layer too"
        raise Refusal("model", got, "norms that only normalize", "leave it out by model.replaces")
    producer = None if site.producer is None else network.get_submodule(site.producer)
    made = _made(norm, site, producer)
    if made is None:
        made = Copy() if shift_of(removed) is None else Shift(site.width)
    elif norm.scale_init == "kept":
        _keep_scale(made, removed)
    if producer is not None and norm.bias == "auto" and getattr(made, "bias", None) is not None:
        producer.register_parameter("bias", None)
    parts = [getattr(removed, part, None) for part in PARTS]
    drop, act = (part if isinstance(part, nn.Module) else nn.Identity() for part in parts)
    is_plain = site.axis == 1 and isinstance(drop, nn.Identity) and isinstance(act, nn.Identity)
    return made if is_plain else Place(made, site.axis == -1, drop, act)


def _made(norm: Slot, site: Site, producer: nn.Module | None) -> nn.Module | None:
    """The arm's norm for a site; None if the arm has none there, or a parametrization of the producer."""
    if norm.target is None:
        return None
    if norm.width_argument == "module":
        return None if producer is None else norm.fill(producer)
    kind = "conv" if site.axis == 1 and site.positions else "linear"
    made = norm.make(site.width, max(site.positions, 1)) if norm.layers in ("all", kind) else None
    if activates(made):
        got, allowed = "has an activation of its own, and the network keeps its activations", "a norm without one"
        raise Refusal("norm._target_", got, allowed, "choose another norm or model", value=norm.target, no_place=True)
    return made


def _keep_scale(made: nn.Module, removed: nn.Module) -> None:
    old, new = effective_scale(removed), scale_of(made)
    if old is not None and new is not None and old.shape == new.shape:
        with torch.no_grad():
            new.copy_(old)
