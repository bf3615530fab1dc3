"""Scoring: the logits, losses and accuracies of all replicas on the splits of the data, in one mode or the other."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from bn_experiments.data.batches import BatchSize, size_of
from bn_experiments.data.examples import Examples
from bn_experiments.data.splits import Splits
from bn_experiments.system import interruption
from bn_experiments.training.attributes import settle
from bn_experiments.training.replicas import Replicas

MODES = ("eval", "train")  # evaluation first: training mode moves the running statistics
SPLITS = ("train", "val", "test")


def logits_on(examples: Examples, replicas: Replicas, batch_size: BatchSize) -> Tensor:
    """The logits of all examples, in their order.

    Args:
        examples: N examples.
        replicas: R replicas, in the mode that they are to be scored in.
        batch_size: B. The last batch may be smaller, but has two examples at least, which batch statistics need: a
            single one that is left over joins the batch before it.

    Returns:
        Logits (R, N, C).

    Raises:
        Interrupted: The process was asked to end.
    """
    size = size_of(batch_size, len(examples))
    ends = [*range(0, len(examples), size), len(examples)]
    if len(ends) > 2 and len(examples) % size == 1:
        del ends[-2]
    logits = []
    with torch.set_grad_enabled(replicas.training):  # by which some norms know the mode
        for a, b in pairwise(ends):
            interruption.check()
            logits.append(replicas(examples.slice(a, b)[0]).detach())
            settle(replicas)
    return torch.cat(logits, dim=1)


def loss_and_accuracy(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy in nats, and share of right answers.

    Shapes: logits (R, N, C), y (N,), (1, N) or (R, N) to (R,) and (R,).

    >>> loss_and_accuracy(torch.tensor([[[0.0, 0.0], [9.0, 0.0]]]), torch.tensor([1, 0]))[1]
    tensor([0.5000])
    """
    labels = y.expand(logits.shape[:-1])  # (R, N)
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)  # (R, N)
    return losses.double().mean(1).float(), (logits.argmax(-1) == labels).float().mean(1)


def scores_by_split(splits: Splits, replicas: Replicas, batch_size: BatchSize) -> dict[str, Tensor]:
    """The loss and the accuracy of every split, over all of its examples (see `loss_and_accuracy`).

    Args:
        splits: The data.
        replicas: R replicas, in the mode that they are to be scored in.
        batch_size: The size of the batches (see `logits_on`).

    Returns:
        loss (R, 3) and acc (R, 3), over train, val and test, on the CPU.
    """
    parts = [getattr(splits, split) for split in SPLITS]
    scores = [loss_and_accuracy(logits_on(part, replicas, batch_size), part.labels) for part in parts]
    loss, acc = (torch.stack(by_split, dim=1).cpu() for by_split in zip(*scores, strict=True))
    return {"loss": loss, "acc": acc}
