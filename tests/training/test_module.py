import copy
import functools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning import Trainer

from bn_experiments.config import build, objects, stacking
from bn_experiments.data.batches import Batching, Blocks, mini_batches
from bn_experiments.data.datamodule import DataModule
from bn_experiments.fitting import score
from bn_experiments.seeds import generator
from bn_experiments.signatures import accepted
from bn_experiments.training.captured import CapturedSteps
from bn_experiments.training.module import Classification, Recipe
from bn_experiments.training.replicas import StackedReplicas
from bn_experiments.training.schedules import RateSchedule
from tests.everything import everything
from tests.pairs import slow

TRAINER = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


def fit(
    cell, steps_per_execution: int, scheduler=None, captured: bool = False, begin: Path | None = None
) -> Classification:
    config = cell.config
    splits = objects.splits(config)
    alone = stacking.agreement_of(config, splits, "cpu").alone
    replicas = build.replicas(config, splits, stacking.stacks(config, splits, "cpu") and not alone)
    schedule = RateSchedule(scheduler, "epoch") if scheduler else objects.schedule(config, splits)
    optimizer, losses, clip = objects.optimizer(config, captured), objects.losses(config), objects.clip(config)
    recipe = Recipe(range(config["replicas"]), optimizer, True, schedule)
    module = Classification(replicas, [recipe], losses, clip, captured)
    batching = Batching(**accepted(Batching, config["data"]))
    data = DataModule(splits, objects.seeds(config), batching, steps_per_execution)
    options = config["trainer"]
    trainer = Trainer(max_epochs=options["max_epochs"], precision=options["precision"], **TRAINER)
    trainer.fit(module, data, ckpt_path=begin, weights_only=True)
    trainer.test(module, data, verbose=False)
    return module


def test_training_equals_a_loop_written_with_torch_alone(compose_cell):
    cell = compose_cell("model=lenet", "norm=bn", "replicas=1", "data.batch_size=50", "trainer.max_epochs=2", "seed=4")
    splits = objects.splits(cell.config)
    network = objects.initial_network(cell.config, splits, 4)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(2):
        order = torch.randperm(225, generator=generator(4, "batches", epoch))
        for start in range(0, 225, 50):
            index = order[start : start + 50]
            optimizer.zero_grad()
            F.cross_entropy(network(splits.train.x[index]), splits.train.y[index]).backward()
            optimizer.step()
    ours = fit(cell, steps_per_execution=3)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(ours.replicas.replica(0).state_dict()[name], tensor, rtol=1e-4, atol=1e-6)
    network.eval()
    accuracy = (network(splits.test.x).argmax(1) == splits.test.y).double().mean()
    assert ours.metrics["test/acc"].item() == pytest.approx(accuracy.item(), abs=1e-6)
    loss = F.cross_entropy(network(splits.test.x), splits.test.y)
    assert ours.metrics["test/loss"].item() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_the_size_of_a_block_changes_no_number(compose_cell, precision):
    cell = compose_cell("norm=bn", "data.batch_size=30", "trainer.max_epochs=2", f"trainer.precision={precision}")
    one, many = (fit(cell, steps) for steps in (1, 50))
    for a, b in zip(one.replicas.parameters(), many.replicas.parameters(), strict=True):
        assert a.dtype == (torch.float64 if precision == "64-true" else torch.float32)
        assert torch.equal(a, b)


def test_both_arms_see_the_same_batches(compose_cell):
    seen = {}
    for norm in ("bn", "none"):
        config = compose_cell(f"norm={norm}").config
        batching = Batching(**accepted(Batching, config["data"]))
        train = objects.splits(config).train
        epochs = [Blocks(train, objects.seeds(config), lambda epoch=e: epoch, batching, 7) for e in range(2)]
        given = [mini_batches(block.examples, block.index.movedim(1, 0)) for blocks in epochs for block in blocks]
        seen[norm] = [batch for block in given for batch in block]
    assert len(seen["bn"]) == 6
    for (x, y), (other_x, other_y) in zip(seen["bn"], seen["none"], strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)
        assert not torch.equal(x[0], x[1]), "replicas see batches of their own"


@pytest.mark.parametrize(("stacked", "optimizers"), [(True, 1), (False, 2)])
def test_the_schedulers_step_once_an_epoch(compose_cell, stacked, optimizers):
    rates = []

    class Recording(torch.optim.lr_scheduler.StepLR):
        def step(self, *args):
            rates.append(self.optimizer.param_groups[0]["lr"])
            super().step(*args)

    cell = compose_cell(
        "trainer.max_epochs=3", "optimizer.lr=0.08", "data.batch_size=30", f"trainer.stack_replicas={stacked}"
    )
    fit(cell, 50, scheduler=lambda optimizer: Recording(optimizer, step_size=1, gamma=0.5))
    expected = [rate for rate in (0.08, 0.04, 0.02) for _ in range(optimizers)]
    assert rates[optimizers:] == pytest.approx(expected)  # the first is torch's own initial step


@pytest.fixture
def graphs(monkeypatch):
    """The steps that are captured from here on, with their memory and counters, though without a device."""
    found = []
    captured = functools.partial(CapturedSteps, capture=lambda function: found.append(function) or function)
    monkeypatch.setattr("bn_experiments.training.module.CapturedSteps", captured)
    return found


CAPTURED = ["norm=bn", "model.dropout=0.2", "data.batch_size=30", "scheduler=cosine", "optimizer=adam"]


def assert_same_training(one: Classification, other: Classification) -> None:
    """As close as rates in float32, which a captured step reads, are to the schedule's."""
    torch.testing.assert_close(one.replicas.state_dict(), other.replicas.state_dict(), rtol=1e-4, atol=1e-5)
    assert one.metrics.keys() == other.metrics.keys()
    for name in ("val/loss", "test/loss"):
        torch.testing.assert_close(one.metrics[name], other.metrics[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stacked", [True, False])
def test_captured_training_ends_with_the_numbers_of_plain_training(compose_cell, graphs, stacked):
    cell = compose_cell(*CAPTURED, "trainer.max_epochs=3", f"trainer.stack_replicas={stacked}")
    plain, captured = (fit(cell, 5, captured=captured) for captured in (False, True))
    assert len(graphs) == len(captured.parts), "one for each part, though each epoch has another rate"
    assert_same_training(plain, captured)


@pytest.mark.parametrize("captured", [True, False])
def test_a_run_goes_on_from_the_checkpoint_of_a_captured_or_plain_one(compose_cell, graphs, tmp_path, captured):
    cell = compose_cell(*CAPTURED, "scheduler.T_max=3", "trainer.max_epochs=3")
    whole = fit(cell, 5)
    half = copy.deepcopy(cell.config)
    half["trainer"]["max_epochs"] = 2
    before = fit(replace(cell, config=half), 5, captured=not captured)
    before.trainer.save_checkpoint(tmp_path / "half.ckpt")
    after = fit(cell, 5, captured=captured, begin=tmp_path / "half.ckpt")
    assert after.trainer.global_step == whole.trainer.global_step
    assert len(graphs) == 1, "of the one that is captured"
    assert_same_training(after, whole)


def test_the_same_config_gives_the_same_numbers(compose_cell):
    cell = compose_cell("norm=bn")
    first, second = fit(cell, 50), fit(cell, 50)
    for a, b in zip(first.replicas.parameters(), second.replicas.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_replica_that_diverged_counts_at_chance_and_is_marked():
    metrics = {
        "train/running_loss": torch.tensor([0.1, torch.inf, 0.3]),
        "test/loss": torch.tensor([0.2, torch.nan, 0.4]),
        "test/acc": torch.tensor([0.9, 0.0, 0.8]),
    }
    scored, diverged = score(metrics, num_classes=10)
    assert diverged == [False, True, False]
    assert scored["test/acc"] == pytest.approx([0.9, 0.1, 0.8])
    assert scored["test/loss"] == [pytest.approx(0.2), None, pytest.approx(0.4)]
    assert scored["train/running_loss"][1] is None


def test_in_double_precision_training_equals_a_loop_in_float64_to_the_last_digits(compose_cell):
    cell = compose_cell("norm=bn", "trainer.precision=64-true", "data.batch_size=50", "trainer.max_epochs=3")
    splits = objects.splits(cell.config).to(torch.device("cpu"), torch.float64)
    ours = fit(cell, steps_per_execution=3)
    assert isinstance(ours.replicas, StackedReplicas)
    for i, seed in enumerate(objects.seeds(cell.config)):
        network = objects.initial_network(cell.config, splits, seed).double()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
        for epoch in range(3):
            for index in torch.randperm(225, generator=generator(seed, "batches", epoch)).split(50):
                optimizer.zero_grad()
                x, y = splits.train.take(index)
                F.cross_entropy(network(x), y).backward()
                optimizer.step()
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(ours.replicas.replica(i).state_dict()[name], tensor, rtol=1e-12, atol=1e-12)
        network.eval()
        for split in ("val", "test"):
            x, y = everything(getattr(splits, split))
            loss, found = F.cross_entropy(network(x), y), ours.metrics[f"{split}/loss"][i]
            torch.testing.assert_close(found, loss.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("model", ["mlp", "lenet", *slow("lstm", "residual_mlp")])
@pytest.mark.parametrize("norm", ["none", "bn", "gn", "ln", "rms", "in", "wn"])
@pytest.mark.few(2)
def test_in_mixed_precision_a_stack_is_as_close_to_float32_as_replicas_alone(compose_cell, model, norm):
    if norm == "in" and model != "lenet":
        pytest.skip("instance norm has no place in a fully connected network")
    small = ["model.hidden=8"] if model == "lstm" else []
    keys = [f"model={model}", f"norm={norm}", "data.batch_size=25", "data.train_examples=125", *small]
    ends = {}
    for precision, stacked in (("32-true", True), ("bf16-mixed", True), ("bf16-mixed", False)):
        cell = compose_cell(*keys, f"trainer.precision={precision}", f"trainer.stack_replicas={stacked}")
        ours = fit(cell, 50)
        assert isinstance(ours.replicas, StackedReplicas) == stacked
        content = [ours.replicas.replica(i).state_dict() for i in range(2)]
        ends[precision, stacked] = torch.cat([one.double().flatten() for own in content for one in own.values()])
    start = [objects.initial_network(cell.config, objects.splits(cell.config), seed).state_dict() for seed in range(2)]
    moved = ends["32-true", True] - torch.cat([one.double().flatten() for own in start for one in own.values()])
    off = {kind: float((end - ends["32-true", True]).norm() / moved.norm()) for kind, end in ends.items()}
    assert 0 < off["bf16-mixed", True] < 1.5 * off["bf16-mixed", False]


@pytest.mark.parametrize("stacked", [True, False])
def test_captured_training_in_mixed_precision_ends_with_the_numbers_of_plain_training(compose_cell, graphs, stacked):
    cell = compose_cell(*CAPTURED, "trainer.precision=bf16-mixed", f"trainer.stack_replicas={stacked}")
    plain, captured = (fit(cell, 9, captured=captured) for captured in (False, True))
    assert len(graphs) == len(captured.parts)
    assert_same_training(plain, captured)
