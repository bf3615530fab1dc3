import copy

import pytest
import torch

from bn_experiments.norms.noisy import NoisyBatchNorm
from bn_experiments.training.initialization import initialize
from tests.norms.test_batch import OPTIONS, SHAPES, F, drawn, inputs, torchs

NOISE = {"mean_range": 0.5, "scale_range": 1.25, "mean_noise": 0.1, "scale_noise": 0.2}
SILENT = {"mean_range": 0.0, "scale_range": 1.0, "mean_noise": 0.0, "scale_noise": 0.0}


def seeded(seed: int = 0, width: int = F, **noise) -> NoisyBatchNorm:
    norm = NoisyBatchNorm(width, **NOISE | noise, **OPTIONS)
    initialize(norm, seed, "torch", "ones")
    return norm.double()


def noise(norm: NoisyBatchNorm, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The factors and the terms of the next step."""
    norm.step.add_(1)
    s, m = norm.noise(torch.zeros(*shape, dtype=torch.float64))
    assert s.dtype == m.dtype == torch.float64
    return s, m


@pytest.mark.parametrize("shape", SHAPES)
def test_without_noise_it_is_torchs_batch_norm(shape):
    x = inputs(*shape)
    ours, theirs = drawn(NoisyBatchNorm(F, **SILENT, **OPTIONS)), drawn(torchs(x, **OPTIONS))
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_are_those_of_batch_norm_times_a_factor_plus_a_term(shape):
    x = inputs(*shape)
    ours, theirs = drawn(seeded()), drawn(torchs(x, **OPTIONS))
    s, m = noise(copy.deepcopy(ours), *shape)
    torch.testing.assert_close(ours(x), s * theirs(x) + m)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    assert ours.step == 1


def test_noise_of_a_feature_has_the_moments_that_are_drawn_for_it():
    n = 100_000
    s, m = noise(seeded(), n, F)
    mu, sigma = m.mean(0), s.mean(0)
    assert (mu.abs() < 0.5).all()
    assert ((sigma > 0.99) & (sigma < 1.26)).all()
    assert m.std(0).sub(0.2 / 12**0.5).abs().max() < 4 * 0.2 / n**0.5  # uniform, 0.2 wide
    assert ((m - mu).abs() < 0.1 + 4 * 0.06 / n**0.5).all()
    assert s.std(0).sub(0.2).abs().max() < 4 * 0.2 / (2 * n) ** 0.5
    assert torch.corrcoef(torch.cat([s, m], dim=1).T).fill_diagonal_(0).abs().max() < 5 / n**0.5


def test_moments_are_drawn_anew_for_each_feature_and_step():
    width, norm = 2000, seeded(width=2000, mean_noise=0.0, scale_noise=0.0)
    moments = []
    for _ in range(2):
        s, m = noise(norm, 3, width, 2)
        assert (s == s[:1, :, :1]).all(), "the same for all elements"
        moments += [s[0, :, 0], m[0, :, 0]]
    for sigma, mu in (moments[:2], moments[2:]):
        assert abs(sigma.mean().item() - 1.125) < 4 * 0.25 / (12 * width) ** 0.5
        assert abs(mu.mean().item()) < 4 * 1.0 / (12 * width) ** 0.5
        assert mu.std().item() == pytest.approx(1 / 12**0.5, rel=0.05)
    assert torch.corrcoef(torch.stack(moments)).fill_diagonal_(0).abs().max() < 4 / width**0.5


def test_noise_depends_on_seed_layer_and_step_alone():
    x, first, second = inputs(6, F), seeded(), seeded()
    first(x)
    torch.manual_seed(99)
    second(inputs(6, F) + 1)
    assert torch.equal(first(x), second(x))
    assert not torch.equal(seeded(seed=1)(x), seeded()(x))
