"""The dry run: what a configuration describes, made without its weights, so that what cannot train is known at once.

A function returns refusals where there can be several, and raises one that is alone.
"""

import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from bn_experiments.config import network_check, objects, stacking
from bn_experiments.config.errors import blamed_on, reason_of
from bn_experiments.config.objects import Config
from bn_experiments.refusal import Refusal, shown
from bn_experiments.seeds import generator, global_state
from bn_experiments.training.attributes import same
from bn_experiments.training.schedules import OF_RUN, advance


def device(config: Config) -> None:
    """Raises a refusal where this machine lacks the accelerator."""
    there = {"auto": True, "cpu": True, "gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    chosen = config["trainer"]["accelerator"]
    if not there[chosen]:
        allowed = ", ".join(name for name, is_there in there.items() if is_there)
        raise Refusal("trainer.accelerator", "there is none here", allowed, "leave it at auto", value=chosen)


@blamed_on("data")
def data(config: Config) -> None:
    """Loads and splits the data, and raises a refusal of what is wrong with it."""
    objects.splits(config)


def augmentation(config: Config, name: str) -> None:
    """Changes two examples, and raises a refusal of an augmentation that cannot, or that replicas could not share."""
    with blamed_on("data"):
        shape = tuple(objects.source(config).train_x.shape[1:])
    with blamed_on(f"augmentation.{name}"):
        augmentation = objects.augmentation(config, name, shape)
        x = torch.randn(2, *shape, generator=generator(0, "augmentation"))
        u = torch.rand(2, augmentation.draws, generator=generator(0, "augmentation"))
        before = global_state()
        changed, alone = augmentation(x.clone(), u), augmentation(x[:1].clone(), u[:1])
        draws = not same(before, global_state())
    path, got = config["augmentation"][name]["_target_"], None
    if (changed.shape, changed.dtype) != (x.shape, x.dtype):
        got = f"makes {changed.dtype} {tuple(changed.shape)} of {x.dtype} {tuple(x.shape)}"
    elif draws:
        got = "draws from the global random generators"
    elif not torch.allclose(changed[:1], alone):
        got = "makes of an example what depends on the others"
    if got:
        allowed = "examples of the same type and shape, each of its own x and u alone"
        raise Refusal(f"augmentation.{name}._target_", got, allowed, "change it", value=path)


def data_and_network(config: Config, model: str, norm: str, elsewhere: bool) -> list[Refusal]:
    """What is wrong with the data, which is raised, and with the network where the data is right.

    Args:
        config: The configuration.
        model: The option of the model, for the refusals.
        norm: The option of the norm, for the refusals.
        elsewhere: Whether it trains on another machine, whose memory is not known.
    """
    with blamed_on("data"):
        splits = objects.splits(config)
    with blamed_on("model, norm"):
        return network_check.network(config, splits, model, norm, None if elsewhere else objects.device(config))


@blamed_on("model, norm, optimizer")
def training(config: Config) -> None:
    """Takes the steps that show whether replicas can be stacked, and raises a refusal where they have to be and cannot.

    Networks, norms and optimizers that are known are not tried (see `stacking.agreement_of`). The others may take a
    minute, so the terminal says that they are.
    """
    if not objects.is_known(config):
        model = config["model"].get("name") or config["model"].get("target") or config["model"]["_target_"]
        norm = config["norm"]["_target_"] or "no norm"
        names = " with ".join(str(path).rpartition(".")[2].replace("{dim}d", "") for path in (model, norm))
        print(f"checking {names}: two steps of two replicas, alone and stacked", flush=True)
    found = stacking.agreement_of(config, objects.splits(config), objects.device(config))
    if config["trainer"]["stack_replicas"] is True:
        _refuse_alone(found.alone)


@blamed_on("model, norm")
def seeds(config: Config) -> None:
    """Raises a refusal where replicas have to be stacked whose constructors make different networks."""
    if config["trainer"]["stack_replicas"] is True:
        _refuse_alone(stacking.unlike(config, objects.splits(config)))


def _refuse_alone(reason: str | None) -> None:
    if reason:
        got = f"the network cannot be stacked ({textwrap.shorten(reason, 200, placeholder='...')})"
        raise Refusal("trainer.stack_replicas=true", got, "auto or false", "set it to auto")


class _Accepted(BaseException):
    """Raised where an optimizer turns from its options to the parameters."""


class _Unread(nn.Module):
    """A network whose parameters are not to be read."""

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Raises `_Accepted`."""
        raise _Accepted


def takes_options(config: Config) -> None:
    """Raises what the optimizer says to its options; torch's do so first, and making a whole one takes two seconds."""
    with suppress(_Accepted), _refused(config, "optimizer"):
        objects.optimizer(config)(_Unread())


def step(config: Config) -> None:
    """Raises what is wrong with the optimizer and the scheduler as they take a step with a weight and a bias."""
    network = nn.ParameterList([torch.zeros(1, 1), torch.zeros(1)])
    for parameter in network:
        parameter.grad = torch.zeros_like(parameter)
    with _refused(config, "optimizer"):
        optimizer = objects.optimizer(config)(network)
        optimizer.step()
    splits = objects.splits(config)
    schedule = objects.schedule(config, splits)
    with _refused(config, "scheduler"):
        scheduler = schedule.make(optimizer)
        _steps_by_itself(config, scheduler)
        optimizer.step()  # a scheduler warns where it steps first
        steps = 1
        if any(config["scheduler"].get(key) is not None for key in OF_RUN):  # it may end before the run does
            length = objects.length(config, splits)
            steps = length.epochs * length.of_epoch(schedule.interval)
        for _ in range(steps):
            advance(scheduler)


def _steps_by_itself(config: Config, scheduler: Any) -> None:
    """Raises a refusal of what is no scheduler of torch's, and of one that waits for a metric."""
    path, got = config["scheduler"]["_target_"], ""
    allowed = "a class or function that makes a torch.optim.lr_scheduler.LRScheduler of an optimizer"
    if not isinstance(scheduler, LRScheduler):
        got = "makes no scheduler of torch's"
    elif needed := [name for name, one in signature(scheduler.step).parameters.items() if one.default is one.empty]:
        got = f"its step needs {', '.join(needed)}, and one rate serves all replicas, each with values of its own"
        allowed = "a scheduler whose rates follow from the step alone"
    if got:
        raise Refusal("scheduler._target_", got, allowed, "choose another one, such as scheduler=step", value=path)


@blamed_on("loss")
def loss(config: Config) -> None:
    """Raises a refusal of a loss that gives no number for each example, or another one in a stack than alone."""
    classes, path = objects.splits(config).num_classes, config["loss"]["_target_"]
    train, _ = objects.losses(config)
    logits = torch.linspace(-2, 2, 6 * classes, dtype=torch.float64).view(2, 3, classes).requires_grad_()
    y = torch.arange(6).view(2, 3) % classes
    stacked, alone = train(logits, y), [train(*pair) for pair in zip(logits, y, strict=True)]
    shapes = [tuple(losses.shape) for losses in (stacked, *alone)]
    allowed = "a function of logits (..., B, C) and y (..., B) that gives the loss (..., B) of each example"
    got = ""
    if shapes != [(2, 3), (3,), (3,)]:
        got = f"gives {shapes[0]} for logits (2, 3, {classes}), and {shapes[1]} for logits (3, {classes})"
    elif not torch.allclose(stacked, torch.stack(alone), equal_nan=True):
        got = "gives other numbers for a stack of replicas than for each of them"
    if got:
        raise Refusal("loss._target_", got, allowed, "change it, so that it keeps the leading axes apart", value=path)
    torch.autograd.grad(stacked.sum(), logits)


@contextmanager
def _refused(config: Config, group: str) -> Iterator[None]:
    """Within it, an error becomes the refusal of options of a group; torch tends to name the argument."""
    try:
        yield
    except Refusal:
        raise
    except (Exception, SystemExit) as error:
        reason, target = reason_of(error), config[group]["_target_"]
        named = [
            f"{group}.{key}={shown(value)}"
            for key, value in objects.options(config, group).items()
            if re.search(rf"\b({key}|{key.removesuffix('s')}\b)".replace("_", "[_ ]"), reason, re.IGNORECASE)
        ]
        got, allowed = f"{target} refuses this ({reason})", f"what the documentation of {target} says"
        raise Refusal(", ".join(named) or group, got, allowed, "change it") from error
