"""The check of a network: it is made without its weights, and batches of the sizes that it gets are pushed through."""

from functools import partial
from typing import Any

import torch
from torch import nn

from bn_experiments.config import objects
from bn_experiments.config.errors import reason_of
from bn_experiments.config.objects import Config
from bn_experiments.data.splits import Splits
from bn_experiments.norms.slot import norms_of
from bn_experiments.refusal import Refusal
from bn_experiments.system.memory import refuse_what_does_not_fit
from bn_experiments.training.initialization import initialize


def network(config: Config, splits: Splits, model: str, norm: str, device: str | None) -> list[Refusal]:
    """What is wrong with the network; what keeps it from being made, or from taking a batch, is raised.

    Args:
        config: The configuration.
        splits: The data set.
        model: The option of the model, for the refusals.
        norm: The option of the norm, for the refusals.
        device: The kind of device that it trains on; None: one of another machine.
    """
    bytes_per_number = 8 if config["trainer"]["precision"] == "64-true" else 4
    fits = refuse_what_does_not_fit(config["replicas"], bytes_per_number, device)
    with fits:
        made = objects.outline(config, splits)
    initialize(made, 0, config["init"], objects.slot(config).scale_init)
    parametrized = any(nn.utils.parametrize.is_parametrized(module) for module in made.modules())
    if config["norm"]["_target_"] and not norms_of(made) and not parametrized:
        got = f"adds nothing to model={model} with norm.layers={config['norm']['layers']}, so it would be norm=none"
        remedy = "choose another model or norm, or set norm.layers"
        raise Refusal("norm", got, "a norm that has a place in the model", remedy, value=norm, no_place=True)
    return _batches(config, _with_numbers(made), splits)


def _with_numbers(network: nn.Module) -> nn.Module:
    """The network with some numbers, always the same: its initialization would take time, and not every one has one."""
    some, network = torch.Generator().manual_seed(0), network.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.1, generator=some) if parameter.is_floating_point() else parameter.zero_()
        for buffer in network.buffers():
            buffer.zero_()
    return network


def _batches(config: Config, network: nn.Module, splits: Splits) -> list[Refusal]:
    """Pushes batches through the network."""
    batching, count = objects.batching(config), len(splits.train)
    sizes = batching.sizes(count)
    if not sizes:
        got = f"more than the {count} training examples, and data.drop_last leaves no batch"
        remedy = "lower it, or set data.drop_last=false"
        raise Refusal("data.batch_size", got, f"1 to {count}", remedy, value=batching.batch_size)
    for size in sorted(sizes - {1}, reverse=True) or [2]:
        if error := _push(network, splits, size):
            if size in (objects.batch_size(config, splits), 2):
                raise error
            got = f"leaves a batch of {size} of the {count} training examples, which fails ({reason_of(error)})"
            remedy = "set data.drop_last=true, or change it"
            raise Refusal("data.batch_size", got, "a size whose rest works", remedy, value=batching.batch_size)
    takes_one = not _push(network, splits, 1)
    if 1 in sizes and not takes_one:
        remedy = "set data.drop_last=true" if objects.batch_size(config, splits) > 1 else "change the norm"
        got = f"leaves a batch of one of the {count} training examples, and the norm needs two"
        allowed = "a size that leaves none or more than one"
        raise Refusal("data.batch_size", got, allowed, f"change it, or {remedy}", value=batching.batch_size)
    batch, probes = torch.zeros(2, *splits.input_shape), [objects.probe(config, name) for name in config["probes"]]
    refusals = [refusal for probe in probes for refusal in probe.refusals(network, batch)]
    taken = sizes | ({1} if takes_one else set())
    return refusals + _batches_of_probes(config, network, splits, taken)


def _batches_of_probes(config: Config, network: nn.Module, splits: Splits, taken: set[int]) -> list[Refusal]:
    """A refusal of each probe that would put a batch through networks in training mode that they do not take.

    Sizes that are known to be taken are not tried.
    """
    refusals = []
    for name, keys in config["probes"].items():
        batches = objects.probe(config, name).training_batches(splits)
        untried = [batch for batch in batches if batch.size not in taken]
        failing = {batch: error for batch in untried if (error := _push(network, splits, batch.size))}
        if failing:
            (option, split, size), error = min(failing.items(), key=lambda one: len(getattr(splits, one[0].split)))
            reason = "and the norm needs two" if size == 1 else f"which fails ({reason_of(error)})"
            count = len(getattr(splits, split))
            got = f"makes a batch of {'one' if size == 1 else size} of the {count} examples of {split}, {reason}"
            remedy = f"change it or the split, or leave {name} out of probes=[...]"
            allowed = "two or more" if size == 1 else "a size whose rest works"
            refusals.append(Refusal(f"probes.{name}.{option}", got, allowed, remedy, value=keys[option]))
    return refusals


def _push(network: nn.Module, splits: Splits, size: int) -> BaseException | None:
    """What goes wrong with a training batch of `size` examples, if anything does."""
    some = torch.Generator().manual_seed(0)
    inside: list[tuple[str, nn.Module, tuple[int, ...]]] = []  # the modules that were called and have not returned
    changing: list[str] = []  # norms that give another shape than they are given
    norms, hooks = list(norms_of(network).values()), []

    def leave(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        name, _, shape = inside.pop()
        if module in norms and _shape((output,)) != shape:
            changing.append(f"{name}, {type(module).__name__}, gives {_shape((output,))} for {shape}")

    for name, module in network.named_modules():
        enter = partial(lambda name, module, given: inside.append((name, module, _shape(given))), name)
        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        logits = network(torch.randn(size, *splits.input_shape, generator=some))
    except (Exception, SystemExit) as error:
        if changing:
            return ValueError(changing[0])
        called = [one for one in inside if one[1] in norms]
        if called:
            return _named(error, *called[-1])
        got = f"takes no examples of the shape {'x'.join(map(str, splits.input_shape))} that the data has"
        allowed, remedy = "a network and data that fit each other", "choose other data, or change the network"
        return error if isinstance(error, Refusal) else Refusal("model", f"{got} ({reason_of(error)})", allowed, remedy)
    finally:
        for hook in hooks:
            hook.remove()
    due = (size, splits.num_classes)
    if tuple(logits.shape) == due:
        return None
    got, allowed = f"gives {tuple(logits.shape)} for a batch of {size}", f"{due}, a number for each class"
    return Refusal("model", got, allowed, "change its last layer")


def _shape(given: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(given[0].shape) if given and isinstance(given[0], torch.Tensor) else ()


def _named(error: BaseException, name: str, module: nn.Module, shape: tuple[int, ...]) -> BaseException:
    """An error of a norm with the norm's place and the shape that it was given."""
    named = ValueError(f"{name}, {type(module).__name__}, does not take {shape}: {reason_of(error)}")
    named.__cause__ = error
    return named
