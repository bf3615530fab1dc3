"""Steps: the training of one part of the replicas, mini-batch by mini-batch, eagerly or as a CUDA graph."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bn_experiments.data.batches import mini_batches
from bn_experiments.data.splits import Examples
from bn_experiments.training.replicas import clip_gradients

Work = Callable[[], None]


class Steps:
    """Training steps: in each the gradient of the mean cross-entropy, its clipping, and the update of the optimizer.

    Args:
        part: A stack of replicas, which maps (R, B, ...) to logits (R, B, C), or one network, (B, ...) to (B, C).
        optimizer: The optimizer of its parameters.
        gradient_clip_norm: The largest 2-norm of each replica's gradient. None: no clipping.
    """

    def __init__(self, part: nn.Module, optimizer: torch.optim.Optimizer, gradient_clip_norm: float | None):
        self.part = part
        self.optimizer = optimizer
        self.gradient_clip_norm = gradient_clip_norm
        self.parameters = list(part.parameters())

    def __call__(self, examples: Examples, index: Tensor) -> Tensor:
        """Takes a step for each mini-batch.

        The loss is mean_b (log sum_c exp logits_bc - logits_b[y_b]).

        Args:
            examples: The examples from which the mini-batches are taken.
            index: The indices (K, R, B) of their examples, or (K, B) for one network.

        Returns:
            The losses (K, R) in nats, each before its step, or (K,) for one network.
        """
        losses = []
        for x, y in mini_batches(examples, index):
            for parameter in self.parameters:
                parameter.grad = None
            logits = self.part(x)
            loss = F.cross_entropy(logits, y) if y.dim() == 1 else cross_entropy(logits, y).mean(1)
            loss.backward(torch.ones_like(loss))  # replicas do not interact: each gets the gradient of its own loss
            if self.gradient_clip_norm is not None:
                clip_gradients(self.part, self.gradient_clip_norm)
            self.optimizer.step()
            if torch.is_autocast_enabled(x.device.type):
                torch.clear_autocast_cache()  # it holds the weights before the step
            losses.append(loss.detach())
        return torch.stack(losses)


def cuda_graph(function: Work) -> Work:
    """A function that repeats the work of `function` on the device."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


class CapturedSteps:
    """Steps captured as a CUDA graph: one launch for each step in place of one for each kernel.

    The graph holds the whole step: it reads the position of the mini-batch from the device, takes the mini-batch,
    trains on it, stores the loss and increments the position. The first steps on mini-batches of one size are eager,
    because they create the state of the optimizer. A graph holds the learning rate as a constant, so a new rate needs
    a new graph.

    Args:
        steps: The steps of one part of the replicas.
        capture: The function that captures another one (see `cuda_graph`).
    """

    EAGER = 3  # number of eager steps before a capture

    def __init__(self, steps: Steps, capture: Callable[[Work], Work] = cuda_graph):
        self.steps = steps
        self.capture = capture
        self.rates: list[float] = []
        self.graphs: dict[torch.Size, Callable[[Tensor], Tensor]] = {}

    def __call__(self, examples: Examples, index: Tensor) -> Tensor:
        """Takes a step for each mini-batch, with the shapes of `Steps`.

        For each size of mini-batches, K is at most that of the first call with this size.
        """
        rates = [float(group["lr"]) for group in self.steps.optimizer.param_groups]
        if rates != self.rates:
            self.rates = rates
            self.graphs.clear()
        size = index.shape[1:]
        if size in self.graphs:
            return self.graphs[size](index)
        losses = self.steps(examples, index[: self.EAGER])
        if len(index) <= self.EAGER:
            return losses
        self.graphs[size] = captured_step(self.steps, examples, index, losses, self.capture)
        return torch.cat([losses, self.graphs[size](index[self.EAGER :])])


def captured_step(
    steps: Steps, examples: Examples, index: Tensor, like: Tensor, capture: Callable[[Work], Work]
) -> Callable[[Tensor], Tensor]:
    """A captured step with the memory that it reads and writes.

    Args:
        steps: The steps of one part of the replicas.
        examples: The examples from which the mini-batches are taken.
        index: The indices (K, ...) of K mini-batches. K is the largest number in a replay, (...) the size of all.
        like: The losses (k, R), or (k,) for one network, of k >= 1 eager steps, whose shape and dtype the graph takes.
        capture: The function that captures another one (see `cuda_graph`).

    Returns:
        A function that takes a step for each mini-batch at an index (K, ...), and returns the losses (K, R), or (K,)
        for one network.
    """
    taken = index.clone()
    losses = like.new_zeros(len(index), *like.shape[1:])
    places = torch.arange(len(index), device=index.device).view(-1, *(1,) * (like.dim() - 1))
    at = torch.zeros(1, dtype=torch.int64, device=index.device)

    def step() -> None:
        (loss,) = steps(examples, taken.index_select(0, at))
        losses.copy_(torch.where(places == at, loss, losses))
        at.add_(1)

    step_once = capture(step)

    def replay(index: Tensor) -> Tensor:
        taken[: len(index)] = index
        at.zero_()
        for _ in index:
            step_once()
        return losses[: len(index)].clone()

    return replay


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """The cross-entropy of each example in nats, log sum_c exp logits_c - logits_y.

    Shapes: logits (R, B, C), y (R, B) to (R, B).

    >>> cross_entropy(torch.zeros(1, 1, 10), torch.tensor([[3]])).exp()
    tensor([[10.]])
    """
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
