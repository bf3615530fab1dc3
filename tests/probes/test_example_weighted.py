"""Example-weighted evaluation: its two ends are torch's own norms, and the weight is the best on validation."""

import numpy as np
import pytest
import torch
from torch import nn

from bn_experiments.data.examples import Examples
from bn_experiments.data.splits import Splits
from bn_experiments.probes.example_weighted import ExampleWeighted, mixed_batch_norm
from bn_experiments.run import run
from bn_experiments.training.replicas import SeparateReplicas
from tests.probes.runs import npz


def norm_of(dim: int) -> nn.modules.batchnorm._BatchNorm:
    torch.manual_seed(dim)
    norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[dim](3)
    with torch.no_grad():
        for tensor in (norm.weight, norm.running_mean):
            tensor.normal_()
        norm.running_var.uniform_(0.5, 2)
    return norm.eval()


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 7), (5, 3, 4, 6)])
def test_the_weight_zero_is_evaluation_and_the_weight_one_instance_normalization(shape):
    norm, x = norm_of(len(shape)), torch.randn(shape) * 2 + 1
    torch.testing.assert_close(mixed_batch_norm(norm, x, 0.0), norm(x))
    if len(shape) > 2:
        wide = (1, 3, *(1,) * (len(shape) - 2))
        own = nn.functional.instance_norm(x) * norm.weight.view(wide) + norm.bias.view(wide)
        torch.testing.assert_close(mixed_batch_norm(norm, x, 1.0), own, rtol=1e-4, atol=1e-5)


def test_between_them_moments_are_mixed_as_numpy_mixes_them():
    norm, x, a = norm_of(3), torch.randn(4, 3, 9), 0.3
    z = x.numpy()
    mean, var = (each.numpy()[None, :, None] for each in (norm.running_mean, norm.running_var))
    mu = (1 - a) * mean + a * z.mean(2, keepdims=True)
    s = (1 - a) * (var + mean**2) + a * (z**2).mean(2, keepdims=True)
    expected = (z - mu) / np.sqrt(s - mu**2 + norm.eps) * norm.weight.detach().numpy()[None, :, None]
    np.testing.assert_allclose(mixed_batch_norm(norm, x, a).detach(), expected, rtol=1e-4, atol=1e-5)


def test_each_replica_takes_the_weight_with_its_least_validation_loss():
    torch.manual_seed(0)
    x, y = torch.randn(40, 2, 8), torch.arange(40) % 2
    x[:, 0] += 3 * (2 * y - 1)[:, None]  # the mean of an example is its class, which the weight 1 takes off
    part = Examples(x, y, torch.ones(1, 1), torch.zeros(1, 1))
    made = []
    for sign in (1.0, -1.0):  # one knows the classes, the other one takes them for each other
        network = nn.Sequential(nn.BatchNorm1d(2), nn.AvgPool1d(8), nn.Flatten(), nn.Linear(2, 2))
        with torch.no_grad():
            network[3].weight.copy_(sign * torch.tensor([[-5.0, 0.0], [5.0, 0.0]]))
            network[3].bias.zero_()
        made.append(network)
    probe = ExampleWeighted(weights=[0.0, 0.5, 1.0], eval_batch_size=7)
    found = probe.measure(SeparateReplicas(made), Splits(part, part, part, ("a", "b"))).values
    assert found["weight"].tolist() == [0.0, 1.0]
    assert found["acc"][0].tolist() == [1.0, 1.0, 1.0]
    torch.testing.assert_close(found["loss"][1], torch.full((3,), 0.6931), rtol=1e-3, atol=1e-3)


def test_with_the_weight_zero_alone_it_is_evaluation_and_training_goes_on_untouched(compose_cell):
    cell = compose_cell("norm=bn", "model=lenet", "probes=[example_weighted]", "probes.example_weighted.weights=[0.0]")
    found, plain = run(cell), run(compose_cell("norm=bn", "model=lenet", "probes=[]"))
    assert found.metrics == plain.metrics
    assert npz(cell)["example_weighted/acc"][-1, :, 2] == pytest.approx(plain.metrics["test/acc"])
