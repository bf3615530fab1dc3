"""Oracles against brute force: integrals, samples and networks."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from bn_experiments import oracles


@pytest.mark.parametrize("c", [-1.0, -0.3, 0.0, 0.5, 0.99, 1.0])
def test_the_rectified_moments_are_those_of_correlated_gaussians(c):
    rng = np.random.default_rng(0)
    u, w = rng.normal(size=(2, 2_000_000))
    v = c * u + math.sqrt(1 - c * c) * w
    product = 2 * np.maximum(u, 0) * np.maximum(v, 0)
    assert oracles.rectified_correlation(c) == pytest.approx(product.mean(), abs=5 * product.std() / 2e6**0.5 + 1e-12)
    both = 2.0 * ((u > 0) & (v > 0))
    assert oracles.rectified_slope(c) == pytest.approx(both.mean(), abs=5 * both.std() / 2e6**0.5 + 1e-12)


def test_the_slope_is_the_derivative_of_the_correlation():
    for c in (-0.7, 0.0, 0.4, 0.9):
        step = 1e-6
        numeric = (oracles.rectified_correlation(c + step) - oracles.rectified_correlation(c - step)) / (2 * step)
        assert oracles.rectified_slope(c) == pytest.approx(numeric, rel=1e-6)


@pytest.mark.parametrize("activation", ["relu", "identity"])
@pytest.mark.parametrize("batch", [6, 16])
def test_the_gradient_factor_is_that_of_one_wide_layer_whose_input_is_settled(batch, activation):
    torch.manual_seed(0)
    width, act = 4000, nn.ReLU() if activation == "relu" else nn.Identity()
    norm = nn.BatchNorm1d(width, affine=False)
    z = torch.randn(batch, width)
    for _ in range(3):  # until the directions of the examples are settled
        z = act(norm(z)) @ torch.randn(width, width) * math.sqrt(2 / width)
    z.requires_grad_()
    out = act(norm(z)) @ torch.randn(width, width) * math.sqrt(2 / width)
    # at a fixed point of the backward pass too, whose gradient a norm has made orthogonal to ones and to the input
    gradient = torch.randn(batch, width)
    for _ in range(2):
        (gradient,) = torch.autograd.grad(out, z, gradient, retain_graph=True)
    (last,) = torch.autograd.grad(out, z, gradient)
    found = (last.square().sum() / gradient.square().sum()).item()
    assert found == pytest.approx(oracles.bn_gradient_factor(batch, activation), rel=0.05)


def test_the_factor_of_large_batches_is_the_published_limit():
    assert oracles.bn_gradient_factor(10**7) == pytest.approx(math.pi / (math.pi - 1), rel=1e-6)
    with pytest.raises(ValueError, match="relu or identity"):
        oracles.bn_gradient_factor(16, "tanh")
    with pytest.raises(ValueError, match="above 3"):
        oracles.bn_gradient_factor(3)


@pytest.mark.parametrize("norm", [nn.Identity(), nn.LayerNorm(2000)])
def test_the_cosine_of_two_examples_follows_the_recursion(norm):
    torch.manual_seed(0)
    width = 2000
    z = torch.randn(2, width)
    for expected in oracles.cosines_by_depth(6)[1:]:
        z = torch.relu(norm(z)) @ torch.randn(width, width) * math.sqrt(2 / width)
        assert torch.cosine_similarity(z[0], z[1], dim=0).item() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("c", [-0.4, 0.0, 0.3, 0.9])
def test_layer_norm_behind_the_relu_takes_off_what_examples_share(c):
    torch.manual_seed(0)
    width = 400_000
    u, w = torch.randn(2, width, dtype=torch.float64)
    pair = torch.stack([u, c * u + math.sqrt(1 - c * c) * w])
    behind = nn.functional.layer_norm(torch.relu(pair), (width,))
    found = torch.cosine_similarity(behind[0], behind[1], dim=0).item()
    assert found == pytest.approx(oracles.centred_correlation(c), abs=5 / width**0.5)


@pytest.mark.parametrize("gain", [1.0, 0.1])
def test_the_moments_of_a_residual_network_are_those_of_a_wide_one(gain):
    torch.manual_seed(0)
    width = 2000
    h = torch.randn(40, width) @ torch.randn(width, width) * math.sqrt(2 / width)
    for q, variance in oracles.residual_moments(5, gain):
        assert h.square().mean().item() == pytest.approx(q, rel=0.1)
        assert h.var(dim=0).mean().item() == pytest.approx(variance, rel=0.1)
        h = h + math.sqrt(gain) * (torch.relu(h) @ torch.randn(width, width)) * math.sqrt(2 / width)


def test_cosines_go_to_one_as_the_square_of_the_depth():
    last = oracles.cosines_by_depth(4000)[-1]
    assert 4000**2 * (1 - last) == pytest.approx(9 * math.pi**2 / 2, rel=0.02)
    assert oracles.bn_cosine(10**7) == pytest.approx(1 / math.pi, rel=1e-6)


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_moments_on_a_sphere_are_those_of_standardized_samples(batch):
    z = np.random.default_rng(0).normal(size=(400_000, batch))
    z = (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True)
    for oracle, values in (
        (oracles.fourth_moment, (z**4).mean(1)),
        (oracles.rectified_mean, np.maximum(z, 0).mean(1)),
    ):
        assert oracle(batch) == pytest.approx(values.mean(), abs=5 * values.std() / 400_000**0.5 + 1e-9)


@pytest.mark.parametrize(("batch", "momentum"), [(2, 0.1), (8, 0.3)])
def test_running_averages_scatter_as_the_oracles_say(batch, momentum):
    z = np.random.default_rng(0).normal(size=(20_000, 120, batch))
    weights = momentum * (1 - momentum) ** np.arange(120)
    means, variances = z.mean(2) @ weights, z.var(2, ddof=1) @ weights
    rest = (1 - momentum) ** 120  # of the start, at the right value
    found = [np.mean(means**2), np.mean((variances + rest - 1) ** 2)]
    expected = [oracles.running_mean_error(batch, momentum), oracles.running_variance_error(batch, momentum)]
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("kept", [0.9, 0.5])
def test_dropout_shifts_the_variance_of_rectified_numbers(kept):
    rng = np.random.default_rng(0)
    h = np.maximum(rng.normal(size=2_000_000), 0)
    dropped = h * (rng.uniform(size=h.shape) < kept) / kept
    assert oracles.dropout_shift(kept) == pytest.approx(h.var() / dropped.var(), rel=0.005)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_weight_under_random_orthogonal_gradients_turns_by_the_angle_of_sgd(momentum):
    torch.manual_seed(0)
    w = torch.randn(40, 200, dtype=torch.float64)
    w.requires_grad_()
    lr, decay, seen = 0.1, 0.04, []
    optimizer = torch.optim.SGD([w], lr, momentum=momentum, weight_decay=decay)
    for step in range(1000):
        before = w.detach().clone()
        unit = before / before.norm(dim=1, keepdim=True)
        g = torch.randn_like(before)
        w.grad = (g - (g * unit).sum(1, keepdim=True) * unit) / before.norm(dim=1, keepdim=True)
        optimizer.step()
        if step >= 800:
            cosine = (unit * w.detach()).sum(1) / w.detach().norm(dim=1)
            seen.append(cosine.clamp(max=1).arccos().square().mean().sqrt().item())
    assert np.mean(seen) == pytest.approx(oracles.angle_of_sgd(lr, decay, momentum), rel=0.01)


def test_a_weight_under_random_orthogonal_gradients_turns_by_the_angle_of_adam():
    torch.manual_seed(0)
    w = 0.1 * torch.randn(40, 200, dtype=torch.float64)
    w.requires_grad_()
    lr, decay, seen = 0.002, 1.0, []
    optimizer = torch.optim.AdamW([w], lr, weight_decay=decay)
    for step in range(2000):
        before = w.detach().clone()
        unit = before / before.norm(dim=1, keepdim=True)
        g = torch.randn_like(before)
        w.grad = g - (g * unit).sum(1, keepdim=True) * unit
        optimizer.step()
        if step >= 1800:
            cosine = (unit * w.detach()).sum(1) / w.detach().norm(dim=1)
            seen.append(cosine.clamp(max=1).arccos().square().mean().sqrt().item())
    assert np.mean(seen) == pytest.approx(oracles.angle_of_adam(lr, decay, 0.9), rel=0.02)


@pytest.mark.parametrize("gain", [0.1, 0.5, 1.0, 2.0])
def test_the_factor_of_a_recurrent_step_is_that_of_a_sample_and_of_a_wide_network(gain):
    width, batch = 1000, 400
    source = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm1d(width, affine=False, eps=1e-9)
    for v in (None, 0, 0.3):
        s = gain * math.sqrt(2 if v is None else 1) * torch.randn(2_000_000, generator=source)
        sampled = gain**2 * (1 - s.tanh().square()).square().mean() / (s.tanh().square().mean() + (v or 0))
        expected = oracles.bn_rnn_factor(gain, v)
        assert sampled.item() == pytest.approx(expected, rel=0.01)
        states = [torch.randn(batch, width, generator=source).requires_grad_()]
        weight = nn.init.orthogonal_(torch.empty(width, width), generator=source)
        for _ in range(6):
            drive = torch.randn(batch, width, generator=source)
            term = states[-1] @ weight
            total = norm(term) + norm(drive) if v is None else norm(term + math.sqrt(v) * drive)
            states.append((gain * total).tanh())
        direction = torch.randn(batch, width, generator=source)
        late, early = torch.autograd.grad((states[-1] * direction).sum(), [states[4], states[3]])
        factor = early.square().sum() / late.square().sum()
        assert factor.item() == pytest.approx(expected, rel=0.04)
