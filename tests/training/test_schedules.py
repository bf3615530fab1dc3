"""Schedules by step: the rates of torch's own, in a stack, captured, and after a cut in the middle of an epoch."""

import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from bn_experiments.config import objects
from bn_experiments.config.check import check_cells
from bn_experiments.run import run
from bn_experiments.system import interruption
from bn_experiments.training.module import Classification
from bn_experiments.training.schedules import Length, RateSchedule
from tests.training.test_module import fit, graphs  # noqa: F401

RATE, EPOCHS, STEPS = 0.05, 3, 9  # 225 examples in mini-batches of 25
RUN = [f"optimizer.lr={RATE}", f"trainer.max_epochs={EPOCHS}", "data.batch_size=25", "probes=[]"]
RUN += ["trainer.steps_per_execution=4"]


def he(optimizer, warmup: int, steps: int):
    """The warm-up and cosine as torch's own schedulers have them."""
    up = lr_scheduler.LinearLR(optimizer, 1 / warmup, total_iters=warmup - 1)
    down = lr_scheduler.CosineAnnealingLR(optimizer, steps - warmup)
    return lr_scheduler.SequentialLR(optimizer, [up, down], [warmup])


class Halving(lr_scheduler.LRScheduler):
    """A scheduler of one's own, which makes each rate of the last one and needs the number of all steps."""

    def __init__(self, optimizer, total_steps: int):
        self.half_life = total_steps / 4
        super().__init__(optimizer)

    def get_lr(self):
        factor = 0.5 ** (1 / self.half_life) if self.last_epoch else 1.0
        return [group["lr"] * factor for group in self.optimizer.param_groups]


OWN = ["scheduler._target_=tests.training.test_schedules.Halving", "~scheduler.factor"]
SCHEDULES = {
    "by step": (["scheduler=step", "scheduler.interval=step", "scheduler.step_size=5"],
                lambda o: lr_scheduler.StepLR(o, 5, 0.1)),
    "cosine": (["scheduler=cosine", "scheduler.interval=step"],
               lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS * STEPS)),
    "exponential": (["scheduler=exponential", "scheduler.interval=step"], lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
    "one cycle": (["scheduler=one_cycle"],
                  lambda o: lr_scheduler.OneCycleLR(o, RATE, EPOCHS * STEPS, cycle_momentum=False)),
    "warm-up": (["scheduler=warmup_cosine"], lambda o: he(o, STEPS, EPOCHS * STEPS)),
    "warm-up of steps": (["scheduler=warmup_cosine", "scheduler.warmup_steps=4"], lambda o: he(o, 4, EPOCHS * STEPS)),
    "own": ([*OWN, "scheduler.interval=step"], lambda o: Halving(o, EPOCHS * STEPS)),
}  # fmt: skip


def rates_of(scheduler, steps: int) -> list[float]:
    """The rates of a plain loop."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], RATE)
    made, found = scheduler(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step()
    return found


@pytest.fixture
def seen(monkeypatch):
    """The rate of each step of the first part, as its optimizer has it."""
    rates, take = [], Classification.training_step

    def recorded(module, block, index):
        _, steps = module.steps[0]
        steps = getattr(steps, "steps", steps)
        advance = steps.advance

        def noted():
            rates.append(float(steps.optimizers[0].param_groups[0]["lr"]))
            advance()

        steps.advance = noted
        try:
            return take(module, block, index)
        finally:
            del steps.advance

    monkeypatch.setattr(Classification, "training_step", recorded)
    return rates


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.few(4)
def test_every_step_has_the_rate_of_torchs_own_scheduler_in_a_plain_loop(compose_cell, seen, name, stacked):
    keys, plain = SCHEDULES[name]
    fit(compose_cell(*RUN, *keys, f"trainer.stack_replicas={stacked}"), 4)
    assert seen == pytest.approx(rates_of(plain, EPOCHS * STEPS), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.few(2)
def test_a_run_cut_in_the_middle_of_an_epoch_goes_on_with_the_same_rates_and_numbers(
    compose_cell, seen, monkeypatch, name, tmp_path
):
    keys, plain = SCHEDULES[name]
    whole = run(compose_cell(*RUN, *keys, "name=whole"))
    cell, blocks = compose_cell(*RUN, *keys, "name=cut"), []
    seen.clear()
    monkeypatch.setattr(interruption, "asked", lambda: len(seen) >= STEPS + 4 and not blocks)

    def end():
        if interruption.asked():
            blocks.append(0)
            raise interruption.Interrupted(15)

    monkeypatch.setattr(interruption, "check", end)
    with pytest.raises(interruption.Interrupted):
        run(cell)
    assert len(seen) == STEPS + 4, "in the middle of the second epoch"
    again = run(cell)
    assert seen == pytest.approx(rates_of(plain, EPOCHS * STEPS), rel=1e-12, abs=1e-15)
    assert again.metrics == whole.metrics


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.few(3)
def test_captured_steps_read_the_same_rates_from_one_graph(compose_cell, seen, graphs, name):  # noqa: F811
    keys, plain = SCHEDULES[name]
    captured = fit(compose_cell(*RUN, *keys), 4, captured=True)
    assert seen == pytest.approx(rates_of(plain, EPOCHS * STEPS), rel=1e-6, abs=1e-9), "float32 on the device"
    assert len(graphs) == 1
    assert captured.steps[0][1].refused is None


@pytest.mark.parametrize("keys", [["scheduler.cycle_momentum=true"], ["optimizer.fused=false"]])
def test_what_a_graph_holds_as_a_constant_and_changes_by_step_is_not_replayed(compose_cell, graphs, keys):  # noqa: F811
    cell = compose_cell(*RUN, "scheduler=one_cycle", *keys, "norm=bn")
    plain, captured = (fit(cell, 9, captured=captured) for captured in (False, True))
    assert captured.steps[0][1].refused == "its scheduler changes in every step what a graph holds as a constant"
    torch.testing.assert_close(plain.replicas.state_dict(), captured.replicas.state_dict(), rtol=1e-4, atol=1e-6)


def test_the_warm_up_ends_at_the_rate_and_the_cosine_is_half_way_down_in_the_middle():
    options = {"interval": "step", "warmup_epochs": 0.5, "warmup_steps": None, "eta_min": 0.01}
    from bn_experiments.training.schedules import WarmupCosine

    rates = rates_of(RateSchedule.of(WarmupCosine, options, Length(3, 8)).make, 24)
    assert rates[:4] == pytest.approx([RATE / 4, RATE / 2, RATE * 3 / 4, RATE])
    assert rates[4] == pytest.approx(RATE)
    assert rates[14] == pytest.approx((RATE + 0.01) / 2)
    assert rates[23] == pytest.approx(0.01 + (RATE - 0.01) * (1 + math.cos(math.pi * 19 / 20)) / 2)


def test_groups_with_rates_of_their_own_keep_their_ratio_in_one_cycle(compose_cell):
    config = compose_cell(
        "scheduler=one_cycle", "data.batch_size=10", "optimizer.groups.norms.lr=0.001", "norm=bn"
    ).config
    splits = objects.splits(config)
    optimizer = objects.optimizer(config)(objects.initial_network(config, splits, 0))
    objects.schedule(config, splits).make(optimizer)
    assert [group["lr"] for group in optimizer.param_groups if group["params"]] == pytest.approx(
        [0.05 / 25, 0.05 / 25, 0.001 / 25]
    )


PLATEAU = ["scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau", "scheduler.factor=0.1"]


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (PLATEAU, "its step needs metrics, and one rate serves all replicas, each with values of its own; allowed: "),
        (["scheduler._target_=torch.nn.ReLU", "~scheduler.factor"], "scheduler"),
        (["scheduler.interval=batch"], "scheduler.interval=batch: wrong value; allowed: epoch or step"),
        (
            ["scheduler=warmup_cosine", "scheduler.warmup_steps=1000"],
            "scheduler.warmup_steps=1000: a warm-up of 1000 steps of the schedule, in a run of 3; allowed: a warm",
        ),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_in_one_line(compose_cell, keys, line):
    (found,) = map(str, check_cells([compose_cell(*keys)]))
    assert line in found
    assert "\n" not in found


SCALED = ["norm=bn", "optimizer.momentum=0", "trainer.precision=64-true", "model.hidden=[16,12]"]
GROWING = [
    "optimizer.momentum=0",
    "scheduler=decay_equivalent",
    "scheduler.weight_decay=0.5",
    f"optimizer.groups.scale_invariant.lr={RATE}",
]
DECAYING = ["optimizer.groups.scale_invariant.weight_decay=0.5"]


def test_growing_rates_are_those_of_the_formula_in_the_group_of_scale_invariant_weights_alone(compose_cell):
    config = compose_cell(*RUN, *GROWING).config
    groups = [
        {"params": [nn.Parameter(torch.zeros(2))], "lr": RATE, "kind": kind} for kind in ("scale_invariant", "norms")
    ]
    optimizer = torch.optim.SGD(groups, RATE)
    scheduler = objects.schedule(config, objects.splits(config)).make(optimizer)
    for t in range(5):
        expected = RATE * (1 - RATE * 0.5) ** (-2 * t - 1)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([expected, RATE], rel=1e-12)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.few(1)
def test_under_growing_rates_a_network_is_the_one_that_decays(compose_cell, stacked):
    own = [*RUN, *SCALED, "norm.eps=1e-12", f"trainer.stack_replicas={stacked}"]
    decaying, growing, neither = (
        run(compose_cell(*own, *keys, f"name={i}")).metrics["train/running_loss"]
        for i, keys in enumerate((DECAYING, GROWING, []))
    )
    assert growing == pytest.approx(decaying, abs=1e-10)
    assert growing != pytest.approx(neither, abs=1e-4)


def test_the_schedule_makes_the_group_with_the_rate_of_the_optimizer(compose_cell):
    keys = ["norm=bn", "model.hidden=[8,6]", "optimizer.momentum=0", "scheduler=decay_equivalent"]
    config = compose_cell(*RUN, *keys).config
    network = objects.initial_network(config, objects.splits(config), 0)
    made = objects.optimizer(config)(network)
    (own,) = [group for group in made.param_groups if group.get("kind") == "scale_invariant"]
    assert own["lr"] == RATE
    assert [tuple(one.shape) for one in own["params"]] == [(8, 40), (6, 8)]


def test_a_schedule_that_the_optimizer_cannot_follow_is_refused(compose_cell):
    keys = [key.replace("=0.5", "=20") for key in GROWING]
    (refusal,) = check_cells([compose_cell(*RUN, *keys)])
    assert str(refusal).startswith("scheduler.weight_decay=20: a rate of 0.05 grows beyond all bounds in 27 steps")
    assert check_cells([compose_cell(*RUN, *GROWING, "optimizer.lr=3")]) == [], "the other groups keep their rates"
    for other in ("optimizer.momentum=0.5", "optimizer=adam"):
        keys = [key for key in GROWING if key != "optimizer.momentum=0"]
        (refusal,) = check_cells([compose_cell(*RUN, *keys, other)])
        assert "that of SGD without momentum" in str(refusal)
