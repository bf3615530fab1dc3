"""An existing network: its norms are replaced by the norm of an arm, and its draws by counted ones."""

import copy
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, cast

import torch
from torch import Tensor, nn

from bn_experiments.copies import refuse_what_cannot_be_copied
from bn_experiments.models.hidden import Dropout
from bn_experiments.norms.slot import EVERY_MODULES, Slot
from bn_experiments.norms.surgery import replace_norms
from bn_experiments.refusal import Refusal
from bn_experiments.seeds import Stream

TORCHS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
PROBABILITIES = {"p", "drop_prob"}  # the attributes that hold it
OPTIONS = {"inplace", "mode", "scale_by_keep"}  # their other attributes


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
        Refusal: The network cannot be copied, or has no norms that can be replaced.
    """

    def __init__(self, network: nn.Module, norm: Slot, input_shape: Sequence[int], replaces: str, channels: int,
                 name: str):  # fmt: skip
        super().__init__()
        self.channels = channels
        tensors = (*network.named_parameters(), *network.named_buffers())
        if lazy := [key for key, one in tensors if nn.parameter.is_lazy(one)]:
            got, allowed = f"{name} leaves the shape of {lazy[0]} to its first batch", "networks with all their weights"
            raise Refusal("model", got, allowed, "write the number of inputs in place of a lazy module")
        refuse_what_cannot_be_copied(network, "model")
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
        logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        if isinstance(logits, Tensor):
            return logits
        got = f"{type(self.network).__name__} returns a {type(output).__name__}"
        remedy = "let its forward return the logits alone, or write a class around it that does"
        raise Refusal("model", got, "logits of the shape (B, C), or an object with an attribute logits", remedy)


def count_draws(network: nn.Module) -> None:
    """Makes torch's dropouts, and stochastic depth as torchvision and timm write it, draw from counters, in place.

    Each keeps its class, its hooks, and the attribute that holds its probability, which a network may change. A module
    that has more than they have, or that does something else than its name says, draws as before.
    """
    for module in list(network.modules()):
        own = vars(module).keys() - EVERY_MODULES
        names = own & PROBABILITIES
        if len(names) != 1 or own - names - OPTIONS or (axes := _axes(module)) is None:
            continue
        (name,) = names
        p = vars(module)[name]
        if isinstance(p, float) and 0 < p < 1 and (type(module) in TORCHS or _drops(module, name, axes)):
            live = {} if name == "p" else {"p": property(attrgetter(name))}
            cast(Any, module).__class__ = type(type(module).__name__, (Dropout, type(module)), live)
            cast(Dropout, module).count(None if axes < 0 else axes, _scales(module))


def _drops(module: nn.Module, name: str, axes: int) -> bool:
    """Whether all that a module does is to drop examples, or the batch, with the probability that an attribute holds.

    It is tried with a probability of 1/4, which tells it from a module that keeps them with that probability.
    """
    if any(module._modules.values()) or {**module._parameters, **module._buffers}:
        return False
    x, tried = torch.ones(100, 8, 3, device="cpu"), copy.deepcopy(module)
    setattr(tried, name, 0.25)
    try:
        with Stream(0, "look").drawn(), torch.device("cpu"):
            evaluated = tried.eval().forward(x[0].clone())
            trained = torch.stack([tried.train().forward(batch.clone()) for batch in x])
    except Exception:  # of a module that takes something else
        return False
    kept = trained != 0  # (100, 8, 3)
    share, together = kept.float().mean(), (kept == kept[:, :1]).all(dim=(1, 2)).float().mean()
    is_drawn = share > 0.5 and (together == 1 if axes == 0 else together < 0.5)
    expected = kept[..., :1] * x / (0.75 if _scales(module) else 1)
    return bool(is_drawn) and torch.equal(evaluated, x[0]) and torch.allclose(trained, expected)


def _scales(module: nn.Module) -> bool:
    return bool(getattr(module, "scale_by_keep", True))


def _axes(module: nn.Module) -> int | None:
    """The number of first axes with draws of their own, -1 for all of them; None for a module that drops nothing."""
    if type(module) is nn.Dropout:
        return -1
    if type(module) in TORCHS:
        return 2
    if type(module).__name__.endswith("DropPath"):
        return 1
    if type(module).__name__ == "StochasticDepth":
        return {"row": 1, "batch": 0}.get(str(getattr(module, "mode", None)))
    return None
