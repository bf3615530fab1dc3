"""Schedules: learning rates that change by epoch or by step, the same for plain, captured and continued training."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from bn_experiments.refusal import Refusal

Interval = Literal["epoch", "step"]
OF_RUN = ("total_steps", "num_training_steps", "T_max")  # what torch and transformers call the steps of the whole run
MAX_LR = "max_lr"
MOST_GROWTH = 80  # of the logarithm of a rate, which float32 holds


class Length(NamedTuple):
    """How long a run is.

    Args:
        epochs: The number of epochs.
        steps_per_epoch: The number of mini-batches in an epoch.
    """

    epochs: int
    steps_per_epoch: int

    def of_epoch(self, interval: Interval) -> int:
        """The steps in an epoch of a schedule that steps at this interval."""
        return self.steps_per_epoch if interval == "step" else 1


class RateSchedule(NamedTuple):
    """How the learning rate changes.

    Args:
        make: The function that makes a scheduler of an optimizer.
        interval: When it steps: at the end of every epoch, or after every mini-batch.
    """

    make: Callable[[Optimizer], LRScheduler]
    interval: Interval

    @classmethod
    def of(cls, target: Callable[..., LRScheduler], options: Mapping[str, Any], length: Length) -> "RateSchedule":
        """The schedule of a class, or function, that takes an optimizer and options.

        It is given what it takes and the options do not set, or set to null: the steps of the schedule in the whole run
        as `total_steps`, `num_training_steps` or `T_max`, those in an epoch as `steps_per_epoch`, and the rate of each
        group of parameters as `max_lr`.

        Args:
            target: The class or function.
            options: Its arguments, and `interval`.
            length: The length of the run.
        """
        own = {key: value for key, value in options.items() if key != "interval"}
        unset = unset_of(target, own)
        in_epoch = length.of_epoch(options["interval"])
        own |= dict.fromkeys(unset & {*OF_RUN}, max(length.epochs * in_epoch, 1))
        own |= dict.fromkeys(unset & {"steps_per_epoch"}, in_epoch)

        def make(optimizer: Optimizer) -> LRScheduler:
            peaks = {MAX_LR: [group["lr"] for group in optimizer.param_groups]} if MAX_LR in unset else {}
            return target(optimizer, **{**own, **peaks})

        return cls(make, options["interval"])


def unset_of(target: Callable[..., Any], options: Mapping[str, Any]) -> set[str]:
    """The arguments of a scheduler that the run gives it (see `RateSchedule.of`)."""
    takes = inspect.signature(target).parameters
    return {name for name in (*OF_RUN, "steps_per_epoch", MAX_LR) if name in takes and options.get(name) is None}


def takes_interval(interval: Interval) -> None:
    """The signature of the key that every scheduler has beside its own."""


class WarmupCosine(LRScheduler):
    """A linear warm-up, then half a cosine.

    In step t = 0, 1, ... of T, of which W are the warm-up's, a group whose learning rate is lr has the rate
    lr (t + 1) / W where t < W, and eta_min + (lr - eta_min) (1 + cos(pi (t - W) / (T - W))) / 2 from there on.

    Args:
        optimizer: The optimizer.
        total_steps: T, the steps of the schedule in the run.
        steps_per_epoch: The steps of the schedule in an epoch.
        warmup_epochs: W in epochs, where `warmup_steps` is None.
        warmup_steps: W.
        eta_min: The rate that the cosine ends at.

    Raises:
        Refusal: The warm-up is longer than the run.

    Source: He et al. 2019, arXiv:1812.01187, sections 3.1 and 5.1, equation 1.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: PositiveInt,
        steps_per_epoch: PositiveInt,
        *,
        warmup_epochs: NonNegativeFloat,
        warmup_steps: NonNegativeInt | None,
        eta_min: NonNegativeFloat,
    ):
        self.total_steps = total_steps
        self.warmup = round(warmup_epochs * steps_per_epoch) if warmup_steps is None else warmup_steps
        self.eta_min = eta_min
        if self.warmup > total_steps:
            key, value = ("epochs", warmup_epochs) if warmup_steps is None else ("steps", warmup_steps)
            got = f"a warm-up of {self.warmup} steps of the schedule, in a run of {total_steps}"
            allowed = f"a warm-up of at most {total_steps}"
            raise Refusal(f"scheduler.warmup_{key}", got, allowed, "lower it, or train longer", value=value)
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rate of each group in the current step."""
        step, length = self.last_epoch, max(self.total_steps - self.warmup, 1)
        if step < self.warmup:
            return [rate * (step + 1) / self.warmup for rate in self.base_lrs]
        share = (1 + math.cos(math.pi * min(step - self.warmup, length) / length)) / 2
        return [self.eta_min + (rate - self.eta_min) * share for rate in self.base_lrs]


class DecayEquivalent(LRScheduler):
    """Growing rates that do to scale-invariant weights what weight decay does at a constant rate.

    With w' = (1 - eta lambda)^-t w, step t = 0, 1, ... of SGD without decay and with the rate
    eta (1 - eta lambda)^(-2 t - 1) goes through the same functions as SGD with the rate eta and the decay lambda, if a
    norm takes out the scale of w: there the gradient at w' is that at w divided by the scale. The group
    `scale_invariant` of the optimizer has these rates, all others keep theirs; without a norm it is empty.

    Args:
        optimizer: The optimizer, of which one group is of the kind `scale_invariant`.
        total_steps: The steps of the schedule in the run.
        weight_decay: lambda.

    Raises:
        Refusal: The optimizer is not SGD without momentum, eta lambda is not below 1, or the rates grow beyond e^80.

    Source: Li & Arora 2020, arXiv:1910.07454, for SGD without momentum.
    """

    KIND = "scale_invariant"

    def __init__(self, optimizer: Optimizer, total_steps: PositiveInt, *, weight_decay: NonNegativeFloat):
        self.weight_decay = weight_decay
        if not isinstance(optimizer, SGD) or any(group["momentum"] for group in optimizer.param_groups):
            got = "the law of growing rates is that of SGD without momentum"
            raise Refusal("optimizer", got, "optimizer=sgd optimizer.momentum=0", "set it, or choose another scheduler")
        rates = [float(group["lr"]) for group in optimizer.param_groups if group.get("kind") == self.KIND]
        for rate in rates:
            product = rate * weight_decay
            if product >= 1 or -(2 * total_steps + 1) * math.log1p(-product) > MOST_GROWTH:
                got = f"a rate of {rate:g} grows beyond all bounds in {total_steps} steps"
                remedy = "lower it, the rate, or the steps"
                raise Refusal("scheduler.weight_decay", got, "less growth than e^80", remedy, value=weight_decay)
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rate of each group in the current step."""
        grows = [group.get("kind") == self.KIND for group in self.optimizer.param_groups]
        exponent = -2 * self.last_epoch - 1
        return [
            rate * (1 - rate * self.weight_decay) ** exponent if own else rate
            for rate, own in zip(map(float, self.base_lrs), grows, strict=True)
        ]


def advance(scheduler: LRScheduler) -> None:
    """Steps a scheduler, which reckons in numbers where the rates lie on the device.

    Many schedulers make the next rate of the last one. In float32 on the device each step would add its rounding, and
    so would a run that goes on from a captured one: they get the last rate as they left it.
    """
    groups = scheduler.optimizer.param_groups
    held = [group["lr"] for group in groups]
    for group, rate in zip(groups, scheduler.get_last_lr(), strict=True):
        group["lr"] = float(rate)
    scheduler.step()
    for group, rate in zip(groups, held, strict=True):
        if isinstance(rate, Tensor):
            rate.fill_(float(group["lr"]))
            group["lr"] = rate
