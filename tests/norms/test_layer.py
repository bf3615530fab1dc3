import pytest
import torch
from torch import nn

from bn_experiments.norms.layer import LayerNorm
from tests.norms.test_batch import SHAPES, F, drawn, inputs


@pytest.mark.parametrize("over", ["example", "position"])
def test_on_features_alone_it_is_torchs_layer_norm(over):
    x = inputs(6, F)
    ours, theirs = (drawn(norm) for norm in (LayerNorm(F, over=over, eps=1e-3, affine=True), nn.LayerNorm(F, eps=1e-3)))
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_example_is_torchs_layer_norm_of_all_its_axes(shape, affine):
    x, norm = inputs(*shape), drawn(LayerNorm(F, over="example", eps=1e-3, affine=affine))
    whole = nn.LayerNorm(shape[1:], eps=1e-3, elementwise_affine=False).double()(x)
    features_last = whole.movedim(1, -1)
    expected = features_last * norm.weight + norm.bias if affine else features_last
    torch.testing.assert_close(norm(x), expected.movedim(-1, 1))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_a_position_is_normalized_as_if_it_were_an_example(shape, affine):
    x, norm = inputs(*shape), drawn(LayerNorm(F, over="position", eps=1e-3, affine=affine))
    theirs = drawn(nn.LayerNorm(F, eps=1e-3, elementwise_affine=affine))
    flat = x.flatten(2)
    expected = torch.stack([theirs(flat[..., position]) for position in range(flat.shape[-1])], dim=-1).view_as(x)
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm.eval()(x), expected)
