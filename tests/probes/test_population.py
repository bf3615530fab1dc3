import pytest
import torch
from torch import nn

from bn_experiments.data.splits import Examples, Splits
from bn_experiments.norms.per_step import PerStep
from bn_experiments.probes.population import estimate_population_statistics
from bn_experiments.run import run


def test_the_statistics_are_the_means_of_the_batches_own():
    batches = torch.randn(5, 20, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1]) + 2
    network = nn.Sequential(nn.BatchNorm1d(3))
    network[0].running_mean.fill_(99.0)  # what training left behind
    estimate_population_statistics(network, batches)
    torch.testing.assert_close(network[0].running_mean, batches.mean(1).mean(0))
    torch.testing.assert_close(network[0].running_var, batches.var(1).mean(0))
    assert not network.training


def test_deeper_layers_see_what_the_weights_make_of_the_batches():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2), nn.BatchNorm1d(2))
    batches = torch.randn(7, 30, 4)
    estimate_population_statistics(network, batches)
    first = [network[0](x) for x in batches]
    normed = [(h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt() for h in first]
    second = torch.stack([network[3](h.relu()) for h in normed])
    torch.testing.assert_close(network[4].running_mean, second.mean(1).mean(0), rtol=1e-4, atol=1e-5)


def test_each_time_step_has_statistics_of_its_own():
    class TwoSteps(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = PerStep(nn.BatchNorm1d(1), steps=2)

        def forward(self, x):
            return self.norm(x, 0) + self.norm(3 * x + 1, 1)

    network, batches = TwoSteps(), torch.arange(12.0).view(3, 4, 1)
    estimate_population_statistics(network, batches)
    means = network.norm.shared.running_mean.flatten()
    torch.testing.assert_close(means, torch.tensor([5.5, 17.5]))


def test_training_goes_on_untouched_and_without_running_statistics_it_is_evaluation_mode(compose_cell):
    for norm in ("none", "ln"):
        result = run(compose_cell(f"norm={norm}", "probes=[population,modes]"))
        for split in ("train", "val", "test"):
            assert result.probes["population"]["acc"][split] == result.probes["modes"]["eval_mode_acc"][split]
    with_probe = run(compose_cell("norm=bn", "probes=[population]"))
    without = run(compose_cell("norm=bn", "probes=[]"))
    assert with_probe.metrics == without.metrics


def test_they_repair_a_network_whose_running_statistics_trail_behind(compose_cell):
    slow = ["norm=bn", "norm.momentum=0.001", "probes=[population,modes]", "trainer.max_epochs=3"]
    result = run(compose_cell(*slow, "data.train_examples=1000", "data.batch_size=50"))
    for replica in range(2):
        trailing = result.probes["modes"]["eval_mode_loss"]["test"][replica]
        batches = result.probes["modes"]["train_mode_loss"]["test"][replica]
        assert result.probes["population"]["loss"]["test"][replica] == pytest.approx(batches, abs=0.15)
        assert trailing > batches + 0.3


def test_too_few_examples_make_one_batch():
    from bn_experiments.probes.population import Population
    from bn_experiments.training.replicas import SeparateReplicas

    scale, shift = torch.ones(1, 1), torch.zeros(1, 1)
    part = Examples(torch.randn(9, 1, 4), torch.arange(9) % 3, scale, shift)
    probe = Population(batch_size=20, examples=5, eval_batch_size=4)
    probe.seeds = [0]
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3))
    reading = probe.measure(SeparateReplicas([network]), Splits(part, part, part, ("a", "b", "c")))
    assert reading.values["acc"].shape == (1, 3)
