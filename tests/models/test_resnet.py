import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bn_experiments.config import objects
from bn_experiments.norms.slot import Slot, norms_of
from tests.models.test_models import count, linear, norm_weights, splits
from tests.pairs import slow

SMALL = ["model.depth=8", "model.channels=[4,6,8]"]


def resnet(compose_cell, shape, *overrides, seed=0):
    """In float64, with scales and shifts that no one would notice missing if they were ones and zeros."""
    network = objects.initial_network(compose_cell("model=resnet", *overrides).config, splits(shape), seed).double()
    generator = torch.Generator().manual_seed(1)
    for one in norms_of(network).values():
        for parameter in one.parameters():
            nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    return network


def weights(norm: str, depth: int, channels: list[int], inputs: int, dim: int, shortcut: str, pre: bool) -> int:
    """The number of weights of a ResNet, counted layer by layer."""
    blocks = (depth - 2) // (2 * len(channels))

    def conv(ins: int, outs: int, kernel: int, reads_norm: bool) -> int:
        added, bias = norm_weights(norm, outs)
        is_parametrized = norm == "wn"
        keeps = bias or not reads_norm
        return ins * outs * kernel**dim + keeps * outs + (added if reads_norm or is_parametrized else 0)

    total, ins, before = conv(inputs, channels[0], 3, True), channels[0], 0
    for outs in channels:
        for _ in range(blocks):
            total += conv(ins, outs, 3, True) + conv(outs, outs, 3, not pre)
            if pre and norm != "wn":
                total += before  # the norm of the next block's entrance, or the last one
                before = norm_weights(norm, outs)[0]
            if ins != outs and shortcut == "B":
                # with pre-activation no norm follows, and weight normalization has none to be followed by
                total += ins * outs + outs if pre else conv(ins, outs, 1, True)
            ins = outs
    return total + before + linear(channels[-1], 10)


@pytest.mark.parametrize(
    ("depth", "millions"),
    [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)],  # arXiv:1512.03385, table 6
)
def test_it_has_the_published_number_of_weights(compose_cell, depth, millions):
    config = compose_cell("model=resnet", "norm=bn", f"model.depth={depth}").config
    with torch.device("meta"):
        found = count(objects.network(config, splits((3, 32, 32))))
    assert found == weights("bn", depth, [16, 32, 64], 3, 2, "A", False)
    digits = 1 if millions > 1 else 2
    assert round(found / 1e6, digits) == pytest.approx(millions)


@pytest.mark.parametrize("pre", [False, True])
@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("norm", ["none", "bn", "wn", *slow("gn", "ln", "in", "rms")])
@pytest.mark.parametrize("shape", [(1, 40), (3, 32, 32)])
@pytest.mark.few(8)
def test_it_has_the_weights_of_its_layers(compose_cell, shape, norm, shortcut, pre):
    options = [f"model.shortcut={shortcut}", f"model.pre_activation={pre}", "model.channels=[4,6,8]", "model.depth=14"]
    config = compose_cell("model=resnet", f"norm={norm}", *options).config
    with torch.device("meta"):
        network = objects.network(config, splits(shape))
    assert count(network) == weights(norm, 14, [4, 6, 8], shape[0], len(shape) - 1, shortcut, pre)


def batch_norm(norm: nn.Module, h: torch.Tensor) -> torch.Tensor:
    return F.batch_norm(h, None, None, norm.weight, norm.bias, training=True, eps=1e-5)


def subsampled(h: torch.Tensor, channels: int) -> torch.Tensor:
    kept = h[:, :, ::2] if h.dim() == 3 else h[:, :, ::2, ::2]
    return torch.cat([kept, kept.new_zeros(len(kept), channels - kept.shape[1], *kept.shape[2:])], dim=1)


@pytest.mark.parametrize("shape", [(2, 13), (2, 9, 8)])
@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.few(4)
def test_it_equals_the_equations_of_the_first_paper(compose_cell, shape, shortcut, placement):
    network = resnet(
        compose_cell, shape, *SMALL, "norm=bn", f"norm.placement={placement}", f"model.shortcut={shortcut}"
    )
    conv = F.conv1d if len(shape) == 2 else F.conv2d

    def hidden(part, h, stride=1):
        h = conv(h, part.layer.weight, part.layer.bias, stride, padding=1)
        return batch_norm(part.norm, h).relu() if placement == "pre" else batch_norm(part.norm, h.relu())

    x = torch.randn(5, *shape, dtype=torch.float64)
    h = hidden(network.stem, x)
    for i, block in enumerate(network.blocks):
        stride = 1 if i == 0 else 2
        branch = hidden(block.first, h, stride)
        second = block.second.layer
        branch = batch_norm(block.second.norm, conv(branch, second.weight, second.bias, padding=1))
        if i > 0 and shortcut == "A":
            h = subsampled(h, len(branch[0]))
        elif i > 0:
            way = block.shortcut.layer
            h = batch_norm(block.shortcut.norm, conv(h, way.weight, way.bias, 2))
        h = (h + branch).relu()
    torch.testing.assert_close(network(x), network.output(h.flatten(2).mean(2)))


@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_it_equals_the_equations_of_the_second_paper(compose_cell, shortcut, placement):
    options = ["model.pre_activation=true", f"model.shortcut={shortcut}", f"norm.placement={placement}"]
    network = resnet(compose_cell, (2, 13), *SMALL, "norm=bn", *options)

    def active(part, h):
        return batch_norm(part.norm, h).relu() if placement == "pre" else batch_norm(part.norm, h.relu())

    x = torch.randn(5, 2, 13, dtype=torch.float64)
    h = active(network.stem, F.conv1d(x, network.stem.layer.weight, network.stem.layer.bias, padding=1))
    for i, block in enumerate(network.blocks):
        a = h if i == 0 else active(block.entrance, h)
        first, second = block.first.layer, block.second.layer
        branch = active(block.first, F.conv1d(a, first.weight, first.bias, 1 if i == 0 else 2, padding=1))
        branch = F.conv1d(branch, second.weight, second.bias, padding=1)
        if i > 0:
            way = block.shortcut
            h = subsampled(h, len(branch[0])) if shortcut == "A" else F.conv1d(a, way.layer.weight, way.layer.bias, 2)
        h = h + branch
    torch.testing.assert_close(network(x), network.output(active(network.exit, h).mean(2)))


@pytest.mark.parametrize("pre", [False, True])
def test_only_layers_directly_before_a_norm_lose_their_bias(compose_cell, pre):
    network = resnet(compose_cell, (1, 40), *SMALL, "norm=bn", "model.shortcut=B", f"model.pre_activation={pre}")
    kept = {name for name, module in network.named_modules() if getattr(module, "bias", None) is not None}
    kept -= set(norms_of(network))
    after_addition = {f"blocks.{i}.second.layer" for i in range(3)} | {f"blocks.{i}.shortcut.layer" for i in (1, 2)}
    assert kept == {"output"} | (after_addition if pre else set())


@pytest.mark.parametrize("norm", ["bn", "ln", "wn"])
@pytest.mark.parametrize("pre", [False, True])
@pytest.mark.parametrize("init", ["torch", "he_uniform"])
@pytest.mark.few(3)
def test_arms_start_from_the_same_weights(compose_cell, pre, norm, init):
    options = [*SMALL, "model.shortcut=B", f"model.pre_activation={pre}", f"init={init}"]
    arm, baseline = (
        objects.initial_network(compose_cell("model=resnet", f"norm={each}", *options).config, splits((1, 40)), 3)
        for each in (norm, "none")
    )
    layers = [name for name, module in baseline.named_modules() if isinstance(module, nn.Conv1d | nn.Linear)]
    assert len(layers) == 10
    for name in layers:
        ours, theirs = arm.get_submodule(name), baseline.get_submodule(name)
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-6 if norm == "wn" else 0, atol=0)
        assert ours.bias is None or torch.equal(ours.bias, theirs.bias)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["model.depth=18"], r"model\.depth=18: is no depth of 3 stages; allowed: 8, 14, 20 and so on; choose one"),
        (["model.depth=2"], r"model\.depth=2: is no depth"),
        (["model.channels=[8,4]", "model.depth=6"], r"model\.shortcut=A: cannot go from 8 to 4 channels"),
    ],
)
def test_what_does_not_fit_is_refused(compose_cell, overrides, line):
    with pytest.raises(ValueError, match=line):
        objects.network(compose_cell("model=resnet", *overrides).config, splits((1, 40)))


def test_a_vector_is_refused(compose_cell):
    with pytest.raises(ValueError, match="model=resnet: got examples of shape 7; allowed: channels x length or"):
        objects.network(compose_cell("model=resnet").config, splits((7,)))


def test_a_slot_for_linear_layers_alone_leaves_it_without_norms():
    from bn_experiments.models.resnet import ResNet

    slot = Slot("torch.nn.BatchNorm{dim}d", layers="linear")
    options = {"shortcut": "A", "pre_activation": True, "branch_scale": "none", "branch_scale_start": 0.0}
    network = ResNet((1, 8), 2, slot, depth=8, channels=[2, 2, 2], activation="relu", **options)
    assert norms_of(network) == {}
