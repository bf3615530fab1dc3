"""Norms in recurrent networks: each time step has its own statistics, and all time steps share the parameters."""

import torch
from torch import Tensor, nn
from torch.func import functional_call


class PerStep(nn.Module):
    """A norm inside a recurrent network: at time step t it reads and updates the statistics of time step t.

    Each buffer of the norm, of shape (...), becomes (T, ...). The parameters keep their shapes. A sequence may be
    longer than those of the training; its time steps from T on use the statistics of time step T - 1. A norm without
    buffers does the same at every time step.

    Shapes: x (B, F) to (B, F).

    Args:
        norm: The norm, which is changed in place.
        steps: The number T of time steps.

    Source: Cooijmans et al. 2016, arXiv:1603.09025, section 3.

    >>> norm = PerStep(nn.BatchNorm1d(1, momentum=1.0), steps=3)
    >>> _ = norm(torch.tensor([[1.0], [3.0]]), step=1)
    >>> norm.shared.running_mean.flatten()
    tensor([0., 2., 0.])
    """

    def __init__(self, norm: nn.Module, steps: int):
        super().__init__()
        self.shared = norm
        self.is_norm = True
        vars(norm).pop("is_norm", None)  # the norm of the network is this one (see `slot.norms_of`)
        self.steps = steps
        for name, buffer in list(norm.named_buffers()):
            path, _, leaf = name.rpartition(".")
            setattr(norm.get_submodule(path), leaf, buffer.expand(steps, *buffer.shape).clone())

    @property
    def weight(self) -> Tensor | None:
        """The scale of the norm, (F,); None if it has none."""
        return getattr(self.shared, "weight", None)

    @property
    def bias(self) -> Tensor | None:
        """The shift of the norm, (F,); None if it has none."""
        return getattr(self.shared, "bias", None)

    def forward(self, x: Tensor, step: int) -> Tensor:
        """Normalizes x (B, F) to (B, F) with the statistics of the time step `step`, which counts from 0."""
        step = min(step, self.steps - 1)
        slices = {name: buffer[step] for name, buffer in self.shared.named_buffers()}
        if not self.training:
            return functional_call(self.shared, slices, (x,))
        # torch.vmap's rule for batch norm updates a copy of a slice, so that the update is lost:
        # the norm updates copies that are made here, and they are written back
        copies = {name: buffer.clone(memory_format=torch.contiguous_format) for name, buffer in slices.items()}
        y = functional_call(self.shared, copies, (x,))
        for name, buffer in slices.items():
            buffer.copy_(copies[name])
        return y

    def extra_repr(self) -> str:
        """The number of time steps, for the printed network."""
        return f"steps={self.steps}"
