import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bn_experiments.config import objects, stacking
from bn_experiments.data.examples import Examples
from bn_experiments.training.clipping import clip_gradients
from bn_experiments.training.losses import cross_entropy
from bn_experiments.training.replicas import Replicas, SeparateReplicas, StackedReplicas
from bn_experiments.training.steps import Steps
from tests.models.test_models import splits

NORMS = {"mlp": ["none", "bn", "gn", "ln", "rms", "wn"], "lenet": ["none", "bn", "gn", "ln", "in", "rms", "wn"]}
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, fused=True),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-2, fused=True),
}
REPLICAS, STEPS, BATCH = 10, 5, 8
CROSS_ENTROPY = partial(cross_entropy, label_smoothing=0.0)


def networks(compose_cell, *overrides: str) -> list[nn.Module]:
    """Ten networks in float64, so that the order of a sum cannot hide a mistake."""
    config = compose_cell(*overrides).config
    return [objects.initial_network(config, splits((1, 20)), seed).double() for seed in range(REPLICAS)]


def batches(steps: int = STEPS) -> tuple[Examples, Tensor]:
    """Examples that are normalized already, and the places of each replica's mini-batches among them, (K, R, B)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 1, 20, dtype=torch.float64, generator=generator)
    y = torch.randint(10, (50,), generator=generator)
    one = torch.ones(1, 1, dtype=torch.float64)
    return Examples(x, y, one, 0 * one), torch.randint(50, (steps, REPLICAS, BATCH), generator=generator)


def train_together(replicas: Replicas, optimizer, clip: float | None = None) -> Tensor:
    """Trains the replicas with the code under test, each part with its own optimizer; their losses (K, R)."""
    examples, index = batches()
    clips = partial(clip_gradients, max_norm=clip) if clip else None
    steps = [
        (Steps(part, [optimizer(part.module.parameters())], CROSS_ENTROPY, clips), part.replicas)
        for part in replicas.parts()
    ]
    return torch.cat([step(examples, index[:, which]).view(STEPS, -1) for step, which in steps], dim=1)


def train_alone(network: nn.Module, optimizer, i: int, clip: float = torch.inf) -> tuple[nn.Module, Tensor, Tensor]:
    """Replica `i`'s run alone, written with torch only: what it ends as, its losses and the norms of its gradients."""
    examples, index = batches()
    network, losses, norms = copy.deepcopy(network), [], []
    step = optimizer(network.parameters())
    for places in index[:, i]:
        step.zero_grad()
        losses.append(F.cross_entropy(network(examples.x[places]), examples.y[places]))
        losses[-1].backward()
        norms.append(nn.utils.clip_grad_norm_(network.parameters(), clip))
        step.step()
    return network, torch.stack(losses).detach(), torch.stack(norms)


def assert_same_network(found: nn.Module, expected: nn.Module) -> None:
    for name, tensor in expected.state_dict().items():
        ours = found.state_dict()[name]
        torch.testing.assert_close(ours, tensor, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


CASES = [(model, norm, StackedReplicas) for model, norms in NORMS.items() for norm in norms]
CASES += [("lenet", "bn", SeparateReplicas)]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(("model", "norm", "kind"), CASES)
@pytest.mark.few(6)
def test_replicas_equal_solo_runs_when_seeds_match(compose_cell, model, norm, optimizer, kind):
    singles = networks(compose_cell, f"model={model}", f"norm={norm}", "model.dropout=0.3", "model.hidden=[12,8]")
    replicas = kind(copy.deepcopy(singles))
    train_together(replicas, OPTIMIZERS[optimizer])
    for i, network in enumerate(singles):
        assert_same_network(replicas.replica(i), train_alone(network, OPTIMIZERS[optimizer], i)[0])


def test_stacked_batch_norm_keeps_each_replicas_running_statistics_bit_for_bit(compose_cell):
    singles = [network.float() for network in networks(compose_cell, "model=mlp", "norm=bn")]
    x = torch.randn(REPLICAS, BATCH, 1, 20)
    stacked = StackedReplicas(copy.deepcopy(singles))
    stacked(x)
    for i, network in enumerate(singles):
        network(x[i])
        first, ours = network.hidden[0].norm, stacked.replica(i).hidden[0].norm
        assert ours.num_batches_tracked == first.num_batches_tracked == 1
        torch.testing.assert_close(ours.running_mean, first.running_mean, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(ours.running_var, first.running_var, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", [StackedReplicas, SeparateReplicas])
def test_a_replica_is_an_ordinary_network_that_hooks_work_on(compose_cell, kind):
    replicas = kind(networks(compose_cell, "model=lenet", "norm=bn")).eval()
    x = torch.randn(4, 1, 20, dtype=torch.float64)
    network = replicas.replica(7)
    seen = []
    network.features[0].norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    torch.testing.assert_close(network(x), replicas(x[None])[7])
    assert seen[0].shape == (4, 6, 16)
    network.output.weight.data.zero_()
    assert replicas.replica(7).output.weight.any(), "a replica is a copy"


def gradients(replicas: Replicas, i: int) -> list[Tensor]:
    if isinstance(replicas, StackedReplicas):
        return [parameter.grad[i] for parameter in replicas.parameters()]
    return [parameter.grad for parameter in replicas.networks[i].parameters()]


@pytest.mark.parametrize("kind", [StackedReplicas, SeparateReplicas])
def test_clipping_acts_on_each_replicas_own_norm(compose_cell, kind):
    singles = networks(compose_cell, "model=mlp", "norm=none")
    replicas = kind(copy.deepcopy(singles))
    examples, index = batches()
    x, y = examples.take(index[0])
    x = x * torch.logspace(-1, 2, REPLICAS).view(-1, 1, 1, 1)  # gradients of different sizes
    F.cross_entropy(replicas(x).flatten(0, 1), y.flatten(), reduction="sum").div(BATCH).backward()
    for part in replicas.parts():
        clip_gradients(part.module, max_norm=0.9)
    norms = []
    for i, network in enumerate(singles):
        F.cross_entropy(network(x[i]), y[i]).backward()
        norms.append(float(nn.utils.clip_grad_norm_(network.parameters(), max_norm=0.9)))
        for gradient, parameter in zip(gradients(replicas, i), network.parameters(), strict=True):
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-9, atol=1e-12)
    assert min(norms) < 0.9 < max(norms), "some replicas are clipped, some are not"


def test_a_diverged_replica_leaves_the_gradients_of_the_others_alone(compose_cell):
    singles = networks(compose_cell, "model=mlp", "norm=bn")
    singles[3].output.weight.data[:] = torch.nan
    stacked = StackedReplicas(copy.deepcopy(singles))
    examples, index = batches()
    x, y = examples.take(index[0])
    F.cross_entropy(stacked(x).flatten(0, 1), y.flatten(), reduction="sum").div(BATCH).backward()
    clip_gradients(stacked, max_norm=0.1)
    for i in range(REPLICAS):
        assert all(gradient.isfinite().all() for gradient in gradients(stacked, i)) == (i != 3)


def test_one_replica_is_the_plain_network(compose_cell):
    (single, *_) = networks(compose_cell, "model=mlp", "norm=bn")
    replicas = SeparateReplicas([single])
    assert replicas.networks[0] is single
    x = batches()[0].x[None]
    torch.testing.assert_close(replicas(x)[0], single(x[0]))


@pytest.mark.parametrize(
    ("overrides", "stacked"),
    [
        (["model=mlp", "replicas=10"], True),
        (["model=lenet", "replicas=10"], True),  # on signals: a small step
        (["model=mlp", "replicas=1"], False),
        (["model=mlp", "replicas=10", "model.hidden=[2000,2000]"], False),  # a large step gains nothing
        (["model=mlp", "replicas=10", "trainer.stack_replicas=false"], False),
        (["model=mlp", "replicas=10", "model.hidden=[2000,2000]", "trainer.stack_replicas=true"], True),
    ],
)
def test_the_choice_to_stack_follows_the_work_of_a_step(compose_cell, overrides, stacked):
    config = compose_cell(*overrides, "data.batch_size=64").config
    assert stacking.stacks(config, splits((1, 40)), "cpu") == stacked


@pytest.mark.parametrize(
    ("overrides", "device", "steps"),
    [
        (["replicas=10"], "cpu", 50),
        (["replicas=1", "model.hidden=[2000,2000]"], "cpu", 50),  # 3 x 2 x 64 x 4.1e6 operations in a step
        (["replicas=100", "model.hidden=[2000,2000]"], "cpu", 6),
        (["replicas=100", "model.hidden=[2000,2000]"], "cuda", 50),
        (["replicas=100", "model.hidden=[9000,9000]"], "cpu", 1),
    ],
)
def test_a_block_of_large_steps_is_short_on_a_cpu(compose_cell, overrides, device, steps):
    config = compose_cell("model=mlp", *overrides, "data.batch_size=64").config
    assert stacking.steps_at_once(config, splits((1, 40)), device) == steps


def test_forward_flops_are_twice_the_multiplications(compose_cell):
    config = compose_cell("model=mlp", "norm=none", "data.batch_size=64").config
    assert stacking.forward_flops(config, splits((1, 40))) == 2 * 64 * (40 * 100 + 100 * 100 + 100 * 10)
