"""Steps: the training of one part of the replicas, mini-batch by mini-batch, eagerly or as a CUDA graph."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bn_experiments.data.batches import mini_batches
from bn_experiments.data.splits import Examples
from bn_experiments.training.replicas import clip_gradients


class Steps:
    """Training steps of one part of the replicas, each on a mini-batch.

    A step is the gradient of the mean cross-entropy, clipped or not, and what the optimizer makes of it.

    Args:
        part: A stack of replicas, (R, B, ...) to logits (R, B, C), or one network, (B, ...) to (B, C).
        optimizer: The optimizer of its parameters.
        gradient_clip_norm: Largest 2-norm of each replica's gradient. None: not clipped.
    """

    def __init__(self, part: nn.Module, optimizer: torch.optim.Optimizer, gradient_clip_norm: float | None):
        self.part = part
        self.optimizer = optimizer
        self.gradient_clip_norm = gradient_clip_norm
        self.parameters = list(part.parameters())

    def __call__(self, examples: Examples, index: Tensor) -> Tensor:
        """Takes a step for each mini-batch.

        Args:
            examples: The examples that the mini-batches are taken from.
            index: Which of them each mini-batch takes, (K, R, B), or (K, B) for one network.

        Returns:
            The loss before each step, of each replica, in nats: (K, R), or (K,).
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
                torch.clear_autocast_cache()  # it holds the weights of before the step
            losses.append(loss.detach())
        return torch.stack(losses)


def cuda_graph(function: Callable[[], None]) -> Callable[[], None]:
    """What repeats on the device what `function` does there."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


class CapturedSteps:
    """The same steps, captured as a CUDA graph and replayed: one launch a step in place of one a kernel.

    The graph holds all that lies between two steps: it reads from the device which mini-batch is next, takes
    it, trains on it, writes the loss down and counts. The first steps on mini-batches of one size are taken
    eagerly, for they make what the optimizer keeps; a graph holds the learning rate as a constant, so a new
    rate makes a new graph.

    Args:
        steps: The steps of one part of the replicas.
        capture: Makes of a function one that repeats what it does on the device.
    """

    EAGER = 3  # steps before a capture

    def __init__(self, steps: Steps, capture: Callable[[Callable[[], None]], Callable[[], None]] = cuda_graph):
        self.steps = steps
        self.capture = capture
        self.rates: list[float] = []
        self.graphs: dict[torch.Size, Graph] = {}

    def __call__(self, examples: Examples, index: Tensor) -> Tensor:
        """As `Steps`; `index` is never longer than the first one of its size."""
        rates = [float(group["lr"]) for group in self.steps.optimizer.param_groups]
        if rates != self.rates:
            self.rates = rates
            self.graphs.clear()
        size = index.shape[1:]
        if size in self.graphs:
            return self.graphs[size].replay(index)
        losses = self.steps(examples, index[: self.EAGER])
        if len(index) <= self.EAGER:
            return losses
        self.graphs[size] = Graph(self.steps, examples, index, losses, self.capture)
        return torch.cat([losses, self.graphs[size].replay(index[self.EAGER :])])


class Graph:
    """A captured step with the memory that it reads and writes.

    Args:
        steps: The steps of one part of the replicas.
        examples: What the mini-batches are taken from.
        index: (K, ...): the most mini-batches that a replay takes, and the size that all of them have.
        like: Losses that eager steps gave, one or more.
        capture: As `CapturedSteps` has it.
    """

    def __init__(
        self,
        steps: Steps,
        examples: Examples,
        index: Tensor,
        like: Tensor,
        capture: Callable[[Callable[[], None]], Callable[[], None]],
    ):
        self.steps = steps
        self.examples = examples
        self.index = index.clone()
        self.losses = like.new_zeros(len(index), *like.shape[1:])
        self.places = torch.arange(len(index), device=index.device).view(-1, *(1,) * (like.dim() - 1))
        self.at = torch.zeros(1, dtype=torch.int64, device=index.device)
        self.once = capture(self._once)

    def replay(self, index: Tensor) -> Tensor:
        """Takes a step for each mini-batch at `index` (K, ...); gives the losses, K of them."""
        self.index[: len(index)] = index
        self.at.zero_()
        for _ in index:
            self.once()
        return self.losses[: len(index)].clone()

    def _once(self) -> None:
        (loss,) = self.steps(self.examples, self.index.index_select(0, self.at))
        self.losses.copy_(torch.where(self.places == self.at, loss, self.losses))
        self.at.add_(1)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each example, in nats.

    Shapes: logits (R, B, C), y (R, B) to (R, B).

    >>> cross_entropy(torch.zeros(1, 1, 10), torch.tensor([[3]])).exp()
    tensor([[10.]])
    """
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
