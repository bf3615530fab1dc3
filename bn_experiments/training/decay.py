"""Weight decay: the parameters of a network that it acts on."""

from collections.abc import Iterator
from typing import Any, Literal

from torch import nn

from bn_experiments.norms.slot import norms_of
from bn_experiments.training.replicas import StackedReplicas

Decay = Literal["weights", "all"]


def parameter_groups(network: nn.Module, decay: Decay) -> Iterator[dict[str, Any]]:
    """The groups of parameters that a torch optimizer takes, those without weight decay in a group of their own.

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

    Returns:
        Groups that are made as they are read. The first has the optimizer's own weight decay.

    Source: Wightman 2019, timm, `optim.param_groups_weight_decay`; Karpathy 2022, nanoGPT, `configure_optimizers`.

    >>> layer = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    >>> [[tuple(one.shape) for one in group["params"]] for group in parameter_groups(layer, "weights")]
    [[(2, 3)], [(2,), (2,), (2,)]]
    """
    named = dict(network.named_parameters())
    if decay == "all":
        yield {"params": list(named.values())}
        return
    axes = 3 if isinstance(network, StackedReplicas) else 2
    of_norms = {f"{path}.{name}" for path, norm in norms_of(network).items() for name, _ in norm.named_parameters()}
    weights = [one for name, one in named.items() if one.dim() >= axes and name not in of_norms]
    rest = [one for name, one in named.items() if one.dim() < axes or name in of_norms]
    yield {"params": weights}
    yield {"params": rest, "weight_decay": 0.0}
