"""The norms over a batch against torch's batch norm, or against their formula written out for each feature."""

import math

import pytest
import torch
from torch import nn

from bn_experiments.norms.batch import BatchCenter, BatchNorm, BatchScale, L1BatchNorm
from bn_experiments.refusal import Refusal

F = 4
SHAPES = [(6, F), (5, F, 3), (4, F, 3, 2)]
OPTIONS = {"eps": 1e-3, "momentum": 0.1, "affine": True}


def inputs(*shape: int) -> torch.Tensor:
    return 3 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1


def drawn(norm: nn.Module) -> nn.Module:
    """The norm in float64 with parameters that no one would overlook."""
    for parameter in norm.double().parameters():
        nn.init.uniform_(parameter, 0.5, 1.5, generator=torch.Generator().manual_seed(len(parameter.shape)))
    return norm


def torchs(x: torch.Tensor, **options) -> nn.Module:
    return getattr(nn, f"BatchNorm{max(x.dim() - 2, 1)}d")(F, **options)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_in_parts_equals_torchs_in_outputs_gradients_and_state(shape, momentum, affine):
    options = OPTIONS | {"momentum": momentum, "affine": affine}
    x = inputs(*shape)
    ours, theirs = drawn(BatchNorm(F, **options)), drawn(torchs(x, **options))
    assert dict(ours.named_parameters()).keys() == dict(theirs.named_parameters()).keys()
    for step in range(3):
        one, two = ((x + step).clone().requires_grad_() for _ in range(2))
        for norm, given in ((ours, one), (theirs, two)):
            (norm(given) * inputs(*shape).sin()).sum().backward()
        torch.testing.assert_close(ours(one), theirs(two))
        torch.testing.assert_close(one.grad, two.grad)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def rows(x: torch.Tensor, feature: int) -> list[float]:
    """All values of a feature, as numbers."""
    return x[:, feature].flatten().tolist()


def by_hand(kind: type, values: list[float], eps: float) -> tuple[list[float], dict[str, float]]:
    """The normalized values and the new statistics of a feature, in Python's numbers."""
    n = len(values)
    mean = sum(values) / n
    var = sum((value - mean) ** 2 for value in values) / n
    dev = sum(abs(value - mean) for value in values) / n * math.sqrt(math.pi / 2)
    if kind is BatchCenter:
        return [value - mean for value in values], {"mean": mean}
    if kind is BatchScale:
        return [value / math.sqrt(var + eps) for value in values], {"var": var * n / (n - 1)}
    return [(value - mean) / (dev + eps) for value in values], {"mean": mean, "dev": dev}


@pytest.mark.parametrize("kind", [BatchCenter, BatchScale, L1BatchNorm])
@pytest.mark.parametrize("shape", SHAPES)
def test_parts_of_batch_norm_follow_their_formula_and_keep_what_they_measure(kind, shape):
    norm, x = drawn(kind(F, **OPTIONS)), inputs(*shape)
    y = norm(x)
    for feature in range(F):
        values, statistics = by_hand(kind, rows(x, feature), OPTIONS["eps"])
        gamma, beta = norm.weight[feature].item(), norm.bias[feature].item()
        assert rows(y, feature) == pytest.approx([gamma * value + beta for value in values])
        for name, value in statistics.items():
            start = 0.0 if name == "mean" else 1.0
            assert getattr(norm, f"running_{name}")[feature].item() == pytest.approx(0.9 * start + 0.1 * value)
    buffers = {f"running_{name}" for name in statistics} | {"num_batches_tracked"}
    assert dict(norm.named_buffers()).keys() == buffers


@pytest.mark.parametrize("kind", [BatchCenter, BatchScale, L1BatchNorm])
@pytest.mark.parametrize("shape", SHAPES)
def test_evaluation_uses_the_running_statistics_and_changes_none(kind, shape):
    norm, x = drawn(kind(F, **OPTIONS | {"momentum": 1.0})), inputs(*shape)
    trained = norm(x)
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    n = x.numel() // F
    evaluated = norm.eval()(x)
    if kind is BatchScale:  # whose running variance is the unbiased one
        norm.running_var.mul_((n - 1) / n)
        evaluated = norm(x)
        norm.running_var.copy_(before["running_var"])
    torch.testing.assert_close(evaluated, trained)
    assert all(torch.equal(before[name], buffer) for name, buffer in norm.named_buffers())


def test_l1_batch_norm_of_normal_numbers_is_batch_norm():
    x = inputs(100_000, F)
    l1, l2 = (kind(F, eps=0.0, momentum=0.1, affine=False).double()(x) for kind in (L1BatchNorm, BatchNorm))
    torch.testing.assert_close(l1, l2, rtol=0.01, atol=0)  # 1.1% is four standard errors of a deviation


def test_center_and_scale_together_are_batch_norm():
    x = inputs(6, F)
    center, scale = (kind(F, **OPTIONS).double() for kind in (BatchCenter, BatchScale))
    torch.testing.assert_close(scale(center(x)), BatchNorm(F, **OPTIONS).double()(x))


def test_statistics_can_start_anew_as_torchs():
    norm = L1BatchNorm(F, **OPTIONS).double()
    norm(inputs(6, F))
    norm.reset_running_stats()
    assert norm.running_mean.eq(0).all()
    assert norm.running_dev.eq(1).all()
    assert norm.num_batches_tracked == 0


def test_one_value_for_each_feature_is_refused_in_training_alone():
    norm = BatchNorm(F, **OPTIONS).double()
    with pytest.raises(Refusal, match=r"data\.batch_size=1: gives the norm one value for each feature"):
        norm(inputs(1, F))
    assert norm(inputs(1, F, 2)).shape == (1, F, 2)
    assert norm.eval()(inputs(1, F)).shape == (1, F)
