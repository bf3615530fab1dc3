"""Where existing networks come from: torchvision, timm, and one's own class."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hydra.utils import instantiate
from torch import nn

from bn_experiments.imports import imported
from bn_experiments.models.existing.network import Existing
from bn_experiments.models.existing.stem import keep_size
from bn_experiments.norms.sites import look
from bn_experiments.norms.slot import Slot
from bn_experiments.refusal import Refusal, nearest

NO_AUXILIARY = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}
SIZED = {"vit": "image_size", "maxvit": "input_size"}  # torchvision's families whose weights depend on the size


def of_torchvision(
    input_shape: Sequence[int],
    num_classes: int,
    norm: Slot,
    *,
    name: str,
    replaces: str,
    small_images: bool,
    **options: Any,
) -> Existing:
    """A classification network of torchvision.

    Args:
        input_shape: The shape of one example, (C, H, W) with one or three channels.
        num_classes: The number of classes.
        norm: The slot of the arm.
        name: The name of the network in torchvision, such as resnet18.
        replaces: The norms that are replaced (see `norms.surgery.replace_norms`).
        small_images: Whether a stem that makes a quarter of the image's height and width keeps them whole.
        **options: Further arguments of torchvision's function.

    Raises:
        Refusal: There is no such network, or its norms cannot be replaced.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise Refusal("model.name", "torchvision has no such classification network", "a name of "
                      "torchvision.models.list_models()", nearest(name, known) or "change it", value=name)  # fmt: skip
    given = {"num_classes": num_classes, **NO_AUXILIARY.get(name, {}), **options}
    if size := SIZED.get(name.partition("_")[0]):
        sides = tuple(input_shape[1:])
        given.setdefault(size, sides if size == "input_size" else sides[0])
    return _existing(lambda: models.get_model(name, **given), input_shape, norm, name, replaces, small_images, 3)


def of_timm(
    input_shape: Sequence[int],
    num_classes: int,
    norm: Slot,
    *,
    name: str,
    replaces: str,
    small_images: bool,
    **options: Any,
) -> Existing:
    """A network of timm, made for the channels, the size of the images and the classes of the data.

    Args:
        input_shape: The shape of one example, (C, H, W).
        num_classes: The number of classes.
        norm: The slot of the arm.
        name: The name of the network in timm, such as vit_tiny_patch16_224.
        replaces: The norms that are replaced (see `norms.surgery.replace_norms`).
        small_images: Whether a stem that makes a quarter of the image's height and width keeps them whole.
        **options: Further arguments of `timm.create_model`.

    Raises:
        Refusal: timm is not installed, there is no such network, or its norms cannot be replaced.
    """
    try:
        import timm
    except ImportError as error:
        remedy = "install it with: pip install timm"
        raise Refusal("model", "its package is not installed", "timm where it is", remedy, value="timm") from error
    if not timm.is_model(name.partition(".")[0]):
        allowed, remedy = "a name of timm.list_models()", nearest(name, timm.list_models()) or "change it"
        raise Refusal("model.name", "timm has no such network", allowed, remedy, value=name)
    given = {"num_classes": num_classes, "in_chans": input_shape[0], **options}
    sized = {"img_size": tuple(input_shape[1:]), **given}

    def make() -> nn.Module:
        try:
            return timm.create_model(name, **sized)
        except TypeError:  # of a network that takes any size
            return timm.create_model(name, **given)

    return _existing(make, input_shape, norm, name, replaces, small_images, input_shape[0])


def own(
    input_shape: Sequence[int],
    num_classes: int,
    norm: Slot,
    *,
    target: str | None,
    replaces: str,
    small_images: bool,
    **options: Any,
) -> Existing:
    """A network of one's own, of any class or function that makes one.

    Args:
        input_shape: The shape of one example, (C, ...); it goes to the class if that has an argument of this name.
        num_classes: The number of classes; it goes to the class if that has an argument of this name.
        norm: The slot of the arm.
        target: The dotted path of the class.
        replaces: The norms that are replaced (see `norms.surgery.replace_norms`).
        small_images: Whether a stem that makes a quarter of the image's height and width keeps them whole.
        **options: Further arguments of the class; one with a `_target_` is made first.

    Raises:
        Refusal: There is no such class, or its norms cannot be replaced.
    """
    allowed = "the dotted path of an installed class or function that makes a network"
    if target is None:
        raise Refusal("model.target", "is missing", allowed, "set it, as in model.target=my_package.MyNet")
    make = imported(target, "model.target", allowed)
    takes = inspect.signature(make).parameters
    given = {"input_shape": tuple(input_shape), "num_classes": num_classes}
    given = {key: value for key, value in given.items() if key in takes}
    options = {
        key: instantiate(value, _convert_="all") if isinstance(value, dict) else value for key, value in options.items()
    }
    name = target.rpartition(".")[2]
    return _existing(lambda: make(**given, **options), input_shape, norm, name, replaces, small_images, None)


def _existing(
    make: Callable[[], nn.Module],
    input_shape: Sequence[int],
    norm: Slot,
    name: str,
    replaces: str,
    small_images: bool,
    channels: int | None,
) -> Existing:
    network = _made(make)
    if small_images:
        keep_size(network, name)
    return Existing(network, norm, input_shape, replaces, channels or _channels(network, input_shape), name)


def _channels(network: nn.Module, input_shape: Sequence[int]) -> int:
    """The channels that a network is given: those of the data, or three where it does not take the one of the data."""
    first = next(
        (module for module in network.modules() if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)), None
    )
    if input_shape[0] != 1 or first is None or first.in_channels != 3:
        return input_shape[0]
    try:
        look(network, input_shape)
    except Exception:
        return 3
    return 1  # which the network repeats itself


def _made(make: Callable[[], nn.Module]) -> nn.Module:
    """The network, without its numbers where torch makes none, whether or not its constructor can do without them."""
    if torch.get_default_device().type != "meta":
        return make()
    try:
        return make()
    except Exception:  # of a constructor that reads a number off a tensor
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            return make().to("meta")
