"""Through time: how much of the gradient at the last time step of a recurrent network is left at each earlier one."""

import math
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor, nn

from bn_experiments.data.batches import BatchSize, size_of
from bn_experiments.data.splits import Splits
from bn_experiments.models.recurrent import Term
from bn_experiments.probes.layers import numbered, slope
from bn_experiments.probes.probe import Probe, Reading, TrainingBatch, fixed_batch
from bn_experiments.refusal import Refusal
from bn_experiments.seeds import generator
from bn_experiments.training.replicas import Replicas

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Inputs = tuple[Tensor, ...]
Share = Annotated[float, Field(ge=0, le=1)]


def states(network: nn.Module, x: Tensor) -> tuple[list[Tensor], list[Inputs]]:
    """The states h_1..h_T of a recurrent network, (B, H) each, and what each was made of.

    h_1..h_{T-1} are what the module `hidden` is given from its second call on, and h_T is what `output` is given. The
    module whose output is the state has as its inputs the sum of the two terms in `RNN`, and the memory and the output
    gate in `LSTM`. All that goes from a time step to the next one passes through them.

    Args:
        network: A network with the modules `hidden` and `output`, with gradients on.
        x: A batch (B, ...).

    Returns:
        T states, and for each state the inputs of the module that made it, or the state itself where none did.
    """
    found: list[Tensor] = []
    made: dict[int, tuple[Tensor, Inputs]] = {}  # by the output's id, with the output, so that no other gets the id

    def give(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        found.append(inputs[0])

    def make(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        made[id(output)] = output, tuple(each for each in inputs if isinstance(each, Tensor) and each.requires_grad)

    readers = [getattr(network, name).register_forward_pre_hook(give) for name in ("hidden", "output")]
    makers = [module.register_forward_hook(make) for module in network.modules()]
    try:
        network(x)
    finally:
        for hook in (*readers, *makers):
            hook.remove()
    reached = found[1:]  # the first one is h_0 = 0
    return reached, [made.get(id(state), (state, ()))[1] or (state,) for state in reached]


def log_norms(network: nn.Module, x: Tensor, source: torch.Generator) -> Tensor:
    """The logarithm of the gradient's norm with respect to each state, of a random linear function of the last one.

    The function is sum(h_T G), G ~ N(0, 1), so that no loss, and no label, has a part in it. The gradient with respect
    to h_t is that of all later states through h_t; what goes past it, in the memory of an LSTM, has no part in it.

    Over hundreds of time steps a gradient leaves the range of any float. So it is scaled to the norm 1 at each time
    step on its way back, and the logarithms of the scales are added up. The weights and x are taken in double
    precision.

    Args:
        network: The network, in training mode, which becomes one of double precision.
        x: A batch (B, ...).
        source: The generator that draws G.

    Returns:
        ln ||d sum(h_T G) / d h_t||, the norm over the batch and all units, (T,), t = 1..T; -inf where it is zero.

    Source: Cooijmans et al. 2016, arXiv:1603.09025, figure 1a, of the loss.
    """
    with torch.enable_grad():
        reached, parts = states(network.double(), x.double())
        logs, scales = [0.0] * len(reached), [1.0] * len(reached)
        total = 0.0  # the logarithm of what the gradient has been divided by

        def read(t: int, gradient: Tensor) -> None:
            nonlocal total
            norm = gradient.norm().item()
            logs[t] = total + (math.log(norm) if norm else -math.inf)
            if norm and math.isfinite(norm):
                scales[t] = 1 / norm
                total += math.log(norm)

        for t, (state, own) in enumerate(zip(reached, parts, strict=True)):
            state.register_hook(lambda gradient, t=t: read(t, gradient))
            for part in own:  # whose gradients come after the state's
                part.register_hook(lambda gradient, t=t: gradient * scales[t])
        direction = torch.randn(reached[-1].shape, generator=source).to(reached[-1])
        torch.autograd.grad((reached[-1] * direction).sum(), parts[0])
    return torch.tensor(logs, dtype=torch.float64)


class ThroughTime(Probe):
    """The gradient with respect to each state of a recurrent network, and how it grows backwards (see `log_norms`).

    The rate is the mean of ln(||d/dh_t||^2 / ||d/dh_{t+1}||^2): minus the least-squares slope of the logarithm against
    t, over all time steps but the first and the last few, where it has not settled.

    Readings: log10_norm (R, T), rate (R,), log10_ratio (R,), which is log10(||d/dh_s|| / ||d/dh_T||), in training mode.

    Args:
        batch_size: The size B of the batch, which each replica's seed draws from the training split; full: all of it.
        skip: The number of time steps at either end that have no part in the rate.
        start: The share of the T time steps at which the ratio starts: s is start T rounded down, and at least 1.
    """

    quantities = ("log10_norm", "rate", "log10_ratio")

    def __init__(self, *, batch_size: BatchSize, skip: NonNegativeInt, start: Share):
        self.batch_size, self.skip, self.start = batch_size, skip, start

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Takes the gradients of each replica on its batch."""
        x, _ = fixed_batch(splits.train, self.seeds, size_of(self.batch_size, len(splits.train)))
        logs = torch.stack(
            [
                log_norms(replicas.replica(i).train(), x[i], generator(seed, "through time"))
                for i, seed in enumerate(self.seeds)
            ]
        )
        inner = 2 * logs[:, self.skip : logs.shape[1] - self.skip]
        rate = -slope(inner) if inner.shape[1] > 1 else torch.full((len(logs),), torch.nan, dtype=logs.dtype)
        log10 = logs / math.log(10)
        s = max(1, int(self.start * logs.shape[1]))
        values = {"log10_norm": log10, "rate": rate, "log10_ratio": log10[:, s - 1] - log10[:, -1]}
        return Reading("time_step", numbered(logs.shape[1]), values)

    def draw(self, writer: "SummaryWriter", tag: str, reading: Reading, splits: Splits, epoch: int) -> None:
        """Shows the means of the rate and of the ratio, since there may be hundreds of time steps."""
        for quantity in ("rate", "log10_ratio"):
            writer.add_scalar(f"{tag}/{quantity}", reading.values[quantity].mean(), epoch)

    def refusals(self, network: nn.Module, batch: Tensor) -> list[Refusal]:
        """A network without a recurrent state has nothing to measure."""
        hidden, output = (getattr(network, name, None) for name in ("hidden", "output"))
        if isinstance(hidden, Term) and isinstance(output, nn.Module):
            return []
        got = f"{type(network).__name__} has no state that goes from time step to time step"
        allowed = "recurrent networks, whose term of the state is `hidden`, and whose last layer is `output`"
        remedy = "choose model=rnn or model=lstm, or leave it out of probes=[...]"
        return [Refusal("probes.through_time", got, allowed, remedy)]

    def training_batches(self, splits: Splits) -> list[TrainingBatch]:
        """The gradient is that of training mode."""
        return [TrainingBatch.of("batch_size", self.batch_size, "train", splits)]
