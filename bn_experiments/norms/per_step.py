"""Separate statistics per time step: a norm whose buffers exist once a step, while its parameters are shared."""

import torch
from torch import Tensor, nn
from torch.func import functional_call


class PerStep(nn.Module):
    """A norm inside a recurrent network: at step t it reads and updates the statistics of step t.

    Each buffer of the norm, (...), becomes (T, ...); its parameters stay as they are. Steps from T on, of
    sequences longer than those trained on, use the statistics of step T - 1. A norm without buffers is the
    same at every step.

    Shapes: x (B, F) to the same.

    Args:
        norm: Changed in place; `shared` here.
        steps: T.

    Source: Cooijmans et al. 2016, arXiv:1603.09025, section 3.

    >>> norm = PerStep(nn.BatchNorm1d(1, momentum=1.0), steps=3)
    >>> _ = norm(torch.tensor([[1.0], [3.0]]), step=1)
    >>> norm.shared.running_mean.flatten()
    tensor([0., 2., 0.])
    """

    def __init__(self, norm: nn.Module, steps: int):
        super().__init__()
        self.shared = norm
        self.steps = steps
        for name, buffer in list(norm.named_buffers()):
            path, _, leaf = name.rpartition(".")
            setattr(norm.get_submodule(path), leaf, buffer.expand(steps, *buffer.shape).clone())

    @property
    def weight(self) -> Tensor | None:
        """The norm's scale, if it has one."""
        return getattr(self.shared, "weight", None)

    @property
    def bias(self) -> Tensor | None:
        """The norm's shift, if it has one."""
        return getattr(self.shared, "bias", None)

    def forward(self, x: Tensor, step: int) -> Tensor:
        """(B, F) to the same, with the statistics of `step`, which counts from 0."""
        step = min(step, self.steps - 1)
        slices = {name: buffer[step] for name, buffer in self.shared.named_buffers()}
        if not slices:
            return self.shared(x)
        if not self.training:
            return functional_call(self.shared, slices, (x,))
        # torch.vmap's rule for batch norm updates a slice of a stacked buffer in a copy, and loses it:
        # the norm is given copies, which are put back
        copies = {name: buffer.clone(memory_format=torch.contiguous_format) for name, buffer in slices.items()}
        y = functional_call(self.shared, copies, (x,))
        for name, buffer in slices.items():
            buffer.copy_(copies[name])
        return y

    def extra_repr(self) -> str:
        """The number of steps."""
        return f"steps={self.steps}"
