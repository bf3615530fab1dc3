from itertools import pairwise

import pytest
import torch
import torchvision
from torch import nn

from bn_experiments.config import objects
from tests.models.test_models import count, layer, splits

CONVOLUTIONS = {11: 8, 13: 10, 16: 13, 19: 16}  # arXiv:1409.1556, table 1: all weights but three layers
MILLIONS = {
    11: 133,
    13: 133,
    16: 138,
    19: 144,
}  # the same paper, table 2, of networks of 224 x 224 x 3 and 1000 classes


@pytest.mark.parametrize("depth", CONVOLUTIONS)
def test_with_the_papers_hidden_layers_it_has_the_published_number_of_weights(compose_cell, depth):
    config = compose_cell("model=vgg", "norm=none", f"model.depth={depth}", "model.hidden=[4096,4096]").config
    data = splits((3, 224, 224))
    with torch.device("meta"):
        network = objects.network(config, data)
        network.output = nn.Linear(4096, 1000)
        theirs = getattr(torchvision.models, f"vgg{depth}")(weights=None)
    assert count(network) == count(theirs)
    assert round(count(network) / 1e6) == MILLIONS[depth]


@pytest.mark.parametrize("depth", CONVOLUTIONS)
def test_its_convolutional_part_is_torchvisions(compose_cell, depth):
    config = compose_cell("model=vgg", "norm=bn", "norm.bias=keep", f"model.depth={depth}").config
    with torch.device("meta"):
        features = objects.network(config, splits((3, 32, 32))).features
        theirs = getattr(torchvision.models, f"vgg{depth}_bn")(weights=None).features
    features, theirs = features.to_empty(device="cpu"), theirs.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, -0.05 if tensor.dim() > 1 else 0.5, 0.05 if tensor.dim() > 1 else 1.0, generator)
        else:
            tensor.zero_()
    assert len([name for name in features.state_dict() if name.endswith("layer.weight")]) == CONVOLUTIONS[depth]
    pairs = zip(features.state_dict().values(), theirs.state_dict().values(), strict=True)
    for ours, tensor in pairs:
        ours.copy_(tensor)
    x = torch.randn(2, 3, 32, 32, generator=generator)
    for mode in (False, True):
        torch.testing.assert_close(features.train(mode)(x), theirs.train(mode)(x))


@pytest.mark.parametrize("norm", ["none", "bn", "gn", "ln", "in", "rms", "wn"])
@pytest.mark.parametrize("shape", [(1, 40), (3, 32, 32)])
@pytest.mark.few(5)
def test_it_has_the_weights_of_its_layers(compose_cell, shape, norm):
    config = compose_cell("model=vgg", f"norm={norm}", "model.channels=[2,4,6,8,10]", "model.hidden=[12]").config
    kernel = 3 ** (len(shape) - 1)
    widths = [shape[0], 2, 4, 6, 6, 8, 8, 10, 10]
    expected = sum(layer(norm, ins * kernel, outs) for ins, outs in pairwise(widths))
    expected += layer("none" if norm == "in" else norm, 10, 12) + 12 * 10 + 10
    assert count(objects.network(config, splits(shape))) == expected


def test_one_linear_map_reads_the_mean_over_positions(compose_cell):
    config = compose_cell("model=vgg", "norm=none", "model.channels=[2,2,2,2,3]").config
    network, x = objects.network(config, splits((1, 70))), torch.randn(4, 1, 70)
    h = network.features(x)
    assert h.shape == (4, 3, 2)
    torch.testing.assert_close(network(x), network.output(h.mean(2)))


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 31), (3, 32, 31)])
def test_inputs_too_small_for_its_poolings_are_refused(compose_cell, shape):
    with pytest.raises(ValueError, match="too small for 5 poolings by 2; allowed: at least 32 positions an axis"):
        objects.network(compose_cell("model=vgg").config, splits(shape))
