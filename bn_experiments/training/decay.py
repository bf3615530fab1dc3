"""Weight decay, and rates and decays of their own for kinds of parameters: the groups that an optimizer takes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import NonNegativeFloat
from torch import nn

from bn_experiments.norms.slot import norms_of
from bn_experiments.training.replicas import StackedReplicas
from bn_experiments.training.roles import roles_of

Decay = Literal["weights", "all"]
Settings = Mapping[str, float | None]  # lr and weight_decay; None: the optimizer's own


@dataclass(frozen=True)
class Groups:
    """The kinds of parameters that may have settings of their own.

    Args:
        scale_invariant: The settings of the weights that stand directly before a norm (see `roles`).
        norms: The settings of the parameters of norms.
    """

    scale_invariant: dict[str, float | None]
    norms: dict[str, float | None]


@dataclass(frozen=True)
class GroupSettings:
    """The settings of one kind of parameters; None: the optimizer's own."""

    lr: NonNegativeFloat | None
    weight_decay: NonNegativeFloat | None


def set_ones(groups: Mapping[str, Settings]) -> dict[str, dict[str, float]]:
    """The settings that are set, by kind.

    >>> set_ones({"norms": {"lr": 0.01, "weight_decay": None}, "scale_invariant": {"lr": None}})
    {'norms': {'lr': 0.01}}
    """
    found = {kind: {key: value for key, value in own.items() if value is not None} for kind, own in groups.items()}
    return {kind: own for kind, own in found.items() if own}


def parameter_groups(network: nn.Module, decay: Decay, groups: Mapping[str, Settings]) -> Iterator[dict[str, Any]]:
    """The groups of parameters that a torch optimizer takes, by what is set for each parameter.

    `weights` are the parameters with two or more axes that belong to no norm: the matrices and kernels of linear,
    convolutional and recurrent layers. Norms' scales and shifts and all biases stay free, since decay of a scale is
    no limit on the function of the layers before it, but a pull of the norm towards zero.

    A layer with weight normalization has a length g (out, 1, ...) and a direction v (out, in, ...) as parameters, and
    both decay. Since g = ||w||, decay of g is what the decay of w is without the norm. Decay of v changes no function;
    it keeps ||v||, which every step lengthens, from lowering the effective learning rate, as the decay of a weight
    before batch norm does.

    Args:
        network: A network, or a stack of R replicas, whose parameters (R, ...) have one axis more.
        decay: The parameters that decay: `weights`, or `all`, which is torch's own rule.
        groups: The settings by kind of parameters (see `Groups`), which come before those of the optimizer and `decay`.

    Returns:
        Groups that are made as they are read. The first has the optimizer's own learning rate and weight decay; one
        with settings of a kind has its name as `kind`.

    Source: Wightman 2019, timm, `optim.param_groups_weight_decay`; Karpathy 2022, nanoGPT, `configure_optimizers`.

    >>> layer = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    >>> [[tuple(one.shape) for one in group["params"]] for group in parameter_groups(layer, "weights", {})]
    [[(2, 3)], [(2,), (2,), (2,)]]
    """
    named, own = dict(network.named_parameters()), set_ones(groups)
    axes = 3 if isinstance(network, StackedReplicas) else 2
    of_norms = {f"{path}.{name}" for path, norm in norms_of(network).items() for name, _ in norm.named_parameters()}
    before_norms = roles_of(network).before_norm
    free = {} if decay == "all" else {"weight_decay": 0.0}
    made: dict[tuple[Any, ...], dict[str, Any]] = {}
    for first in ({}, free):
        made.setdefault((*first.items(),), {"params": [], **first})
    for name, parameter in named.items():
        kind = "norms" if name in of_norms else "scale_invariant" if name in before_norms else ""
        decays = parameter.dim() >= axes and name not in of_norms
        settings: dict[str, Any] = {**({} if decays else free), **own.get(kind, {})}
        if kind in own:
            settings["kind"] = kind
        made.setdefault((*sorted(settings.items()),), {"params": [], **settings})["params"].append(parameter)
    yield from made.values()
