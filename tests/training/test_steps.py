import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import _update_param_group_val

from benchmarks import people
from bn_experiments.config import build, objects
from bn_experiments.training.attributes import attributes, changed
from bn_experiments.training.captured import CapturedSteps
from bn_experiments.training.clipping import clip_gradients
from bn_experiments.training.optimizers import put_rates_on_device
from bn_experiments.training.replicas import Part, SeparateReplicas, StackedReplicas
from bn_experiments.training.snapshot import Snapshot
from bn_experiments.training.steps import Steps
from tests.training.test_replicas import (
    CROSS_ENTROPY,
    NORMS,
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


def step_of(module: nn.Module, optimizer, clip: float | None = None) -> Steps:
    module = copy.deepcopy(module)
    clips = partial(clip_gradients, max_norm=clip) if clip else None
    return Steps(Part.of(module), [optimizer(module.parameters())], CROSS_ENTROPY, clips)


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
        ends.append(step.part.module.state_dict())
    for name, tensor in ends[0].items():
        assert torch.equal(ends[1][name], tensor), name


@pytest.mark.parametrize("norm", [people.Shifted, people.ShiftedAttribute, people.KeepsGraph])
def test_state_that_is_shifted_or_keeps_its_graph_is_what_plain_torch_makes_of_it(norm):
    torch.manual_seed(0)
    examples, index = batches()
    singles = [nn.Sequential(nn.Flatten(), nn.Linear(20, 4), norm(4), nn.Linear(4, 10)).double() for _ in range(2)]
    alone, losses, _ = train_alone(singles[1], OPTIMIZERS["sgd"], 1)
    step = step_of(singles[1], OPTIMIZERS["sgd"])
    assert torch.equal(step(examples, index[:, 1]), losses)
    for name, tensor in alone[2].state_dict().items():
        assert torch.equal(step.part.module[2].state_dict()[name], tensor), name
    held = attributes(copy.deepcopy(step.part.module))  # a graph would forbid the copy
    assert not changed(attributes(alone), held)
    if norm is people.Shifted:
        stack = StackedReplicas(singles)
        (part,) = stack.parts()
        together = Steps(part, [OPTIMIZERS["sgd"](stack.parameters())], CROSS_ENTROPY, None)(examples, index[:, :2])
        torch.testing.assert_close(together[:, 1], losses, rtol=1e-9, atol=1e-12)
        assert_same_network(stack.replica(1), alone)


# Captured steps

RATES = (0.05, 0.05, 0.02)  # of each epoch
# of an epoch's blocks, shorter and longer than what is taken eagerly; a run that goes on begins with a part of one
LENGTHS = [(8, 8, 5), (4,), (3,), (2, 2, 1), (4, 8, 5), (2, 8, 5)]


def train(take, step: Steps, lengths: tuple[int, ...], which: slice | int) -> Tensor:
    """Some epochs of blocks, each epoch at its learning rate and with a smaller mini-batch at its end; the losses."""
    device = step.parameters[0].device
    examples, index = batches(sum(lengths) + 1)
    examples, index = examples.to(device, torch.float64), index[:, which].to(device)
    blocks = [*index[:-1].split(lengths), index[-1:, ..., :3]]
    losses = []
    for rate in RATES:
        for group in step.optimizers[0].param_groups:
            group["lr"] = rate
        losses += [take(examples, block) for block in blocks]
    return torch.cat(losses)


def kept(step: Steps) -> dict[str, Tensor]:
    """All that a step changes: weights, running statistics, counters, and what the optimizer keeps."""
    states = step.optimizers[0].state_dict()["state"]
    return {
        **step.part.module.state_dict(),
        **{f"{i}.{key}": value for i, state in states.items() for key, value in state.items() if value is not None},
    }


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("which", [slice(None), 2], ids=["stack", "one network"])
@pytest.mark.few(4)
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
    assert len(found) > len(captured.part.module.state_dict()), "the optimizer keeps something"
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    # a graph holds a rate that is a number as a constant: one for the first two epochs, one for the third
    assert replays == ([2 * sum(lengths) - eager(lengths), sum(lengths) - eager(lengths)] if max(lengths) > 3 else [])


def eager(lengths: tuple[int, ...]) -> int:
    """The number of steps that are taken eagerly before the first block with more than those is captured."""
    first = next(i for i, length in enumerate(lengths) if length > CapturedSteps.EAGER)
    return sum(lengths[:first]) + CapturedSteps.EAGER


def with_rates_on_device(step: Steps) -> Steps:
    put_rates_on_device(step.optimizers[0])
    return step


@pytest.mark.parametrize("setting", ["lr", "momentum"])
def test_one_graph_serves_all_rates_on_the_device_and_no_other_setting(compose_cell, setting):
    plain, captured = (
        with_rates_on_device(step_of(networks(compose_cell, *MODEL)[0], OPTIMIZERS["sgd"])) for _ in range(2)
    )
    graphs = []
    take = CapturedSteps(captured, lambda function: graphs.append(function) or function)
    examples, index = batches(5)
    for value in (0.1, 0.2, 0.2):
        for step in (plain, captured):
            _update_param_group_val(step.optimizers[0].param_groups[0], setting, value)
        drawn = torch.get_rng_state()
        losses = take(examples, index[:, 0])
        torch.set_rng_state(drawn)
        assert torch.equal(losses, plain(examples, index[:, 0]))
    assert len(graphs) == {"lr": 1, "momentum": 2}[setting]


# Steps that cannot be captured


class Uncapturable(nn.Module):
    """Keeps numbers in Python, and a buffer that each step replaces."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.calls, self.seen = 0, []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(self.calls)
        self.mean = self.mean + (x.detach().mean() - self.mean) / self.calls
        return x - self.mean


def refuse_after(function) -> None:
    """As a capture that fails, though what it did reached the memory, which on a GPU it does not."""
    function()
    raise RuntimeError("operation not permitted\n  when stream is capturing")


def refuse_within(function) -> None:
    """The same, before the optimizer steps."""
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: 1 / 0):
        function()


def repeat_what_python_did_once(function):
    function()
    return function


REFUSED = {
    refuse_after: "operation not permitted when stream is capturing",
    refuse_within: "division by zero",
    repeat_what_python_did_once: "it sets calls, seen in Python, which a graph would do once",
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("capture", REFUSED)
@pytest.mark.few(2)
def test_steps_that_cannot_be_captured_are_taken_eagerly_as_if_that_had_not_been_tried(
    compose_cell, caplog, capture, optimizer
):
    part = nn.Sequential(Uncapturable(), networks(compose_cell, *MODEL)[2])
    plain, captured = (step_of(part, OPTIMIZERS[optimizer], clip=1.0) for _ in range(2))
    attempts = []
    take = CapturedSteps(captured, lambda function: attempts.append(function) or capture(function))
    assert take.refused is None
    torch.manual_seed(0)
    losses = train(take, captured, (8, 8, 5), 2)
    torch.manual_seed(0)
    assert torch.equal(losses, train(plain, plain, (8, 8, 5), 2))
    found, expected = kept(captured), kept(plain)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    ours, theirs = captured.part.module[0], plain.part.module[0]
    assert (ours.calls, ours.seen) == (theirs.calls, theirs.seen)
    assert take.refused == REFUSED[capture]
    assert len(attempts) == 1
    (line,) = [record.message for record in caplog.records if record.name == "bn_experiments.training.captured"]
    assert line == f"the training step cannot be captured as a CUDA graph, so it is slower: {take.refused}"


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("model", ["mlp", "lenet", "lstm"])
@pytest.mark.few(2)
def test_a_step_of_our_networks_leaves_nothing_in_python(compose_cell, model, stacked):
    for norm in NORMS.get(model, ["bn", "ln"]):
        config = compose_cell(f"model={model}", f"norm={norm}", f"trainer.stack_replicas={stacked}").config
        splits = objects.splits(config)
        part = build.replicas(config, splits, stacked).parts()[0]
        clip = partial(clip_gradients, max_norm=1.0)
        steps = Steps(part, [objects.optimizer(config)(part.module)], CROSS_ENTROPY, clip)
        examples = splits.train.to(torch.device("cpu"), torch.float32)
        index = torch.arange(20).view(2, 1, 10).expand(-1, 2, -1)[:, part.replicas]  # (K, R, B) or (K, B)
        steps(examples, index)
        before = Snapshot(part.module, *steps.optimizers)
        steps(examples, index)
        assert before.replaced() == [], norm


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
    take = CapturedSteps(captured)
    torch.testing.assert_close(
        train(take, captured, LENGTHS[0], which), train(eager, eager, LENGTHS[0], which), rtol=1e-9, atol=1e-12
    )
    assert take.refused is None
    assert_same_network(captured.part.module, eager.part.module)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs CUDA")
@pytest.mark.parametrize("optimizer", CAPTURABLE)
def test_a_cuda_graph_reads_a_rate_that_was_filled(compose_cell, optimizer):
    part = networks(compose_cell, "model=mlp", "norm=bn")[2].cuda()
    eager, captured = (with_rates_on_device(step_of(part, CAPTURABLE[optimizer])) for _ in range(2))
    take = CapturedSteps(captured)
    examples, index = batches(8)
    examples, index = examples.to(torch.device("cuda"), torch.float64), index[:, 2].cuda()
    for rate in RATES:
        for step in (eager, captured):
            _update_param_group_val(step.optimizers[0].param_groups[0], "lr", rate)
        torch.testing.assert_close(take(examples, index), eager(examples, index), rtol=1e-9, atol=1e-12)
    assert take.refused is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs CUDA")
def test_a_step_that_reads_a_number_off_the_device_trains_eagerly_with_its_dropout(compose_cell):
    class Reading(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (1.0 if x.sum().item() > 0 else 2.0)

    part = nn.Sequential(Reading(), networks(compose_cell, *MODEL)[2]).cuda()
    eager, captured = (step_of(part, CAPTURABLE["adam"]) for _ in range(2))
    take = CapturedSteps(captured)
    torch.manual_seed(0)
    losses = train(take, captured, LENGTHS[0], 2)
    torch.manual_seed(0)
    torch.testing.assert_close(losses, train(eager, eager, LENGTHS[0], 2), rtol=1e-9, atol=1e-12)
    assert take.refused
    assert torch.cuda.get_sync_debug_mode() == 0
    assert_same_network(captured.part.module, eager.part.module)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs CUDA")
@pytest.mark.parametrize("norm", ["bn", "gn", "ln"])
@pytest.mark.parametrize("which", [slice(None), 2], ids=["stack", "one network"])
def test_a_cuda_graph_in_mixed_precision_trains_as_eager_steps_do(compose_cell, which, norm):
    singles = [network.float() for network in networks(compose_cell, *MODEL, f"norm={norm}")]
    part = (StackedReplicas(singles) if isinstance(which, slice) else singles[which]).cuda()
    eager, captured = (step_of(part, CAPTURABLE["adam"]) for _ in range(2))
    take = CapturedSteps(captured)
    examples, index = batches(12)
    examples, index = examples.to(torch.device("cuda"), torch.float32), index[:, which].cuda()
    with torch.autocast("cuda", torch.bfloat16):
        torch.testing.assert_close(take(examples, index), eager(examples, index), rtol=1e-6, atol=1e-6)
    assert take.refused is None
