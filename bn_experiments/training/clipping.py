"""Clipping: limits on the gradient of each replica, in a stack as alone."""

import torch
from torch import Tensor, nn

from bn_experiments.training.replicas import StackedReplicas
from bn_experiments.training.roles import roles_of

TINY = 1e-6  # in place of a smaller norm of a gradient, by which it is divided


def clip_gradients(part: nn.Module, max_norm: float) -> None:
    """Scales the gradient g of each replica in place, g min(1, max_norm / ||g||).

    ||g|| is the 2-norm over all parameters of the replica.

    Args:
        part: A stack of replicas with gradients (R, ...), or one network with gradients (...).
        max_norm: The largest 2-norm, above 0.
    """
    if not isinstance(part, StackedReplicas):
        nn.utils.clip_grad_norm_(part.parameters(), max_norm)
        return
    gradients = [p.grad for p in part.parameters() if p.grad is not None]
    norms = torch.stack([gradient.reshape(len(gradient), -1).norm(dim=1) for gradient in gradients]).norm(dim=0)  # (R,)
    factors = (max_norm / (norms + TINY)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *(1,) * (gradient.dim() - 1)))


def clip_adaptively(part: nn.Module, factor: float, eps: float) -> None:
    """Limits the gradient of each unit to a share of the norm of the unit's weights, in place.

    G_i becomes G_i factor max(||W_i||, eps) / ||G_i|| where ||G_i|| is above factor max(||W_i||, eps). A unit i is a
    row of a matrix (out, in), a kernel (in, ...) of a convolution (out, in, ...), or a whole vector. The parameters of
    the last layer are left as they are (see `roles`).

    Args:
        part: A stack of replicas with gradients (R, ...), or one network with gradients (...).
        factor: The share, lambda in the source, above 0.
        eps: The norm that a unit of smaller weights counts as, so that weights of zero can grow.

    Source: Brock et al. 2021, arXiv:2102.06171, equation 3, section 4.1; Wightman 2021, timm, `adaptive_clip_grad`.
    """
    leading = 1 if isinstance(part, StackedReplicas) else 0
    last = roles_of(part).last_layer
    for name, parameter in part.named_parameters():
        if parameter.grad is None or name in last:
            continue
        weights, gradients = (norms_by_unit(one.detach(), leading) for one in (parameter, parameter.grad))
        largest = factor * weights.clamp(min=eps)
        scales = torch.where(gradients > largest, largest / gradients.clamp(min=TINY), 1.0)
        parameter.grad.mul_(scales.view(scales.shape + (1,) * (parameter.dim() - scales.dim())))


def norms_by_unit(x: Tensor, leading: int) -> Tensor:
    """The 2-norm of each unit: x (out, in, ...) to (out,), x (F,) or () to (), each after the leading axes.

    Args:
        x: A parameter or its gradient.
        leading: The number of leading axes: 1 in a stack, where x is (R, out, in, ...), or 0.

    >>> norms_by_unit(torch.ones(3, 2, 4), leading=0), norms_by_unit(torch.ones(3, 4), leading=1)
    (tensor([2.8284, 2.8284, 2.8284]), tensor([2., 2., 2.]))
    """
    kept = leading + 1 if x.dim() - leading >= 2 else leading
    return x.reshape(*x.shape[:kept], -1).norm(dim=-1)
