"""Steps: the training of one part of the replicas, mini-batch by mini-batch, eagerly or as a CUDA graph."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bn_experiments.data.batches import mini_batches
from bn_experiments.data.splits import Examples
from bn_experiments.refusal import one_line
from bn_experiments.training.replicas import Part, StackedReplicas, clip_gradients, fit
from bn_experiments.training.snapshot import Snapshot

log = logging.getLogger(__name__)

Work = Callable[[], None]


class Steps:
    """Training steps: in each the gradient of the mean cross-entropy, its clipping, and the update of the optimizer.

    Args:
        part: A stack of replicas, which maps (R, B, ...) to logits (R, B, C), or one network, (B, ...) to (B, C).
        optimizers: The optimizer of each of its networks.
        gradient_clip_norm: The largest 2-norm of each replica's gradient. None: no clipping.
    """

    def __init__(self, part: Part, optimizers: Sequence[torch.optim.Optimizer], gradient_clip_norm: float | None):
        self.part = part
        self.optimizers = optimizers
        self.gradient_clip_norm = gradient_clip_norm
        self.parameters = list(part.module.parameters())
        self.buffers = [
            (module, name, tensor)
            for module in (() if isinstance(part.module, StackedReplicas) else part.module.modules())
            for name, tensor in module._buffers.items()
        ]

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
            logits = self.part.module(x)
            loss = F.cross_entropy(logits, y) if y.dim() == 1 else cross_entropy(logits, y).mean(1)
            loss.backward(torch.ones_like(loss))  # replicas do not interact: each gets the gradient of its own loss
            if self.gradient_clip_norm is not None:
                clip_gradients(self.part.module, self.gradient_clip_norm)
            self.part.hand_out_gradients()
            for optimizer in self.optimizers:
                optimizer.step()
            self._keep_buffers()
            if torch.is_autocast_enabled(x.device.type):
                torch.clear_autocast_cache()  # it holds the weights before the step
            losses.append(loss.detach())
        return torch.stack(losses)

    def _keep_buffers(self) -> None:
        """Puts what a network assigned to its buffers into the memory that they had, and lets go of its gradients.

        So a captured step reads what the one before it wrote. A stack does the same in its forward pass.
        """
        for module, name, tensor in self.buffers:
            new = module._buffers.get(name)
            if new is not None and new is not tensor:
                if tensor is not None and fit(new, tensor):
                    tensor.copy_(new.detach())
                    module._buffers[name] = tensor
                else:
                    module._buffers[name] = new.detach()


def cuda_graph(function: Work) -> Work:
    """A function that repeats the work of `function` on the device.

    Raises:
        RuntimeError: `function` waits for the device, such as for a number; no graph can hold that.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), _waiting_raises():
        function()
    return graph.replay


@contextmanager
def _waiting_raises() -> Iterator[None]:
    """Within it, what waits for the device raises before CUDA refuses it, which can leave torch's generator broken."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(action="ignore"):  # torch calls the mode a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


class CapturedSteps:
    """Steps captured as a CUDA graph: one launch for each step in place of one for each kernel.

    The graph holds the whole step: it reads the position of the mini-batch from the device, takes the mini-batch,
    trains on it, stores the loss and increments the position. The first steps on mini-batches of one size are eager,
    because they create the state of the optimizer. A graph reads a learning rate from its tensor (see `optimizers`),
    and holds the optimizer's other settings as constants, so where one of these changes it needs a new graph.

    Where a step cannot be captured, it is as if that had not been tried, and all further steps are eager.

    Args:
        steps: The steps of one part of the replicas.
        capture: The function that captures another one (see `cuda_graph`).

    Attributes:
        refused: The reason for which the step is not captured; None while it is.
    """

    EAGER = 3  # number of eager steps before a capture

    def __init__(self, steps: Steps, capture: Callable[[Work], Work] = cuda_graph):
        self.steps = steps
        self.capture = capture
        self.refused: str | None = None
        self.constants: list[dict[str, Any]] = []
        self.graphs: dict[torch.Size, Callable[[Tensor], Tensor]] = {}

    def __call__(self, examples: Examples, index: Tensor) -> Tensor:
        """Takes a step for each mini-batch, with the shapes of `Steps`."""
        if self.refused:
            return self.steps(examples, index)
        constants = [group for optimizer in self.steps.optimizers for group in constants_of(optimizer)]
        if constants != self.constants:
            self.constants = constants
            self.graphs.clear()
        size = index.shape[1:]
        if size in self.graphs:
            return self.graphs[size](index)
        losses, rest = self.steps(examples, index[: self.EAGER]), index[self.EAGER :]
        if not len(rest):
            return losses
        self._capture(examples, index, losses)
        return torch.cat([losses, self.graphs[size](rest) if size in self.graphs else self.steps(examples, rest)])

    def _capture(self, examples: Examples, index: Tensor, losses: Tensor) -> None:
        """Captures the step on mini-batches of the size at `index`, or remembers why it cannot be captured."""
        before = Snapshot(self.steps.part.module, *self.steps.part.networks, *self.steps.optimizers)
        try:
            graph = captured_step(self.steps, examples, index, losses, self.capture)
            if replaced := before.replaced():
                raise RuntimeError(f"it sets {', '.join(replaced)} in Python, which a graph would do once")
            self.graphs[index.shape[1:]] = graph
        except Exception as error:  # torch, CUDA and the network each raise their own errors
            before.put_back()
            self.refused = one_line(error)
            log.warning("the training step cannot be captured as a CUDA graph, so it is slower: %s", self.refused)


def constants_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The settings of each group of parameters, as a captured step holds them: of a tensor it holds the address."""
    return [
        {key: value.data_ptr() if isinstance(value, Tensor) else value for key, value in group.items()}
        | {"params": len(group["params"])}
        for group in optimizer.param_groups
    ]


def captured_step(
    steps: Steps, examples: Examples, index: Tensor, like: Tensor, capture: Callable[[Work], Work]
) -> Callable[[Tensor], Tensor]:
    """A captured step with the memory that it reads and writes.

    Args:
        steps: The steps of one part of the replicas.
        examples: The examples from which the mini-batches are taken.
        index: The indices (K, ...) of K mini-batches, for which there is memory; (...) is the size of all.
        like: The losses (k, R), or (k,) for one network, of k >= 1 eager steps, whose shape and dtype the graph takes.
        capture: The function that captures another one (see `cuda_graph`).

    Returns:
        A function that takes a step for each mini-batch at an index (N, ...) of any length N, K at a time, and returns
        the losses (N, R), or (N,) for one network.
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
        found = []
        for piece in index.split(len(taken)):
            taken[: len(piece)] = piece
            at.zero_()
            for _ in piece:
                step_once()
            found.append(losses[: len(piece)].clone())
        return torch.cat(found)

    return replay


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """The cross-entropy of each example in nats, log sum_c exp logits_c - logits_y.

    Shapes: logits (R, B, C), y (R, B) to (R, B).

    >>> cross_entropy(torch.zeros(1, 1, 10), torch.tensor([[3]])).exp()
    tensor([[10.]])
    """
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
