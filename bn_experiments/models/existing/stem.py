"""The stem of an existing network, made for small images."""

from torch import nn

from bn_experiments.refusal import Refusal


def keep_size(network: nn.Module, name: str) -> None:
    """Replaces the stem of a network for large images, in place, so that small images keep their height and width.

    A first convolution of stride 2 with a pooling of stride 2 after it becomes a 3x3 convolution of stride 1 without
    a pooling; so does a first convolution of stride 4. The new weights are drawn as torch draws those of a convolution.

    Args:
        network: The network.
        name: What the user calls the network.

    Raises:
        Refusal: The network does not start in one of these ways.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2, for the stem of small images.
    """
    layers = {path: each for path, each in network.named_modules() if isinstance(each, nn.Conv2d | nn.MaxPool2d)}
    path, *rest = layers or [""]
    first, pool = layers.get(path), next((at for at in rest[:3] if isinstance(layers[at], nn.MaxPool2d)), None)
    stride = first.stride[0] if isinstance(first, nn.Conv2d) else 0
    if not isinstance(first, nn.Conv2d) or stride not in (2, 4) or (stride == 2 and pool is None):
        got = f"{name} does not start with a convolution of stride 4, or of stride 2 and a pooling"
        remedy = "set model.small_images=false"
        raise Refusal("model.small_images", got, "false for this network", remedy, value=True)
    plain = nn.Conv2d(first.in_channels, first.out_channels, 3, padding=1, bias=first.bias is not None)
    network.set_submodule(path, plain)
    if stride == 2 and pool is not None:
        network.set_submodule(pool, nn.Identity())
