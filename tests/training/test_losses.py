"""The losses: equal to torch's and to their formulas, in a stack as alone."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from bn_experiments.config import objects
from bn_experiments.config.check import check
from bn_experiments.run import run
from bn_experiments.training.losses import Losses, cross_entropy, mean_over_batch, mse
from bn_experiments.training.replicas import SeparateReplicas, StackedReplicas
from bn_experiments.training.steps import Steps
from tests.training.test_replicas import STEPS, assert_same_network, batches, networks

LOGITS = torch.randn(3, 8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24).view(3, 8) % 5


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_the_cross_entropy_is_the_formula_to_smoothed_labels(smoothing):
    target = (1 - smoothing) * F.one_hot(Y, 5).double() + smoothing / 5
    expected = -(target * LOGITS.log_softmax(-1)).sum(-1)
    found = cross_entropy(LOGITS, Y, label_smoothing=smoothing)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for i in range(3):
        alone = mean_over_batch(partial(cross_entropy, label_smoothing=smoothing), LOGITS[i], Y[i])
        torch.testing.assert_close(alone, expected[i].mean(), rtol=1e-12, atol=1e-12)


def test_the_squared_error_is_torchs_with_one_over_c_and_has_the_gradient_logits_less_one_hot_with_a_half():
    onehot = F.one_hot(Y, 5).double()
    found = mse(LOGITS, Y, factor=1 / 5).mean(-1)
    torch.testing.assert_close(found[1], F.mse_loss(LOGITS[1], onehot[1]), rtol=1e-12, atol=1e-12)
    logits = LOGITS.clone().requires_grad_()
    mse(logits, Y, factor=0.5).sum().backward()
    torch.testing.assert_close(logits.grad, LOGITS - onehot, rtol=1e-12, atol=1e-12)


def of_torch_alone(logits, y, loss: str):
    if loss == "mse":
        return ((logits - F.one_hot(y, 10)) ** 2).sum(1).mean() / 2
    return F.cross_entropy(logits, y, label_smoothing=0.2)


@pytest.mark.parametrize("kind", [StackedReplicas, SeparateReplicas])
@pytest.mark.parametrize("keys", [["loss=mse"], ["loss.label_smoothing=0.2"]])
def test_steps_with_a_loss_equal_a_loop_written_with_torch_alone(compose_cell, kind, keys):
    losses = objects.losses(compose_cell(*keys).config)
    singles = networks(compose_cell, "model=mlp", "norm=bn")[:3]
    replicas, (examples, index) = kind(copy.deepcopy(singles)), batches()
    for part in replicas.parts():
        optimizer = torch.optim.SGD(part.module.parameters(), 0.02, momentum=0.9)
        Steps(part, [optimizer], losses.train, None)(examples, index[:, :3][:, part.replicas])
    for i, network in enumerate(singles):
        optimizer = torch.optim.SGD(network.parameters(), 0.02, momentum=0.9)
        for step in range(STEPS):
            optimizer.zero_grad()
            places = index[step, i]
            of_torch_alone(network(examples.x[places]), examples.y[places], keys[0].removeprefix("loss=")).backward()
            optimizer.step()
        assert_same_network(replicas.replica(i), network)


def test_validation_and_test_are_scored_without_smoothing_and_with_the_squared_error_itself():
    smooth = Losses.of(partial(cross_entropy, label_smoothing=0.3))
    torch.testing.assert_close(smooth.score(LOGITS[0], Y[0]), F.cross_entropy(LOGITS[0], Y[0], reduction="none"))
    assert (smooth.train(LOGITS, Y) - smooth.score(LOGITS, Y)).abs().min() > 1e-6
    own = partial(mse, factor=2.0)
    assert Losses.of(own) == (own, own)


def hinge(logits, y):
    """The largest margin by which another class is above the right one, plus one."""
    right = logits.gather(-1, y[..., None])
    return (logits - right + 1 - F.one_hot(y, logits.shape[-1])).amax(-1)


def over_the_batch(logits, y):
    return hinge(logits, y).mean(-1)


def coupling(logits, y):
    return hinge(logits, y) * logits.mean()


def test_a_loss_of_ones_own_needs_its_path_alone_and_is_what_is_minimized_and_scored(compose_cell):
    cell = compose_cell("norm=bn", "probes=[]", "loss._target_=tests.training.test_losses.hinge", "replicas=3")
    assert check(cell) == []
    result = run(cell)
    assert not any(result.diverged)
    assert max(result.metrics["test/loss"]) < 2.5


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (["loss._target_=tests.training.test_losses.over_the_batch"], "gives (2,) for logits (2, 3, 10), and () for"),
        (["loss._target_=tests.training.test_losses.coupling"], "gives other numbers for a stack of replicas than"),
        (["loss._target_=tests.training.test_losses.hinge", "loss.label_smoothing=0.1"], "no such key; allowed: "),
        (["loss.label_smoothing=1.5"], "loss.label_smoothing=1.5: wrong value; allowed: a number of at least 0 and of"),
        (["loss=mse", "loss.factor=0"], "loss.factor=0: wrong value; allowed: a number above 0"),
        (["loss._target_=nowhere.loss"], "loss._target_=nowhere.loss: cannot be imported"),
    ],
)
def test_a_loss_that_cannot_train_replicas_is_refused_in_one_line(compose_cell, keys, line):
    (found,) = map(str, check(compose_cell(*keys)))
    assert line in found
    assert "\n" not in found
