"""Norms that read their running statistics as they train, against their definitions written with torch's batch norm."""

import copy

import pytest
import torch

from bn_experiments.norms.batch import others, wide
from bn_experiments.norms.running import BatchRenorm, FrozenBatchNorm
from bn_experiments.refusal import Refusal
from tests.norms.test_batch import OPTIONS, SHAPES, F, drawn, inputs, torchs

LIMITS = {"r_max": 1.5, "d_max": 0.5, "warmup_steps": 2, "r_steps": 6, "d_steps": 4}
FREE = {"r_max": 1e9, "d_max": 1e9, "warmup_steps": 0, "r_steps": 0, "d_steps": 0}


@pytest.mark.parametrize("shape", SHAPES)
def test_frozen_batch_norm_trains_as_torchs_evaluates_and_keeps_what_torchs_keeps(shape):
    x = inputs(*shape)
    ours, theirs = drawn(FrozenBatchNorm(F, **OPTIONS)), drawn(torchs(x, **OPTIONS))
    for step in range(3):
        one, two = ((x + step).clone().requires_grad_() for _ in range(2))
        trained, evaluated = ours(one), theirs.eval()(two)
        torch.testing.assert_close(trained, evaluated)
        for y in (trained, evaluated):
            (y * inputs(*shape).sin()).sum().backward()
        torch.testing.assert_close(one.grad, two.grad)  # statistics that are constants
        theirs.train()(x + step)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def renormalized(norm: BatchRenorm, x: torch.Tensor, r_limit: float, d_limit: float) -> torch.Tensor:
    """Algorithm 1 of the source, with the state of the norm before the batch."""
    mean, sd = norm.running_mean, norm.running_sd
    batch_mean = x.mean(others(x))
    batch_sd = ((x - wide(batch_mean, x)) ** 2).mean(others(x)).add(norm.eps).sqrt()
    r = torch.minimum(torch.maximum(batch_sd / sd, torch.tensor(1 / r_limit)), torch.tensor(r_limit)).detach()
    d = torch.minimum(torch.maximum((batch_mean - mean) / sd, torch.tensor(-d_limit)), torch.tensor(d_limit)).detach()
    y = (x - wide(batch_mean, x)) / wide(batch_sd, x) * wide(r, x) + wide(d, x)
    return y * wide(norm.weight, x) + wide(norm.bias, x)


@pytest.mark.parametrize("shape", SHAPES)
def test_renorm_follows_the_algorithm_of_its_source_while_its_limits_grow(shape):
    norm, x = drawn(BatchRenorm(F, **LIMITS, **OPTIONS)), inputs(*shape)
    r_limits, d_limits = [1, 1, 1, 1.125, 1.25, 1.375, 1.5, 1.5], [0, 0, 0, 0.25, 0.5, 0.5, 0.5, 0.5]
    for step, (r_limit, d_limit) in enumerate(zip(r_limits, d_limits, strict=True)):
        one, two = ((x * (1 + step)).clone().requires_grad_() for _ in range(2))
        expected, before = renormalized(norm, two, float(r_limit), float(d_limit)), copy.deepcopy(norm)
        y = norm(one)
        torch.testing.assert_close(y, expected)
        for z in (y, expected):
            (z * inputs(*shape).sin()).sum().backward()
        torch.testing.assert_close(one.grad, two.grad)
        mean, sd = two.mean(others(x)), two.var(others(x), unbiased=False).add(norm.eps).sqrt()
        torch.testing.assert_close(norm.running_mean, 0.9 * before.running_mean + 0.1 * mean)
        torch.testing.assert_close(norm.running_sd, 0.9 * before.running_sd + 0.1 * sd)


def test_renorm_is_torchs_batch_norm_during_its_warm_up():
    x = inputs(6, F)
    ours = drawn(BatchRenorm(F, **LIMITS | {"warmup_steps": 3}, **OPTIONS))
    theirs = drawn(torchs(x, **OPTIONS))
    for step in range(3):
        torch.testing.assert_close(ours(x * (1 + step)), theirs(x * (1 + step)))


@pytest.mark.parametrize(
    ("warmup", "end", "r_limits"), [(0, 0, [3, 3]), (1, 1, [1, 3]), (1, 0, [1, 3]), (0, 2, [1, 2])]
)
def test_limits_that_do_not_grow_are_there_after_the_warm_up(warmup, end, r_limits):
    limits = {"r_max": 3.0, "d_max": 2.0, "warmup_steps": warmup, "r_steps": end, "d_steps": end}
    norm = BatchRenorm(F, **limits, **OPTIONS)
    for r_limit in r_limits:
        assert [limit.item() for limit in norm.limits()] == [r_limit, r_limit - 1]
        norm(torch.randn(6, F))


@pytest.mark.parametrize("shape", SHAPES)
def test_renorm_without_limits_trains_as_it_evaluates(shape):
    norm, x = drawn(BatchRenorm(F, **FREE, **OPTIONS)), inputs(*shape)
    for _ in range(3):
        norm(x)
    evaluated = copy.deepcopy(norm).eval()(2 * x)
    torch.testing.assert_close(norm(2 * x), evaluated)


@pytest.mark.parametrize("norm", [FrozenBatchNorm(F, **OPTIONS), BatchRenorm(F, **LIMITS, **OPTIONS)])
def test_one_value_for_each_feature_is_refused(norm):
    with pytest.raises(Refusal, match="one value for each feature"):
        norm(torch.randn(1, F))
    assert norm.num_batches_tracked == 0
