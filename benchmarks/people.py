"""Norms, optimizers and networks as people write them, each for what it does that torch's own do not."""

import random
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bn_experiments.norms.slot import Slot

MOMENTUM = 0.1


def axes(x: Tensor) -> tuple[int, ...]:
    """The axes of all examples and positions, and the shape of a number for each channel."""
    return (0, *range(2, x.dim()))


def wide(v: Tensor, x: Tensor) -> Tensor:
    """A number for each channel, in a shape that broadcasts over x."""
    return v.view(1, -1, *(1,) * (x.dim() - 2))


class Affine(nn.Module):
    """A scale and a shift for each channel."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def scaled(self, x: Tensor) -> Tensor:
        return x * wide(self.weight, x) + wide(self.bias, x)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean(axes(x)), x.var(axes(x), unbiased=False)


class PlainAttributes(Affine):
    """Running statistics in plain attributes, detached; whether gradients are on tells it the mode."""

    def __init__(self, width: int):
        super().__init__(width)
        self.moving_mean = torch.zeros(width)
        self.moving_var = torch.ones(width)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            mean, var = self.moving_mean, self.moving_var
        else:
            mean, var = self.moments(x)
            self.moving_mean = ((1 - MOMENTUM) * self.moving_mean + MOMENTUM * mean).detach()
            self.moving_var = ((1 - MOMENTUM) * self.moving_var + MOMENTUM * var).detach()
        return self.scaled((x - wide(mean, x)) / (wide(var, x) + 1e-5).sqrt())


class Textbook(PlainAttributes):
    """The same with `.data`, as a well-known textbook has it."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            y = (x - wide(self.moving_mean, x)) / (wide(self.moving_var, x) + 1e-5).sqrt()
            return self.scaled(y)
        mean, var = self.moments(x)
        self.moving_mean = ((1 - MOMENTUM) * self.moving_mean + MOMENTUM * mean).data
        self.moving_var = ((1 - MOMENTUM) * self.moving_var + MOMENTUM * var).data
        return self.scaled((x - wide(mean, x)) / (wide(var, x) + 1e-5).sqrt())


class AssignedBuffers(Affine):
    """Buffers to which the forward pass assigns new tensors, with the graph of their gradients."""

    moving_mean: Tensor
    moving_var: Tensor

    def __init__(self, width: int):
        super().__init__(width)
        self.register_buffer("moving_mean", torch.zeros(width))
        self.register_buffer("moving_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.moving_mean, self.moving_var
        if self.training:
            mean, var = self.moments(x)
            self.moving_mean = (1 - MOMENTUM) * self.moving_mean + MOMENTUM * mean
            self.moving_var = (1 - MOMENTUM) * self.moving_var + MOMENTUM * var
        return self.scaled((x - wide(mean, x)) / (wide(var, x) + 1e-5).sqrt())


class InPlaceBuffers(AssignedBuffers):
    """Buffers that the forward pass changes in place."""

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.moving_mean, self.moving_var
        if self.training:
            mean, var = self.moments(x)
            with torch.no_grad():
                self.moving_mean.mul_(1 - MOMENTUM).add_(MOMENTUM * mean)
                self.moving_var.mul_(1 - MOMENTUM).add_(MOMENTUM * var)
        return self.scaled((x - wide(mean, x)) / (wide(var, x) + 1e-5).sqrt())


class Shifted(Affine):
    """The mean of the batch before the last one, in buffers that are shifted into each other."""

    last: Tensor
    older: Tensor

    def __init__(self, width: int):
        super().__init__(width)
        self.register_buffer("last", torch.zeros(width))
        self.register_buffer("older", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.scaled(x - wide(self.older, x))
        if self.training:
            self.older = self.last
            self.last = x.detach().mean(axes(x))
        return y


class ShiftedAttribute(Affine):
    """The same with the older one in a plain attribute, which is there from the first pass on."""

    last: Tensor
    older: Any  # None, then a tensor

    def __init__(self, width: int):
        super().__init__(width)
        self.register_buffer("last", torch.zeros(width))
        self.older = None

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.older is None else x - wide(self.older, x)
        if self.training:
            self.older, self.last = self.last, x.detach().mean(axes(x))
        return self.scaled(y)


class KeepsGraph(Affine):
    """The last mean in a plain attribute to look at, with the graph of its gradients."""

    last_mean: Any

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.moments(x)
        self.last_mean = mean
        return self.scaled((x - wide(mean, x)) / (wide(var, x) + 1e-5).sqrt())


class NotPersistent(InPlaceBuffers):
    """Buffers that are kept out of checkpoints."""

    def __init__(self, width: int):
        super().__init__(width)
        for name in ("moving_mean", "moving_var"):
            self.register_buffer(name, self._buffers.pop(name), persistent=False)


class AssignedRenorm(AssignedBuffers):
    """Batch renormalization (Ioffe 2017, arXiv:1702.03275), whose training pass reads its own running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            y = (x - wide(self.moving_mean, x)) / (wide(self.moving_var, x) + 1e-5).sqrt()
            return self.scaled(y)
        mean, var = self.moments(x)
        std, moving = (var + 1e-5).sqrt(), (self.moving_var + 1e-5).sqrt()
        r = (std / moving).clamp(1 / 3, 3).detach()
        d = ((mean - self.moving_mean) / moving).clamp(-5, 5).detach()
        y = (x - wide(mean, x)) / wide(std, x) * wide(r, x) + wide(d, x)
        self._keep(mean.detach(), var.detach())
        return self.scaled(y)

    def _keep(self, mean: Tensor, var: Tensor) -> None:
        self.moving_mean = (1 - MOMENTUM) * self.moving_mean + MOMENTUM * mean
        self.moving_var = (1 - MOMENTUM) * self.moving_var + MOMENTUM * var


class InPlaceRenorm(AssignedRenorm):
    """Batch renormalization that changes its state in place."""

    def _keep(self, mean: Tensor, var: Tensor) -> None:
        self.moving_mean.lerp_(mean, MOMENTUM)
        self.moving_var.lerp_(var, MOMENTUM)


class LazyState(Affine):
    """Running statistics that there are from the first forward pass on."""

    moving_mean: Any  # None, then a tensor

    def __init__(self, width: int):
        super().__init__(width)
        self.moving_mean = None

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(axes(x)) if self.training else self.moving_mean
        if self.training:
            old = mean if self.moving_mean is None else self.moving_mean
            self.moving_mean = ((1 - MOMENTUM) * old + MOMENTUM * mean).detach()
        return self.scaled(x - wide(mean, x))


class Ghost(Affine):
    """Ghost batch norm (Hoffer et al. 2017, arXiv:1705.08741): statistics of groups of four examples."""

    size = 4

    def forward(self, x: Tensor) -> Tensor:
        groups = x.view(len(x) // self.size, self.size, *x.shape[1:])
        spread = (groups.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return self.scaled(((groups - groups.mean(1, keepdim=True)) / spread).view_as(x))


class Noisy(Affine):
    """Noise of torch in training mode."""

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x + 0.1 * torch.randn_like(x)) if self.training else self.scaled(x)


class NoisyByPython(Affine):
    """One number of Python's generator for each pass."""

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x * (1 + random.random())) if self.training else self.scaled(x)


class NoisyByNumPy(Affine):
    """Noise of NumPy's global generator."""

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.as_tensor(np.random.randn(x.shape[-1]), dtype=x.dtype)  # noqa: NPY002
        return self.scaled(x + 0.1 * noise) if self.training else self.scaled(x)


class Counting(Affine):
    """A warm-up that counts its passes in Python."""

    def __init__(self, width: int):
        super().__init__(width)
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
        return self.scaled(x * (1 - 0.5**self.steps))


class OwnGenerator(Affine):
    """Noise of a generator that the module owns."""

    def __init__(self, width: int):
        super().__init__(width)
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn(x.shape[-1], generator=self.generator, dtype=x.dtype)
        return self.scaled(x + 0.1 * noise) if self.training else self.scaled(x)


class NoisyInEvaluation(Affine):
    """Noise of torch in evaluation mode alone."""

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x) if self.training else self.scaled(x + 0.1 * torch.randn_like(x))


class Branching(Affine):
    """A Python `if` on a tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x - x.mean()) if x.mean() > 0 else self.scaled(x)


class DrawsInConstructor(Affine):
    """A scale that its constructor draws."""

    def __init__(self, width: int):
        super().__init__(width)
        self.weight = nn.Parameter(1 + 0.1 * torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x)


class Remembering(Affine):
    """A list of the last means, as tensors."""

    def __init__(self, width: int):
        super().__init__(width)
        self.last: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.last = [*self.last[-2:], x.mean(axes(x)).detach()]
        mean = torch.stack(self.last).mean(0) if self.last else torch.zeros_like(self.bias)
        return self.scaled(x - wide(mean, x))


class OpaqueState(Affine):
    """A queue of numbers, which is no state that a checkpoint holds."""

    def __init__(self, width: int):
        super().__init__(width)
        self.queue: deque[int] = deque(maxlen=8)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.queue.append(len(self.queue) + 1)
        return self.scaled(x * (1 + sum(self.queue)))


class Meter:
    """An average that is kept outside of torch."""

    def __init__(self) -> None:
        self.value: Any = 0.0

    def update(self, new: Tensor) -> None:
        self.value = (1 - MOMENTUM) * self.value + MOMENTUM * new


class Metered(Affine):
    """A running mean in a helper object, which evaluation alone reads."""

    def __init__(self, width: int):
        super().__init__(width)
        self.meter = Meter()

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(axes(x))
        if self.training:
            self.meter.update(mean.detach())
        return self.scaled(x - wide(mean if self.training else mean * 0 + self.meter.value, x))


class NumPyState(Affine):
    """A running mean in an array of NumPy, which evaluation alone reads."""

    def __init__(self, width: int):
        super().__init__(width)
        self.mean = np.zeros(width)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(axes(x))
        if self.training:
            self.mean = (1 - MOMENTUM) * self.mean + MOMENTUM * mean.detach().cpu().numpy()
        return self.scaled(x - wide(mean if self.training else torch.as_tensor(self.mean, dtype=x.dtype), x))


class NoisyInTheLastBatch(Affine):
    """A group norm over examples that fills up its last group with random examples of the batch."""

    size = 50

    def forward(self, x: Tensor) -> Tensor:
        count = len(x)
        if self.training and count % self.size:
            x = torch.cat([x, x[torch.randint(count, (self.size - count % self.size,))]])
        if self.training:
            groups = x.view(len(x) // self.size, self.size, *x.shape[1:])
            x = (groups - groups.mean(1, keepdim=True)).view_as(x)[:count]
        return self.scaled(x)


class Coin(Affine):
    """A batch norm without a scale of the variance or a layer norm, as its constructor draws."""

    def __init__(self, width: int, share: float = 0.5):
        super().__init__(width)
        self.by_example = random.random() < share

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x - (x.mean(1, keepdim=True) if self.by_example else x.mean(0)))


class ReadsLater(Affine):
    """A clip at a number that it reads off a tensor, from its tenth pass on."""

    def __init__(self, width: int):
        super().__init__(width)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += self.training
        if self.passes > 9:
            x = x.clamp(max=3 * x.std().item())
        return self.scaled(x)


class Hooked(Affine):
    """A running mean that a hook keeps, which has the module in its closure."""

    mean: Tensor

    def __init__(self, width: int):
        super().__init__(width)
        self.register_buffer("mean", torch.zeros(width))

        def keep(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            if self.training:
                self.mean.lerp_(given[0].detach().mean(axes(given[0])), MOMENTUM)

        self.register_forward_hook(keep)

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(x - wide(self.mean, x))


class ScalarState(Affine):
    """One running mean for all channels, a Python number."""

    def __init__(self, width: int):
        super().__init__(width)
        self.mean = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = (1 - MOMENTUM) * self.mean + MOMENTUM * x.mean().item()
        return self.scaled(x - self.mean)


class IntegerParameter(Affine):
    """A count of its passes in a parameter without a gradient."""

    def __init__(self, width: int):
        super().__init__(width)
        self.passes = nn.Parameter(torch.tensor(0), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.passes += 1  # type: ignore[misc]
        return self.scaled(x)


class Mixing(Affine):
    """One statistic of the whole batch, all channels together."""

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled((x - x.mean()) / (x.var() + 1e-5).sqrt())


def adamw_by_axes(params: Iterable[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW without decay of what has fewer than two axes."""
    params = list(params)
    groups = [
        {"params": [one for one in params if one.ndim >= 2], "weight_decay": weight_decay},
        {"params": [one for one in params if one.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr)


def adamw_by_names(
    named_parameters: Iterable[tuple[str, nn.Parameter]], lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """AdamW without decay of biases."""
    named = list(named_parameters)
    groups = [
        {"params": [one for name, one in named if not name.endswith("bias")], "weight_decay": weight_decay},
        {"params": [one for name, one in named if name.endswith("bias")], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr)


class Lars(torch.optim.Optimizer):
    """Steps in proportion to the norm of each tensor (You et al. 2017, arXiv:1708.03888), without momentum."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for one in group["params"]:
                trust = one.norm() / (one.grad.norm() + 1e-9)
                one.sub_(group["lr"] * torch.where(one.norm() > 0, trust, 1.0) * one.grad)


class GloballyClipped(torch.optim.SGD):
    """SGD that limits the norm of the gradient of all tensors together, as Lamb does."""

    def step(self, closure: Any = None) -> Any:
        own = [one for group in self.param_groups for one in group["params"]]
        nn.utils.clip_grad_norm_(own, 0.5)
        return super().step(closure)


class LazyMomentum(torch.optim.Optimizer):
    """Momentum in a list that the first step makes."""

    moved: Any = None

    def __init__(self, params: Iterable[nn.Parameter], lr: float):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        own = [one for group in self.param_groups for one in group["params"]]
        if self.moved is None:
            self.moved = [torch.zeros_like(one) for one in own]
        for one, moved in zip(own, self.moved, strict=True):
            one.sub_(moved.mul_(0.9).add_(one.grad), alpha=self.param_groups[0]["lr"])


class Lookahead(torch.optim.SGD):
    """Lookahead (Zhang et al. 2019, arXiv:1907.08610), which goes back to slow weights at each fifth step."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float):
        super().__init__(params, lr=lr)
        self.taken = 0
        self.slow = [one.detach().clone() for group in self.param_groups for one in group["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        super().step(closure)
        self.taken += 1
        own = [one for group in self.param_groups for one in group["params"]]
        for one, slow in zip(own, self.slow, strict=True):
            if self.taken % 5 == 0:
                one.copy_(slow.lerp_(one, 0.5))


class Tokens(nn.Module):
    """A network with raw parameters: a token, positions and layer scales."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, norm: Slot):
        super().__init__()
        features = int(np.prod(input_shape))
        self.token = nn.Parameter(torch.randn(1, 8) * 0.02)
        self.scale = nn.Parameter(torch.full((16,), 0.1))
        self.hidden = norm.around(nn.Linear(features, 16), nn.ReLU())
        self.output = nn.Linear(24, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x.flatten(1)) * self.scale
        return self.output(torch.cat([h, self.token.expand(len(h), -1)], 1))


class Attention(nn.Module):
    """A network with torch's attention, whose projection has no `reset_parameters`."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, norm: Slot):
        super().__init__()
        self.embed = nn.Linear(input_shape[0], 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.hidden = norm.around(nn.Linear(8, 16), nn.ReLU())
        self.output = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x.flatten(2).transpose(1, 2))
        return self.output(self.hidden(self.attention(h, h, h, need_weights=False)[0].mean(1)))


class Kaiming(nn.Module):
    """A network that initializes its own layers."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, norm: Slot):
        super().__init__()
        self.hidden = norm.around(nn.Linear(int(np.prod(input_shape)), 32), nn.ReLU())
        self.output = nn.Linear(32, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.constant_(module.bias, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.hidden(x.flatten(1)))


class Shared(nn.Module):
    """A network that uses a layer twice, and ties two weights."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, norm: Slot):
        super().__init__()
        self.input = nn.Linear(int(np.prod(input_shape)), 16)
        layer = nn.Linear(16, 16)
        self.hidden = norm.around(layer, nn.ReLU())
        self.again = self.hidden
        self.tied = nn.Linear(16, 16)
        self.tied.weight = layer.weight
        self.output = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.tied(self.again(self.hidden(self.input(x.flatten(1))))))


class Frozen(nn.Module):
    """A network with a frozen first layer and a buffer that is kept out of checkpoints."""

    mean: Tensor

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, norm: Slot):
        super().__init__()
        features = int(np.prod(input_shape))
        self.register_buffer("mean", torch.zeros(features), persistent=False)
        self.project = nn.Linear(features, 16).requires_grad_(False)
        self.hidden = norm.around(nn.Linear(16, 16), nn.ReLU())
        self.output = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.training:
            self.mean.lerp_(x.mean(0), 0.1)
        return self.output(self.hidden(self.project(x - self.mean)))
