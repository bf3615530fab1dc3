import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from bn_experiments.norms.matrix import orthogonal, spectral_norm

LAYERS = [nn.Linear(6, 4), nn.Linear(4, 6), nn.Linear(5, 5), nn.Conv1d(3, 4, 5), nn.Conv2d(2, 4, 3)]


def parametrized(layer: nn.Module, make, **options) -> tuple[nn.Module, Tensor]:
    """A layer in float64 with its parametrization, and the weight that it had as a matrix."""
    layer = copy.deepcopy(layer).double()
    matrix = layer.weight.detach().clone().flatten(1)
    make(layer, **options)
    return layer, matrix


@pytest.mark.parametrize("layer", LAYERS)
def test_spectral_norm_divides_by_the_largest_singular_value(layer):
    ours, matrix = parametrized(layer, spectral_norm, n_power_iterations=500, eps=1e-12)
    torch.testing.assert_close(ours.weight.flatten(1), matrix / torch.linalg.matrix_norm(matrix, 2))
    assert ours.weight.shape == layer.weight.shape


@pytest.mark.parametrize("layer", LAYERS)
def test_spectral_norm_equals_torchs_from_its_vectors_through_training_and_evaluation(layer):
    ours, _ = parametrized(layer, spectral_norm, n_power_iterations=1, eps=1e-12)
    theirs = parametrizations.spectral_norm(copy.deepcopy(layer).double())
    for own, its in (("left", "_u"), ("right", "_v")):
        getattr(theirs.parametrizations.weight[0], its).copy_(getattr(ours.parametrizations.weight[0], own))
    steps = torch.linspace(-1, 1, layer.weight.numel(), dtype=torch.float64).view_as(layer.weight)
    for step in range(3):
        for one in (ours, theirs):
            (one.weight * steps.sin()).sum().backward()
            one.parametrizations.weight.original.data += 0.1 * step * steps
        torch.testing.assert_close(*(one.parametrizations.weight.original.grad for one in (ours, theirs)))
        torch.testing.assert_close(ours.weight, theirs.weight)
    state = {name: buffer.clone() for name, buffer in ours.named_buffers()}
    torch.testing.assert_close(ours.eval().weight, theirs.eval().weight)
    assert all(torch.equal(state[name], buffer) for name, buffer in ours.named_buffers())


@pytest.mark.parametrize("make", [spectral_norm, orthogonal])
def test_mixed_precision_leaves_the_weight_as_exact_as_it_is(make):
    layer = nn.Linear(6, 4)
    make(layer, **({"n_power_iterations": 50, "eps": 1e-12} if make is spectral_norm else {}))
    exact = layer.eval().weight
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer.weight, exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", LAYERS)
def test_orthogonal_rows_or_columns_are_orthonormal(layer):
    ours, _ = parametrized(layer, orthogonal)
    rows = ours.weight.flatten(1)
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=torch.float64))
    assert ours.weight.shape == layer.weight.shape


@pytest.mark.parametrize("layer", LAYERS)
def test_orthogonal_is_what_gram_and_schmidt_make_of_the_weight(layer):
    ours, matrix = parametrized(layer, orthogonal)
    transposed = len(matrix) > matrix.shape[1]
    found: list[Tensor] = []
    for row in matrix.T if transposed else matrix:
        rest = row - sum((other * (row @ other) for other in found), torch.zeros_like(row))
        found.append(rest / rest.norm())
    expected = torch.stack(found)
    torch.testing.assert_close(ours.weight.flatten(1), expected.T if transposed else expected)


def test_an_orthogonal_weight_stays_what_it_is():
    layer = nn.Linear(6, 4).double()
    nn.init.orthogonal_(layer.weight)
    ours, matrix = parametrized(layer, orthogonal)
    torch.testing.assert_close(ours.weight, matrix)
