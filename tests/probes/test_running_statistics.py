"""Errors of running statistics: by hand, and of frozen weights by the oracles."""

import numpy as np
import pytest
import torch
from torch import nn

from bn_experiments.data.examples import Examples
from bn_experiments.data.splits import Splits
from bn_experiments.oracles import running_mean_error, running_variance_error
from bn_experiments.probes.running_statistics import RunningStatistics, errors
from bn_experiments.probes.running_statistics_oracles import mean_error, var_error
from bn_experiments.run import run
from bn_experiments.training.replicas import SeparateReplicas
from tests.probes.runs import npz, refusals


def test_errors_are_in_units_of_the_precise_variance_without_units_that_have_none():
    mean, var = torch.tensor([1.0, 0.0, 9.0]), torch.tensor([2.0, 1.0, 9.0])
    found = errors(mean, var, torch.tensor([0.0, 0.0, 0.0]), torch.tensor([4.0, 1.0, 0.0]))
    assert [each.item() for each in found] == pytest.approx([1 / 8, 1 / 8])


def test_the_precise_statistics_are_those_of_the_whole_split():
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)) * 2 + 1
    part = Examples(x, torch.arange(12) % 2, torch.ones(1, 1), torch.zeros(1, 1))
    norm = nn.BatchNorm1d(3)
    probe = RunningStatistics(batch_size="full")
    probe.seeds = [0]
    network = nn.Sequential(nn.Flatten(), norm, nn.Linear(3, 2))
    reading = probe.measure(SeparateReplicas([network]), Splits(part, part, part, ("a", "b")))
    assert reading.labels == ["1"]
    assert reading.values["mean_error"].item() == pytest.approx((x.mean(0) ** 2 / x.var(0)).mean().item(), rel=1e-5)
    assert reading.values["var_error"].item() == pytest.approx(((1 / x.var(0) - 1) ** 2).mean().item(), rel=1e-5)
    assert torch.equal(norm.running_mean, torch.zeros(3)), "it is left as it is"


def test_at_frozen_weights_they_are_the_oracles(compose_cell):
    keys = ["data=gaussian", "data.train_examples=null", "data.shape=[1,100]", "data.examples=1600", "norm=bn"]
    keys += ["model.hidden=[100]", "optimizer.lr=1e-12", "trainer.max_epochs=1", "replicas=8", "data.batch_size=4"]
    cell = compose_cell(*keys, "probes=[running_statistics]", "probes.running_statistics.batch_size=160")
    run(cell)
    arrays = npz(cell)
    for name, oracle in (("mean_error", mean_error), ("var_error", var_error)):
        found = arrays[f"running_statistics/{name}"][-1, :, 0]
        spread = found.std(ddof=1) / 8**0.5
        assert abs(found.mean() - oracle(cell.config)) < 4 * spread + 0.03 * oracle(cell.config), name
    assert mean_error(cell.config) == running_mean_error(4, 0.1)
    assert var_error(cell.config) == running_variance_error(4, 0.1)


def test_a_network_without_running_statistics_has_no_errors_and_others_are_refused(compose_cell):
    cell = compose_cell("norm=ln", "probes=[running_statistics]")
    run(cell)
    assert npz(cell)["running_statistics/mean_error"].shape == (1, 2, 0)
    (line,) = refusals(compose_cell("norm=renorm", "probes=[running_statistics]"))
    assert "cannot be estimated anew" in line
    assert np.isfinite(running_variance_error(2, 0.1))


def test_a_norm_that_keeps_a_variance_alone_is_left_out(compose_cell):
    cell = compose_cell("norm=bn_scale", "probes=[running_statistics]")
    run(cell)
    assert npz(cell)["running_statistics/var_error"].shape == (1, 2, 0)
