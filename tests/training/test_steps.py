import copy

import pytest
import torch
from torch import Tensor, nn

from bn_experiments.training.replicas import SeparateReplicas, StackedReplicas
from bn_experiments.training.steps import CapturedSteps, Steps
from tests.training.test_replicas import (
    OPTIMIZERS,
    REPLICAS,
    STEPS,
    assert_same_network,
    batches,
    networks,
    train_alone,
    train_together,
)

MODEL = ("model=mlp", "norm=bn", "model.dropout=0.3", "model.hidden=[12,8]")


def step_of(part: nn.Module, optimizer, clip: float | None = None) -> Steps:
    part = copy.deepcopy(part)
    return Steps(part, optimizer(part.parameters()), clip)


@pytest.mark.parametrize("clip", [None, 2.0])
@pytest.mark.parametrize("kind", [StackedReplicas, SeparateReplicas])
def test_steps_equal_a_loop_written_with_torch_alone(compose_cell, kind, clip):
    singles = networks(compose_cell, *MODEL)
    replicas = kind(copy.deepcopy(singles))
    losses = train_together(replicas, OPTIMIZERS["sgd"], clip)
    clipped = set()
    for i, network in enumerate(singles):
        alone, losses_alone, norms = train_alone(network, OPTIMIZERS["sgd"], i, clip or torch.inf)
        assert_same_network(replicas.replica(i), alone)
        torch.testing.assert_close(losses[:, i], losses_alone, rtol=1e-9, atol=1e-12)
        clipped |= set((norms > 2).tolist())
    assert clipped == {False, True}, "some gradients are clipped, some are not"


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_diverged_replica_leaves_the_weights_of_the_others_alone(compose_cell, optimizer, clip):
    singles = networks(compose_cell, *MODEL)
    singles[3].output.weight.data[:] = torch.nan
    stacked = StackedReplicas(singles)
    losses = train_together(stacked, OPTIMIZERS[optimizer], clip)
    assert losses.isnan().all(0).tolist() == [i == 3 for i in range(REPLICAS)]
    for i in {*range(REPLICAS)} - {3}:
        assert_same_network(stacked.replica(i), train_alone(singles[i], OPTIMIZERS[optimizer], i, clip or torch.inf)[0])


def test_in_mixed_precision_every_step_sees_the_weights_that_the_last_one_left(compose_cell):
    examples, index = batches()
    ends = []
    for size in (1, STEPS):  # autocast keeps what it cast until its block of code ends
        step = step_of(networks(compose_cell, *MODEL)[0].float(), OPTIMIZERS["sgd"])
        for block in index[:, 0].split(size):
            with torch.autocast("cpu", torch.bfloat16):
                step(examples.to(torch.device("cpu"), torch.float32), block)
        ends.append(step.part.state_dict())
    for name, tensor in ends[0].items():
        assert torch.equal(ends[1][name], tensor), name


# Captured steps

RATES = (0.05, 0.05, 0.02)  # of each epoch
LENGTHS = [(8, 8, 5), (4,), (3,), (2, 2, 1)]  # of an epoch's blocks, shorter and longer than what is taken eagerly


def train(take, step: Steps, lengths: tuple[int, ...], which: slice | int) -> Tensor:
    """Some epochs of blocks, each epoch at its learning rate and with a smaller mini-batch at its end; the losses."""
    device = step.parameters[0].device
    examples, index = batches(sum(lengths) + 1)
    examples, index = examples.to(device, torch.float64), index[:, which].to(device)
    blocks = [*index[:-1].split(lengths), index[-1:, ..., :3]]
    losses = []
    for rate in RATES:
        for group in step.optimizer.param_groups:
            group["lr"] = rate
        losses += [take(examples, block) for block in blocks]
    return torch.cat(losses)


def kept(step: Steps) -> dict[str, Tensor]:
    """All that a step changes: weights, running statistics, counters, and what the optimizer keeps."""
    states = step.optimizer.state_dict()["state"]
    return {
        **step.part.state_dict(),
        **{f"{i}.{key}": value for i, state in states.items() for key, value in state.items() if value is not None},
    }


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("which", [slice(None), 2], ids=["stack", "one network"])
def test_captured_steps_equal_plain_ones_bit_for_bit(compose_cell, which, lengths, optimizer):
    singles = networks(compose_cell, *MODEL)
    part = StackedReplicas(singles) if isinstance(which, slice) else singles[which]
    plain, captured = (step_of(part, OPTIMIZERS[optimizer], clip=1.0) for _ in range(2))
    replays = []

    def capture(function):
        replays.append(0)

        def replay():
            replays[-1] += 1
            function()

        return replay

    losses = train(CapturedSteps(captured, capture), captured, lengths, which)
    assert torch.equal(losses, train(plain, plain, lengths, which))
    found, expected = kept(captured), kept(plain)
    assert found.keys() == expected.keys()
    assert any("running_mean" in name for name in found)
    assert len(found) > len(captured.part.state_dict()), "the optimizer keeps something"
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    # a graph holds the learning rate as a constant: one for the first two epochs, one for the third
    eager = CapturedSteps.EAGER
    assert replays == ([2 * sum(lengths) - eager, sum(lengths) - eager] if max(lengths) > eager else [])


CAPTURABLE = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, capturable=True),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, capturable=True),
}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs CUDA")
@pytest.mark.parametrize("optimizer", CAPTURABLE)
@pytest.mark.parametrize("which", [slice(None), 2], ids=["stack", "one network"])
def test_a_cuda_graph_trains_as_eager_steps_do(compose_cell, which, optimizer):
    singles = networks(compose_cell, *MODEL)
    part = (StackedReplicas(singles) if isinstance(which, slice) else singles[which]).cuda()
    eager, captured = (step_of(part, CAPTURABLE[optimizer], clip=1.0) for _ in range(2))
    losses = train(CapturedSteps(captured), captured, LENGTHS[0], which)
    torch.testing.assert_close(losses, train(eager, eager, LENGTHS[0], which), rtol=1e-9, atol=1e-12)
    assert_same_network(captured.part, eager.part)
