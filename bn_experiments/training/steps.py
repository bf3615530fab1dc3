"""Steps: the training of one part of the replicas, mini-batch by mini-batch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from bn_experiments.data.augmented import Trained
from bn_experiments.data.batches import mini_batches
from bn_experiments.training.attributes import apart, memory, settle_attributes
from bn_experiments.training.losses import Loss, mean_over_batch
from bn_experiments.training.replicas import Part, StackedReplicas, fit
from bn_experiments.training.schedules import advance

Clip = Callable[[nn.Module], None]  # limits the gradients of a part in place


class Steps:
    """Training steps: in each the gradient of the mean loss, its clipping, and the update of the optimizer.

    Args:
        part: A stack of replicas, which maps (R, B, ...) to logits (R, B, C), or one network, (B, ...) to (B, C).
        optimizers: The optimizer of each of its networks.
        loss: The loss of each example (see `losses`).
        clip: The function that limits the gradients of each replica. None: no clipping.
        schedulers: The schedulers that step after every mini-batch.
    """

    def __init__(
        self,
        part: Part,
        optimizers: Sequence[torch.optim.Optimizer],
        loss: Loss,
        clip: Clip | None,
        schedulers: Sequence[LRScheduler] = (),
    ):
        self.part = part
        self.optimizers = optimizers
        self.loss = loss
        self.clip = clip
        self.schedulers = schedulers
        self.parameters = list(part.module.parameters())
        modules = [] if isinstance(part.module, StackedReplicas) else [*part.module.modules()]
        self.buffers = [(each, name, tensor) for each in modules for name, tensor in each._buffers.items()]
        self.held = {memory(tensor) for _, _, tensor in self.buffers if tensor is not None}
        self.foreign = [each for each in modules if _may_keep_tensors(each)]

    def __call__(self, examples: Trained, index: Tensor) -> Tensor:
        """Takes a step for each mini-batch, and steps the schedulers after it.

        Args:
            examples: The examples from which the mini-batches are taken.
            index: The indices (K, R, B) of their examples, or (K, B) for one network.

        Returns:
            The mean losses (K, R) of the mini-batches, each before its step, or (K,) for one network.
        """
        losses = []
        for x, y in mini_batches(examples, index):
            losses.append(self.take(x, y))
            self.advance()
        return torch.stack(losses)

    def take(self, x: Tensor, y: Tensor) -> Tensor:
        """Takes the step on a mini-batch x (R, B, ...), y (R, B); gives its losses (R,), or () for one network."""
        for parameter in self.parameters:
            parameter.grad = None
        loss = mean_over_batch(self.loss, self.part.module(x), y)
        loss.backward(torch.ones_like(loss))  # replicas do not interact: each gets the gradient of its own loss
        if self.clip:
            self.clip(self.part.module)
        self.part.hand_out_gradients()
        for optimizer in self.optimizers:
            take_step(optimizer)
        self._keep_buffers()
        if torch.is_autocast_enabled(x.device.type):
            torch.clear_autocast_cache()  # it holds the weights before the step
        return loss.detach()

    def advance(self) -> None:
        """Steps the schedulers."""
        for scheduler in self.schedulers:
            advance(scheduler)

    def _keep_buffers(self) -> None:
        """Puts what a network assigned to its buffers into the memory that they had, and lets go of its gradients.

        So a captured step reads what the one before it wrote. A stack does the same in its forward pass. What was
        assigned may be another buffer, as in `self.older = self.last`, so all of it is read before any is written.
        """
        for module in self.foreign:
            settle_attributes(module, self.held)
        assigned = []
        for module, name, old in self.buffers:
            new = module._buffers.get(name)
            if new is not None and new is not old:
                assigned.append((module, name, old, apart(new, self.held)))
        for module, name, old, new in assigned:
            module._buffers[name] = old.copy_(new) if old is not None and fit(new, old) else new


def take_step(optimizer: torch.optim.Optimizer) -> None:
    """Takes an optimizer's step, from now on without its fused kernel where that does not take what it is given.

    Such is a parameter whose first gradient comes later than those of others, of a layer that some steps leave out:
    the kernel of SGD has no momentum of it, and refuses, before it has changed anything.
    """
    try:
        optimizer.step()
    except TypeError:
        if not any(group.get("fused") for group in optimizer.param_groups):
            raise
        for group in optimizer.param_groups:
            group["fused"] = False
        optimizer.step()


def _may_keep_tensors(module: nn.Module) -> bool:
    """Whether a module may keep tensors in plain attributes, which those of torch and of this package do not."""
    return bool(module._forward_hooks) or not type(module).__module__.startswith(("torch.", "bn_experiments."))
