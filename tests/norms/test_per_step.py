import copy

import pytest
import torch
from torch import nn

from bn_experiments.norms.per_step import PerStep
from bn_experiments.norms.slot import norms_of
from bn_experiments.training.initialization import initialize
from bn_experiments.training.replicas import StackedReplicas

WIDTH, STEPS = 4, 3


class Recurrence(nn.Module):
    """x, normalized over and over, with something done to it in between."""

    def __init__(self, norm: PerStep, length: int):
        super().__init__()
        self.norm = norm
        self.length = length

    def forward(self, x):
        for step in range(self.length):
            x = self.norm(x, step).sin() + x.square()
        return x


class Calls(nn.Module):
    """A norm that puts a new tensor in the place of its buffer, and has one that no file keeps."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("sums", torch.zeros(WIDTH), persistent=False)

    def forward(self, x):
        self.calls = self.calls + 1
        self.sums += x.sum(0)
        return x + self.calls


def batch_norm() -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(WIDTH).double()
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    return norm


def trained_apart(norm: nn.Module, x: torch.Tensor) -> list[nn.Module]:
    """A norm for each step, after one training pass of `Recurrence` written out."""
    norms = [copy.deepcopy(norm) for _ in range(STEPS)]
    for one in norms:
        x = one(x).sin() + x.square()
    return norms


def test_each_step_has_the_statistics_of_a_norm_of_its_own():
    norm, x = batch_norm(), torch.rand(8, WIDTH, dtype=torch.float64)
    apart = trained_apart(norm, x)
    Recurrence(PerStep(norm, STEPS), STEPS)(x)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(norm, name), torch.stack([getattr(one, name) for one in apart]))
    assert not torch.equal(norm.running_mean[0], norm.running_mean[1])


def test_evaluation_reads_each_steps_statistics_and_changes_none():
    norm, x = batch_norm(), torch.rand(8, WIDTH, dtype=torch.float64)
    apart = [one.eval() for one in trained_apart(norm, x)]
    per_step = PerStep(norm, STEPS)
    Recurrence(per_step, STEPS)(x)
    per_step.eval()
    before = copy.deepcopy(norm.state_dict())
    for step, one in enumerate(apart):
        assert torch.equal(per_step(x, step), one(x))
    assert all(torch.equal(before[name], tensor) for name, tensor in norm.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_steps_after_the_last_are_the_last(training):
    per_step, x = PerStep(batch_norm(), STEPS), torch.rand(8, WIDTH, dtype=torch.float64)
    Recurrence(per_step, STEPS)(x)
    per_step.train(training)
    early = per_step.shared.running_mean[:-1].clone()
    assert torch.equal(per_step(x, STEPS + 4), per_step(x, STEPS - 1))
    assert per_step.shared.num_batches_tracked.tolist() == ([1, 1, 3] if training else [1, 1, 1])
    assert torch.equal(per_step.shared.running_mean[:-1], early)


def test_a_norm_without_statistics_is_the_same_at_every_step():
    norm, x = nn.GroupNorm(2, WIDTH), torch.randn(8, WIDTH)
    per_step = PerStep(norm, STEPS)
    assert not list(per_step.buffers())
    for step in range(STEPS + 1):
        assert torch.equal(per_step(x, step), norm(x))


def test_gradients_are_those_of_norms_that_share_their_parameters():
    norm, x = batch_norm(), torch.rand(8, WIDTH, dtype=torch.float64, requires_grad=True)
    theirs = x
    for _ in range(STEPS):  # in training mode the statistics have no part in the output
        theirs = norm(theirs).sin() + theirs.square()
    theirs = torch.autograd.grad(theirs.sum(), [x, norm.weight, norm.bias])
    ours = Recurrence(PerStep(copy.deepcopy(norm), STEPS), STEPS)
    ours = torch.autograd.grad(ours(x).sum(), [x, *ours.parameters()])
    for gradient, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, expected)


def test_a_cumulative_batch_norm_counts_the_batches_of_each_step():
    per_step = PerStep(nn.BatchNorm1d(WIDTH, momentum=None), STEPS)
    batches = torch.randn(5, 8, WIDTH)
    for x in batches:
        per_step(x, 1)
    torch.testing.assert_close(per_step.shared.running_mean[1], batches.mean((0, 1)))
    assert per_step.shared.num_batches_tracked.tolist() == [0, 5, 0]


def test_a_buffer_that_the_norm_replaces_is_kept_and_a_temporary_one_stays_temporary():
    per_step, x = PerStep(Calls(), STEPS), torch.ones(2, WIDTH)
    for step in (0, 2, 2):
        per_step(x, step)
    assert per_step.shared.calls.tolist() == [1, 0, 2]
    assert per_step.shared.sums[:, 0].tolist() == [2, 0, 4]
    assert list(per_step.state_dict()) == ["shared.calls"]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("steps", [1, STEPS])
def test_stacked_norms_equal_each_alone_and_keep_their_statistics(training, steps):
    singles = [Recurrence(PerStep(batch_norm(), steps), STEPS) for _ in range(5)]
    x = torch.rand(5, 8, WIDTH, dtype=torch.float64)
    for network in singles:
        network.norm.shared.running_mean.uniform_()
        network.train(training)
    stacked = StackedReplicas([copy.deepcopy(network) for network in singles]).train(training)
    y = stacked(x)
    for i, network in enumerate(singles):
        before = network.norm.shared.running_mean.clone()
        torch.testing.assert_close(y[i], network(x[i]), rtol=1e-12, atol=1e-12)
        assert torch.equal(before, network.norm.shared.running_mean) == (not training)
        ours = stacked.replica(i).state_dict()
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(ours[name], tensor, rtol=1e-12, atol=1e-12)


def test_initialization_finds_the_scale_and_starts_every_steps_statistics_anew():
    network = Recurrence(PerStep(batch_norm(), STEPS), STEPS)
    network(torch.rand(8, WIDTH, dtype=torch.float64))
    assert list(norms_of(network)) == ["norm"]
    initialize(network, 0, "torch", 0.1)
    norm = network.norm.shared
    assert network.norm.weight is norm.weight
    assert network.norm.bias is norm.bias
    assert (norm.weight == 0.1).all()
    assert not norm.bias.any()
    assert torch.equal(norm.running_mean, torch.zeros(STEPS, WIDTH, dtype=torch.float64))
    assert torch.equal(norm.running_var, torch.ones(STEPS, WIDTH, dtype=torch.float64))
    assert norm.num_batches_tracked.tolist() == [0] * STEPS


def test_a_scale_that_the_norm_has_not_is_refused():
    network = Recurrence(PerStep(nn.BatchNorm1d(WIDTH, affine=False), STEPS), STEPS)
    with pytest.raises(ValueError, match=r"norm\.scale_init=0\.1: the norm has no scale"):
        initialize(network, 0, "torch", 0.1)
