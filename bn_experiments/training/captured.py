"""Captured steps: the training of one part of the replicas as a CUDA graph, where a step can be captured."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bn_experiments.data.augmented import Trained
from bn_experiments.data.batches import mini_batches
from bn_experiments.refusal import one_line
from bn_experiments.training.snapshot import Snapshot
from bn_experiments.training.steps import Steps

log = logging.getLogger(__name__)

Work = Callable[[], None]


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

    def __call__(self, examples: Trained, index: Tensor) -> Tensor:
        """Takes a step for each mini-batch, with the shapes of `Steps`."""
        if self.refused:
            return self.steps(examples, index)
        if (constants := self._constants()) != self.constants:
            self.constants = constants
            self.graphs.clear()
        size = index.shape[1:]
        if size in self.graphs:
            return self._replayed(examples, index)
        losses, rest = self.steps(examples, index[: self.EAGER]), index[self.EAGER :]
        if not len(rest):
            return losses
        self._capture(examples, index, losses)
        return torch.cat(
            [losses, self._replayed(examples, rest) if size in self.graphs else self.steps(examples, rest)]
        )

    def _constants(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.steps.optimizers for group in constants_of(optimizer)]

    def _replayed(self, examples: Trained, index: Tensor) -> Tensor:
        """The losses (K, ...) of replayed steps, and of eager ones from where a scheduler changes more than rates."""
        losses = self.graphs[index.shape[1:]](index)
        if len(losses) == len(index):
            return losses
        self._refuse("its scheduler changes in every step what a graph holds as a constant")
        return torch.cat([losses, self.steps(examples, index[len(losses) :])])

    def _holds(self) -> bool:
        """Whether the settings of the optimizers are what the graphs hold; only a scheduler changes them in a block."""
        return not self.steps.schedulers or self._constants() == self.constants

    def _refuse(self, reason: str) -> None:
        self.refused = reason
        log.warning("the training step cannot be captured as a CUDA graph, so it is slower: %s", reason)

    def _capture(self, examples: Trained, index: Tensor, losses: Tensor) -> None:
        """Captures the step on mini-batches of the size at `index`, or remembers why it cannot be captured."""
        before = Snapshot(self.steps.part.module, *self.steps.part.networks, *self.steps.optimizers)
        try:
            graph = captured_step(self.steps, examples, index, losses, self.capture, self._holds)
            if replaced := before.replaced():
                raise RuntimeError(f"it sets {', '.join(replaced)} in Python, which a graph would do once")
            self.graphs[index.shape[1:]] = graph
        except Exception as error:  # torch, CUDA and the network each raise their own errors
            before.put_back()
            self._refuse(one_line(error))


def constants_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The settings of each group of parameters, as a captured step holds them: of a tensor it holds the address."""
    return [
        {key: value.data_ptr() if isinstance(value, Tensor) else value for key, value in group.items()}
        | {"params": len(group["params"])}
        for group in optimizer.param_groups
    ]


def captured_step(
    steps: Steps,
    examples: Trained,
    index: Tensor,
    like: Tensor,
    capture: Callable[[Work], Work],
    holds: Callable[[], bool],
) -> Callable[[Tensor], Tensor]:
    """A captured step with the memory that it reads and writes.

    Args:
        steps: The steps of one part of the replicas.
        examples: The examples from which the mini-batches are taken.
        index: The indices (K, ...) of K mini-batches, for which there is memory; (...) is the size of all.
        like: The losses (k, R), or (k,) for one network, of k >= 1 eager steps, whose shape and dtype the graph takes.
        capture: The function that captures another one (see `cuda_graph`).
        holds: Whether the captured step is still the one to take, asked after the schedulers' steps.

    Returns:
        A function that takes a step for each mini-batch at an index (N, ...) of any length N, K at a time, and returns
        the losses (N, R), or (N,) for one network; fewer where the captured step ceased to hold.
    """
    taken = index.clone()
    losses = like.new_zeros(len(index), *like.shape[1:])
    places = torch.arange(len(index), device=index.device).view(-1, *(1,) * (like.dim() - 1))
    at = torch.zeros(1, dtype=torch.int64, device=index.device)

    def step() -> None:
        ((x, y),) = mini_batches(examples, taken.index_select(0, at))
        losses.copy_(torch.where(places == at, steps.take(x, y), losses))
        at.add_(1)

    step_once = capture(step)

    def replay(index: Tensor) -> Tensor:
        found = []
        for piece in index.split(len(taken)):
            taken[: len(piece)] = piece
            at.zero_()
            done = 0
            while done < len(piece) and holds():
                step_once()
                steps.advance()
                done += 1
            found.append(losses[:done].clone())
        return torch.cat(found)

    return replay
