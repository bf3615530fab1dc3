import copy

import pytest
import torch
from torch import nn

from benchmarks import people
from bn_experiments.claims.protocol import Published
from bn_experiments.data.examples import Examples
from bn_experiments.data.splits import Splits
from bn_experiments.models.hidden import Dropout
from bn_experiments.norms.batch import BatchCenter, BatchNorm, BatchScale, L1BatchNorm
from bn_experiments.norms.per_step import PerStep
from bn_experiments.norms.running import BatchRenorm, FrozenBatchNorm
from bn_experiments.probes.population import Population
from bn_experiments.probes.population_figures import QUANTITIES
from bn_experiments.probes.precise import estimate_population_statistics
from bn_experiments.probes.scoring import SPLITS, scores_by_split
from bn_experiments.refusal import Refusal
from bn_experiments.report import words
from bn_experiments.run import run
from bn_experiments.training.attributes import attributes
from bn_experiments.training.replicas import SeparateReplicas
from tests.norms.test_batch import OPTIONS, F, inputs
from tests.norms.test_running import FREE
from tests.probes.runs import TINY, events, npz, refusal_of_one, refusals, saved, splits_of, steps


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


class Own(nn.Module):
    """A norm of a person's own: it keeps a running mean, and knows nothing of torch's methods."""

    def __init__(self, features: int):
        super().__init__()
        self.register_buffer("average", torch.zeros(features))

    def forward(self, x):
        if self.training:
            self.average = 0.9 * self.average + 0.1 * x.detach().mean(0)
        return x - self.average


class Resettable(Own):
    """The same with torch's interface."""

    momentum: float | None = 0.1

    def reset_running_stats(self):
        self.average, self.batches = torch.zeros_like(self.average), 0

    def forward(self, x):
        if self.training:
            self.batches += 1
            weight = 1 / self.batches if self.momentum is None else self.momentum
            self.average = (1 - weight) * self.average + weight * x.detach().mean(0)
        return x - self.average


class Constant(nn.Module):
    """A module with a table that no batch moves, and a counter, which is no average."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.arange(3.0))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x):
        self.calls += 1
        return x + self.table


OWN = (
    "probes: Own changes {} in training mode by a rule of its own, which cannot be estimated anew; allowed: "
    "modules with reset_running_stats and momentum as in torch, or without running statistics; give them to Own, or "
    "leave what needs precise statistics out of probes=[...]"
)


def test_averages_kept_by_another_rule_are_refused_and_not_reported_as_estimated():
    network = nn.Sequential(nn.BatchNorm1d(3), Own(3), Constant())
    with pytest.raises(Refusal) as caught:
        estimate_population_statistics(network, torch.randn(4, 5, 3))
    assert str(caught.value) == OWN.format("1.average")


def test_a_norm_with_torchs_methods_is_estimated_whoever_wrote_it_and_constants_stay():
    network, batches = nn.Sequential(Resettable(3), Constant()), torch.randn(4, 5, 3)
    network[0].average.fill_(99.0)
    estimate_population_statistics(network, batches)
    torch.testing.assert_close(network[0].average, batches.mean(1).mean(0))
    assert network[1].table.tolist() == [0, 1, 2]


def test_a_method_that_forgets_without_a_momentum_to_set_is_not_taken_for_torchs():
    network = nn.Sequential(Own(3))
    network[0].reset_running_stats = network[0].average.zero_
    with pytest.raises(Refusal, match=r"Own changes 0\.average in training mode by a rule of its own"):
        estimate_population_statistics(network, torch.randn(4, 5, 3))


def test_a_norm_that_cannot_be_estimated_is_refused_before_anything_trains(compose_cell):
    own = ["norm=none", "norm._target_=tests.probes.test_population.Own"]
    averages = "hidden.0.norm.average, hidden.1.norm.average"
    assert refusals(compose_cell(*own, "probes=[population]")) == [OWN.format(averages)]
    assert refusals(compose_cell(*own, "probes=[]")) == []
    assert refusals(compose_cell("norm=bn", "model.dropout=0.2", "probes=[population]")) == []
    assert refusals(compose_cell("model=lstm", "norm=bn", "probes=[population]")) == []


@pytest.mark.parametrize(("norm", "kept"), [("ScalarState", "mean"), ("Hooked", "mean"), ("Metered", "meter")])
def test_state_in_plain_attributes_or_moved_by_a_hook_is_refused_too(compose_cell, norm, kept):
    network = nn.Sequential(getattr(people, norm)(4))
    probe = Population(batch_size=8, examples=64, eval_batch_size=8)
    before = copy.deepcopy(network.state_dict()), attributes(network)
    (refusal,) = probe.refusals(network, torch.zeros(2, 4))
    assert f"{norm} changes 0.{kept} in training mode" in str(refusal)
    assert all(torch.equal(tensor, before[0][name]) for name, tensor in network.state_dict().items())
    assert attributes(network) == before[1], "it is left as it was"


def test_training_goes_on_untouched_and_without_running_statistics_it_is_evaluation_mode(compose_cell):
    for norm in ("none", "ln"):
        cell = compose_cell(f"norm={norm}", "probes=[population]")
        result = run(cell)
        accuracies = scores_by_split(splits_of(cell), saved(cell).eval(), 1000)["acc"]
        for i, split in enumerate(SPLITS):
            assert result.probes["population"]["acc"][split] == accuracies[:, i].tolist()
            if split != "train":
                assert result.probes["population"]["acc"][split] == pytest.approx(result.metrics[f"{split}/acc"])
    with_probe = run(compose_cell("norm=bn", "probes=[population]"))
    without = run(compose_cell("norm=bn", "probes=[]"))
    assert with_probe.metrics == without.metrics


def test_they_repair_a_network_whose_running_statistics_trail_behind(compose_cell):
    slow = ["norm=bn", "norm.momentum=0.001", "probes=[population]", "trainer.max_epochs=3"]
    cell = compose_cell(*slow, "data.train_examples=1000", "data.batch_size=50")
    result = run(cell)
    by_batches = scores_by_split(splits_of(cell), saved(cell).train(), 50)["loss"][:, SPLITS.index("test")]
    for replica in range(2):
        trailing, batches = result.metrics["test/loss"][replica], by_batches[replica].item()
        assert result.probes["population"]["loss"]["test"][replica] == pytest.approx(batches, abs=0.15)
        assert trailing > batches + 0.3


def test_too_few_examples_make_one_batch():
    scale, shift = torch.ones(1, 1), torch.zeros(1, 1)
    part = Examples(torch.randn(9, 1, 4), torch.arange(9) % 3, scale, shift)
    probe = Population(batch_size=20, examples=5, eval_batch_size=4)
    probe.seeds = [0]
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3))
    reading = probe.measure(SeparateReplicas([network]), Splits(part, part, part, ("a", "b", "c")))
    assert reading.values["acc"].shape == (1, 3)


def test_its_readings_hold_every_split_and_tensorboard_shows_their_means(compose_cell):
    cell = compose_cell("norm=bn", *TINY, "probes=[population]", "probes.population.every_n_epochs=2",
                        "trainer.max_epochs=3")  # fmt: skip
    result = run(cell)
    arrays, drawn = npz(cell), events(cell)
    assert arrays["population/epochs"].tolist() == [2, 3]
    assert arrays["population/split"].tolist() == list(SPLITS)
    for quantity in ("loss", "acc"):
        assert arrays[f"population/{quantity}"].shape == (2, 2, 3)
        assert list(result.probes["population"][quantity]) == list(SPLITS)
        for j, split in enumerate(SPLITS):
            points = drawn.Scalars(f"population/{split}/{quantity}")
            assert steps(points) == [2, 3]
            means = arrays[f"population/{quantity}"][:, :, j].mean(1)
            assert [point.value for point in points] == pytest.approx(means.tolist(), rel=1e-5)


def test_a_batch_of_one_is_refused_where_the_norm_needs_two(compose_cell):
    one = ["probes=[population]", "probes.population.batch_size=1"]
    line = refusal_of_one("probes.population.batch_size", 1, "train", 225)
    assert refusals(compose_cell("norm=bn", *one)) == [line]
    assert refusals(compose_cell("norm=ln", *one)) == []
    assert refusals(compose_cell("norm=bn", one[0], "probes.population.examples=1")) == [], "it is one whole batch"


def test_the_report_has_words_for_its_quantities():
    published = Published("bn", "population/acc", label="test")
    assert words.quantity(published, QUANTITIES) == "accuracy with population statistics, test"


@pytest.mark.parametrize("kind", [BatchNorm, L1BatchNorm, BatchScale, BatchCenter])
def test_population_statistics_are_the_mean_over_batches(kind):
    norm, batches = kind(F, **OPTIONS).double(), inputs(7, 6, F)
    one = [copy.deepcopy(norm) for _ in batches]
    for own, x in zip(one, batches, strict=True):
        own.momentum = 1.0
        own(x)
    norm(100 * batches[0])  # which is to be forgotten
    estimate_population_statistics(nn.Sequential(norm), batches)
    for name, value in norm.running.items():
        torch.testing.assert_close(value, torch.stack([own.running[name] for own in one]).mean(0))


@pytest.mark.parametrize("norm", [FrozenBatchNorm(F, **OPTIONS), BatchRenorm(F, **FREE, **OPTIONS)])
def test_statistics_that_training_reads_cannot_be_estimated_anew(norm):
    with pytest.raises(Refusal, match=r"running_mean, .*running_.* cannot be estimated anew"):
        estimate_population_statistics(nn.Sequential(norm), torch.randn(2, 6, F))


def test_without_dropout_the_statistics_are_those_of_the_network_that_is_evaluated(compose_cell):
    batches = torch.randn(3, 50, 4, generator=torch.Generator().manual_seed(0)) + 1
    for dropout in (nn.Dropout(0.5), Dropout(0.5)):
        network = nn.Sequential(dropout, nn.BatchNorm1d(4))
        estimate_population_statistics(network, batches, dropout=False)
        torch.testing.assert_close(network[1].running_var, batches.var(1).mean(0))
        estimate_population_statistics(network, batches)
        assert (network[1].running_var > 1.5 * batches.var(1).mean(0)).all()
    both = ("acc", "without_dropout_acc")
    found = run(compose_cell("norm=bn", "model.dropout=0.5", "probes=[population]")).probes["population"]
    assert set(both) <= found.keys()
    assert found["loss"] != found["without_dropout_loss"]
    found = run(compose_cell("norm=bn", "probes=[population]")).probes["population"]
    assert found["loss"] == found["without_dropout_loss"]
