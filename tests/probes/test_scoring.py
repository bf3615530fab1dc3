import copy
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bn_experiments.data.examples import Examples
from bn_experiments.data.splits import Splits
from bn_experiments.probes.scoring import logits_on, loss_and_accuracy, scores_by_split
from bn_experiments.training.replicas import SeparateReplicas, StackedReplicas
from tests.everything import everything


def examples(count: int, seed: int = 0) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(count, 1, 4, generator=generator, dtype=torch.float64) + 1
    y = torch.randint(3, (count,), generator=generator)
    return Examples(x, y, torch.full((1, 1), 0.5, dtype=torch.float64), torch.full((1, 1), 0.25, dtype=torch.float64))


def networks(count: int, norm: bool) -> list[nn.Module]:
    made = []
    for seed in range(count):
        parts = [("flatten", nn.Flatten()), ("layer", nn.Linear(4, 5))]
        parts += [("norm", nn.BatchNorm1d(5))] if norm else []
        network = nn.Sequential(OrderedDict([*parts, ("activation", nn.ReLU()), ("output", nn.Linear(5, 3))])).double()
        generator = torch.Generator().manual_seed(seed)
        for tensor in (*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())):
            nn.init.uniform_(tensor, 0.2, 1.2, generator=generator)  # a running variance is positive
            tensor.data.mul_(1 if tensor.dim() == 1 else 2).sub_(0 if tensor.dim() == 1 else 1.4)
        made.append(network)
    return made


def by_hand(network: nn.Module, x: Tensor, mean: Tensor | None = None, variance: Tensor | None = None) -> Tensor:
    """Logits of a batch, with the batch's own mean and variance unless others are given."""
    with torch.no_grad():
        h = (0.5 * x + 0.25).flatten(1) @ network.layer.weight.T + network.layer.bias
        mean = h.mean(0) if mean is None else mean
        variance = (h - h.mean(0)).square().mean(0) if variance is None else variance
        h = (h - mean) / (variance + 1e-5).sqrt() * network.norm.weight + network.norm.bias
        return h.clamp(min=0) @ network.output.weight.T + network.output.bias


def test_loss_and_accuracy_equal_torchs_for_each_replica():
    generator = torch.Generator().manual_seed(0)
    logits, y = 4 * torch.randn(3, 17, 5, generator=generator), torch.randint(5, (17,), generator=generator)
    losses, accuracies = loss_and_accuracy(logits, y)
    for i in range(3):
        assert losses[i].item() == pytest.approx(F.cross_entropy(logits[i], y).item(), rel=1e-6)
        numbers = logits[i].double().numpy()
        by_numpy = np.log(np.exp(numbers).sum(1)) - numbers[np.arange(17), y.numpy()]
        assert losses[i].item() == pytest.approx(by_numpy.mean(), rel=1e-6)
        assert accuracies[i].item() == pytest.approx(np.mean(numbers.argmax(1) == y.numpy()))


def test_loss_of_known_logits():
    logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[np.log(3), 0.0], [0.0, np.log(3)]]])
    losses, accuracies = loss_and_accuracy(logits, torch.tensor([0, 0]))
    assert losses.tolist() == pytest.approx([np.log(2), (np.log(4 / 3) + np.log(4)) / 2])
    assert accuracies[1].item() == 0.5


@pytest.mark.parametrize("kind", [StackedReplicas, SeparateReplicas])
def test_in_evaluation_mode_the_batch_size_changes_no_logit(kind):
    made, data = networks(2, norm=True), examples(11)
    replicas = kind(copy.deepcopy(made)).eval()
    whole = logits_on(data, replicas, 100)
    assert whole.shape == (2, 11, 3)
    for size in (1, 4, 5, 11):
        torch.testing.assert_close(logits_on(data, replicas, size), whole)
    for network, logits in zip(made, whole, strict=True):
        norm = network.norm
        torch.testing.assert_close(logits, by_hand(network, data.x, norm.running_mean, norm.running_var))


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(6, 3, [3, 3]), (8, 3, [3, 3, 2]), (7, 3, [3, 4]), (4, 3, [4]), (1, 3, [1]), (2, 3, [2]), (3, 1, [1, 1, 1])],
)
def test_a_last_batch_of_one_goes_with_the_batch_before_it(count, batch_size, sizes):
    seen = []

    class Looking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.flatten(1)

    data = examples(count)
    logits = logits_on(data, SeparateReplicas([Looking()]), batch_size)
    assert [len(x) for x in seen] == sizes
    assert torch.equal(logits[0], everything(data)[0].flatten(1)), "in order, none twice"


@pytest.mark.parametrize("kind", [StackedReplicas, SeparateReplicas])
def test_in_training_mode_batch_norm_uses_the_statistics_of_the_batch(kind):
    made, data = networks(2, norm=True), examples(9)
    found = logits_on(data, kind(copy.deepcopy(made)).train(), 4)  # batches of 4 and 5
    for network, logits in zip(made, found, strict=True):
        torch.testing.assert_close(logits, torch.cat([by_hand(network, data.x[:4]), by_hand(network, data.x[4:])]))


def test_a_full_batch_is_all_of_a_split():
    replicas = SeparateReplicas([network.train() for network in networks(2, norm=True)])
    found = logits_on(examples(7), replicas, "full")
    assert torch.equal(found, logits_on(examples(7), replicas, 7))
    assert not torch.equal(found, logits_on(examples(7), replicas, 4))


def test_the_scores_are_those_of_each_split():
    parts = {name: examples(count, seed=count) for name, count in {"train": 9, "val": 5, "test": 7}.items()}
    made = networks(2, norm=True)
    found = scores_by_split(Splits(**parts, classes=("a", "b", "c")), StackedReplicas(copy.deepcopy(made)).eval(), 4)
    for j, part in enumerate(parts.values()):
        for i, network in enumerate(made):
            logits = by_hand(network, part.x, network.norm.running_mean, network.norm.running_var)
            assert found["loss"][i, j].item() == pytest.approx(F.cross_entropy(logits, part.y).item(), rel=1e-5)
            assert found["acc"][i, j].item() == pytest.approx((logits.argmax(1) == part.y).double().mean().item())
