"""Losses: what training minimizes, and what the splits are scored with; one number for each example."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, NamedTuple

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


class Losses(NamedTuple):
    """The losses of a cell, each a function of logits (..., B, C) and labels y (..., B) that gives (..., B).

    Args:
        train: What training minimizes, averaged over a mini-batch: `train/step_loss` and `train/running_loss`.
        score: What `val/loss` and `test/loss` are: the same, without what is there to regularize the training alone.
    """

    train: Loss
    score: Loss

    @classmethod
    def of(cls, loss: Loss) -> "Losses":
        """The losses of a cell that trains with `loss`: the cross-entropy scores without smoothing, as in timm.

        Source: Wightman 2019, timm, `train.py`, whose loss of validation is `nn.CrossEntropyLoss()`.
        """
        if isinstance(loss, partial) and loss.func is cross_entropy:
            return cls(loss, partial(cross_entropy, label_smoothing=0.0))
        return cls(loss, loss)


def cross_entropy(logits: Tensor, y: Tensor, *, label_smoothing: Annotated[float, Field(ge=0, le=1)]) -> Tensor:
    """The cross-entropy of each example in nats, to the labels or to labels that are smoothed.

    loss = -sum_c q_c log softmax(logits)_c with q_c = (1 - label_smoothing) [c = y] + label_smoothing / C.

    Shapes: logits (..., B, C), y (..., B) to (..., B).

    Args:
        logits: The logits.
        y: The labels.
        label_smoothing: The share of the target that is spread evenly over all C classes.

    Source: Szegedy et al. 2016, arXiv:1512.00567, section 7.

    >>> import torch
    >>> cross_entropy(torch.zeros(1, 1, 10), torch.tensor([[3]]), label_smoothing=0.0).exp()
    tensor([[10.]])
    """
    losses = F.cross_entropy(
        logits.flatten(0, -2), y.flatten(), reduction="none", label_smoothing=label_smoothing
    )  # (... B,)
    return losses.view(y.shape)


def mse(logits: Tensor, y: Tensor, *, factor: Annotated[float, Field(gt=0)]) -> Tensor:
    """The squared error of each example's logits against its label as a one-hot vector, summed over the classes.

    loss = factor sum_c (logits_c - [c = y])^2.

    Shapes: logits (..., B, C), y (..., B) to (..., B).

    Args:
        logits: The logits.
        y: The labels.
        factor: What the sum is multiplied by. With 1/2 the gradient is logits - onehot, and the Hessian of the logits
            is the identity; 1/C gives `torch.nn.functional.mse_loss`.

    Source: Cohen et al. 2021, arXiv:2103.00065, whose code has 1/2; Hui & Belkin 2020, arXiv:2006.07322, has 1/C.

    >>> import torch
    >>> mse(torch.tensor([[1.0, 2.0]]), torch.tensor([0]), factor=0.5)
    tensor([2.])
    """
    onehot = F.one_hot(y, logits.shape[-1]).to(logits.dtype)  # (..., B, C)
    return factor * (logits - onehot).square().sum(-1)


def mean_over_batch(loss: Loss, logits: Tensor, y: Tensor) -> Tensor:
    """The mean loss of a mini-batch: logits (R, B, C), y (R, B) to (R,), or (B, C), (B,) to ().

    The cross-entropy of one network is averaged by torch's own kernel, which is one operation in place of two.
    """
    if y.dim() == 1 and isinstance(loss, partial) and loss.func is cross_entropy:
        return F.cross_entropy(logits, y, **loss.keywords)
    return loss(logits, y).mean(-1)
