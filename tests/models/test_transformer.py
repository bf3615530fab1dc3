import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bn_experiments.config import objects
from bn_experiments.models.tokens import Attention, patches
from bn_experiments.norms.slot import norms_of
from tests.models.test_models import count, linear, norm_weights, splits
from tests.pairs import slow

SMALL = ["model.width=12", "model.depth=2", "model.heads=3", "model.hidden=20"]
PER_TOKEN = ["norm=none", "norm._target_=tests.models.test_transformer.PerToken"]


class PerToken(nn.Module):
    """The layer norm of each token (B, D, T)."""

    def __init__(self, width: int):
        super().__init__()
        self.inner = nn.LayerNorm(width)

    def forward(self, x):
        return self.inner(x.mT).mT


def transformer(compose_cell, *overrides, shape=(1, 40)):
    """In float64, with norms, positions and class token off their start values."""
    network = objects.initial_network(compose_cell("model=transformer", *SMALL, *overrides).config, splits(shape), 0)
    generator = torch.Generator().manual_seed(1)
    for module in (*norms_of(network).values(), network.tokens):
        for parameter in module.parameters():
            nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    return network.double()


def torchs(block: nn.Module, norm_first: bool) -> nn.Module:
    """torch's layer with the weights of a block of ours."""
    theirs = nn.TransformerEncoderLayer(12, 3, 20, 0.0, F.gelu, batch_first=True, norm_first=norm_first).double()
    attention, network = block.attention.branch, block.network.branch
    pairs = {
        theirs.self_attn.out_proj: attention.outputs,
        theirs.linear1: network.inputs,
        theirs.linear2: network.outputs,
        theirs.norm1: block.attention.norm.inner,
        theirs.norm2: block.network.norm.inner,
    }
    for own, ours in pairs.items():
        own.load_state_dict(ours.state_dict())
    theirs.self_attn.in_proj_weight.data, theirs.self_attn.in_proj_bias.data = attention.inputs.parameters()
    return theirs


@pytest.mark.parametrize("position", ["pre", "post"])
@pytest.mark.parametrize("pooling", ["mean", "class_token"])
@pytest.mark.few(2)
def test_with_a_norm_of_each_token_its_blocks_are_torchs(compose_cell, position, pooling):
    network = transformer(compose_cell, *PER_TOKEN, f"model.norm_position={position}", f"model.pooling={pooling}")
    x = torch.randn(5, 1, 40, dtype=torch.float64)
    h = network.embedding(x.view(5, 10, 4).mT).mT  # (B, T, D)
    if pooling == "class_token":
        h = torch.cat([network.tokens.class_token.expand(5, 1, 12), h], dim=1)
    h = h + network.tokens.positions.T
    for block in network.blocks:
        h = torchs(block, norm_first=position == "pre")(h)
    if position == "pre":
        h = network.norm.inner(h)
    expected = network.output(h.mean(1) if pooling == "mean" else h[:, 0])
    torch.testing.assert_close(network(x), expected)


def test_attention_is_torchs_and_its_derivatives_are(compose_cell):
    ours = Attention(12, 3).double()
    theirs = nn.MultiheadAttention(12, 3, batch_first=True).double()
    theirs.out_proj.load_state_dict(ours.outputs.state_dict())
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = (one.detach().clone() for one in ours.inputs.parameters())
    x = torch.randn(2, 7, 12, dtype=torch.float64, requires_grad=True)
    expected, _ = theirs(x, x, x)
    torch.testing.assert_close(ours(x.mT).mT, expected)
    (gradient,), (due,) = (torch.autograd.grad(y.square().sum(), x) for y in (ours(x.mT).mT, expected))
    torch.testing.assert_close(gradient, due)


def test_patches_are_the_inputs_of_a_convolution_with_their_size_as_stride():
    signals, images = torch.randn(2, 3, 12), torch.randn(2, 3, 8, 12)
    weight = torch.randn(5, 3, 4)
    torch.testing.assert_close(weight.flatten(1) @ patches(signals, 4), F.conv1d(signals, weight, stride=4))
    weight = torch.randn(5, 3, 4, 4)
    expected = F.conv2d(images, weight, stride=4).flatten(2)
    torch.testing.assert_close(weight.flatten(1) @ patches(images, 4), expected)


@pytest.mark.parametrize("position", ["pre", "post"])
@pytest.mark.parametrize("pooling", ["mean", "class_token"])
@pytest.mark.parametrize("norm", ["none", "bn", "wn", *slow("gn", "ln", "rms")])
@pytest.mark.parametrize(("shape", "tokens", "features"), [((1, 40), 10, 4), ((3, 32, 32), 64, 48)])
@pytest.mark.few(8)
def test_it_has_the_weights_of_its_layers(compose_cell, shape, tokens, features, norm, pooling, position):
    options = [*SMALL, f"model.norm_position={position}", f"model.pooling={pooling}", f"norm={norm}"]
    network = objects.network(compose_cell("model=transformer", *options).config, splits(shape))
    block = linear(12, 36) + linear(12, 12) + linear(12, 20) + linear(20, 12)
    added, _ = norm_weights(norm, 12)
    norms = 4 + (position == "pre")
    extra = norms * added if norm != "wn" else 12 + 2 * (36 + 12 + 20 + 12)  # a length for each unit of each layer
    class_token = pooling == "class_token"
    embedding = linear(features, 12) + 12 * (tokens + class_token) + 12 * class_token
    assert count(network) == embedding + 2 * block + extra + linear(12, 10)


def test_vit_base_has_the_published_number_of_weights(compose_cell):
    # ViT-Base of arXiv:2010.11929, table 1: 86 M; with 1000 classes torchvision's vit_b_16 has 86,567,656
    options = ["model.patch_size=16", "model.width=768", "model.depth=12", "model.heads=12", "model.hidden=3072"]
    config = compose_cell("model=transformer", *options, "model.pooling=class_token", *PER_TOKEN).config
    with torch.device("meta"):
        network = objects.network(config, splits((3, 224, 224)))
    assert count(network) + 769 * 990 == 86_567_656


def test_a_norm_is_given_features_on_the_second_axis(compose_cell):
    network = transformer(compose_cell, "norm=bn", shape=(3, 32, 32))
    seen = []
    for norm in norms_of(network).values():
        norm.register_forward_hook(lambda module, inputs, output: seen.append(tuple(inputs[0].shape)))
    network(torch.randn(2, 3, 32, 32, dtype=torch.float64))
    assert seen == [(2, 12, 64)] * 5


@pytest.mark.parametrize("norm", ["bn", "ln", "wn"])
@pytest.mark.few(1)
def test_arms_start_from_the_same_weights(compose_cell, norm):
    arm, baseline = (
        objects.initial_network(
            compose_cell("model=transformer", "model.pooling=class_token", f"norm={each}").config, splits((1, 40)), 3
        )
        for each in (norm, "none")
    )
    for name, module in baseline.named_modules():
        if isinstance(module, nn.Linear):
            ours = arm.get_submodule(name)
            torch.testing.assert_close(ours.weight, module.weight, rtol=1e-6 if norm == "wn" else 0, atol=0)
            assert torch.equal(ours.bias, module.bias)
    assert torch.equal(arm.tokens.positions, baseline.tokens.positions)
    assert baseline.tokens.positions.std().item() == pytest.approx(0.02, rel=0.15)
    assert not baseline.tokens.class_token.any()


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["model.patch_size=7"],
            r"model\.patch_size=7: does not divide examples of shape 1x40; allowed: 1, 2, 4, 5, 8",
        ),
        (["model.heads=5"], r"model\.heads=5: does not divide the width 64; allowed: a divisor of model\.width"),
        (["norm.placement=post"], r"norm\.placement=post: model=transformer has its norms at its branches"),
    ],
)
def test_what_does_not_fit_is_refused(compose_cell, overrides, line):
    with pytest.raises(ValueError, match=line):
        objects.network(compose_cell("model=transformer", *overrides).config, splits((1, 40)))
