"""Example-weighted evaluation: batch norm's statistics in evaluation mode, mixed with those of the example itself."""

from typing import Annotated, Any

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bn_experiments.data.splits import Splits
from bn_experiments.probes.probe import Probe, Reading, networks
from bn_experiments.probes.scoring import SPLITS, logits_on, loss_and_accuracy, scores_by_split
from bn_experiments.training.replicas import Replicas, SeparateReplicas

Weight = Annotated[float, Field(ge=0, le=1)]


def mixed_batch_norm(norm: nn.modules.batchnorm._BatchNorm, x: Tensor, weight: float) -> Tensor:
    """Batch norm in evaluation mode with statistics mixed of the running ones and those of each example.

    y = (x - mu) / sqrt(s - mu^2 + eps) gamma + beta, with mu = (1 - weight) mean + weight m_x and
    s = (1 - weight) (var + mean^2) + weight q_x, where m_x and q_x are the mean of x and of x^2 over the positions of
    the example. The weight 0 is ordinary evaluation, the weight 1 is instance normalization.

    Shapes: x (B, F, ...) to the same shape. Where there are no positions m_x is x.

    Args:
        norm: The batch norm, with running statistics.
        x: What it is given.
        weight: The weight of the example, in [0, 1].

    Source: Summers & Dinneen 2020, arXiv:1906.03548 (inference example weighing); Singh & Shrivastava 2019,
    arXiv:1904.06031 (EvalNorm).
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    positions = tuple(range(2, x.dim()))
    wide = (1, -1, *(1,) * len(positions))  # (1, F, 1, ...)
    mean, var = norm.running_mean.view(wide), norm.running_var.view(wide)
    own, square = (
        (x.mean(positions, keepdim=True), x.square().mean(positions, keepdim=True)) if positions else (x, x**2)
    )
    mu = torch.lerp(mean.expand_as(own), own, weight)
    s = torch.lerp((var + mean**2).expand_as(square), square, weight)
    y = (x - mu) * torch.rsqrt((s - mu**2).clamp(min=0) + norm.eps)
    if norm.affine:
        y = y * norm.weight.view(wide) + norm.bias.view(wide)
    return y


class ExampleWeighted(Probe):
    """Loss and accuracy of every split with statistics of torch's batch norms that the example has a part in.

    The weight of the example is the one of some weights with the least validation loss, for each replica (see
    `mixed_batch_norm`). In a network without such norms, as with `norm=ghost`, it is ordinary evaluation.

    Readings: loss, acc (R, 3), over train, val and test, and weight (R,), NaN without such norms.

    Args:
        weights: The weights that are tried; 0 is ordinary evaluation.
        eval_batch_size: The size of the batches, which changes no number.
    """

    quantities = ("loss", "acc", "weight")

    def __init__(self, *, weights: Annotated[list[Weight], Field(min_length=1)], eval_batch_size: PositiveInt):
        self.weights, self.eval_batch_size = weights, eval_batch_size

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Tries all weights on the validation split, and scores every split with the best one."""
        made = networks(replicas, "eval")
        mixed = SeparateReplicas(made).eval()
        chosen: list[float] = [self.weights[0]] * len(made)
        mixes = False
        for i, network in enumerate(made):
            for norm in network.modules():
                if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_var is not None:
                    norm.register_forward_hook(_mixing(chosen, i))
                    mixes = True
        losses = []
        for weight in self.weights:
            chosen[:] = [weight] * len(made)
            losses.append(loss_and_accuracy(logits_on(splits.val, mixed, self.eval_batch_size), splits.val.labels)[0])
        best = torch.stack(losses).nan_to_num(nan=torch.inf).argmin(0)  # (R,)
        chosen[:] = [self.weights[i] for i in best.tolist()]
        values = scores_by_split(splits, mixed, self.eval_batch_size)
        taken = torch.tensor(chosen) if mixes else torch.full((len(made),), torch.nan)
        return Reading("split", list(SPLITS), {**values, "weight": taken})


def _mixing(chosen: list[float], i: int) -> Any:
    """A hook that puts the mixed norm's output in place of the norm's own, with the weight of replica i."""
    return lambda norm, inputs, _: mixed_batch_norm(norm, inputs[0], chosen[i])
