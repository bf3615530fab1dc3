"""Rates on the device, and states that captured and plain runs share."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import lr_scheduler

from bn_experiments.config import objects
from bn_experiments.training.optimizers import keep_form, put_rates_on_device
from tests.conftest import CONF

RATE, EPOCHS = 0.05, 12
SCHEDULERS = {
    "step": lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.3),
    "multistep": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [1, 5], 0.1),
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 5, 1e-4),
    "restarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 4),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=EPOCHS + 1),
    "cyclic": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, step_size_up=3),
    "lambda": lambda optimizer: lr_scheduler.LambdaLR(optimizer, [lambda epoch: 1 / (1 + epoch), math.cos]),
    "exponential": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.7),
    "linear": lambda optimizer: lr_scheduler.LinearLR(optimizer, 0.2, total_iters=6),
    "polynomial": lambda optimizer: lr_scheduler.PolynomialLR(optimizer, EPOCHS, 2.0),
    "warmup": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3), lr_scheduler.CosineAnnealingLR(optimizer, 8)],
        [3],
    ),
}


def two_groups(make, device: str | None = None) -> torch.optim.Optimizer:
    network = nn.Linear(3, 2, device=device)
    return make([{"params": [network.weight]}, {"params": [network.bias], "weight_decay": 0.0}])


def take_step(optimizer: torch.optim.Optimizer) -> None:
    for parameter in (one for group in optimizer.param_groups for one in group["params"]):
        parameter.grad = torch.linspace(-1, 1, parameter.numel()).view_as(parameter)
    optimizer.step()


def settings_of_epochs(scheduler, on_device: bool) -> list[list[tuple[float, float]]]:
    """The rate and the momentum of each group, in each epoch."""
    optimizer = two_groups(lambda groups: torch.optim.SGD(groups, RATE, momentum=0.9, fused=True))
    made, found = scheduler(optimizer), []
    if on_device:
        put_rates_on_device(optimizer)
    tensors = [group["lr"] for group in optimizer.param_groups if on_device]
    for _ in range(EPOCHS):
        found.append([(float(group["lr"]), group["momentum"]) for group in optimizer.param_groups])
        take_step(optimizer)
        made.step()
    assert all(group["lr"] is one for group, one in zip(optimizer.param_groups, tensors, strict=False)), "filled"
    return found


def assert_same_epochs(scheduler) -> None:
    torch.testing.assert_close(
        *(torch.tensor(settings_of_epochs(scheduler, where)) for where in (True, False)), rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_scheduler_gives_the_same_rates_on_the_device(scheduler):
    assert_same_epochs(SCHEDULERS[scheduler])


OPTIONS = sorted(file.stem for file in (CONF / "scheduler").glob("*.yaml"))
OPTIONS.remove("decay_equivalent")  # which takes no momentum


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_the_scheduler_gives_the_same_rates_on_the_device(compose_cell, option):
    config = compose_cell(f"scheduler={option}", "trainer.max_epochs=20").config
    assert_same_epochs(objects.schedule(config, objects.splits(config)).make)


class Own(torch.optim.SGD):
    """An optimizer that is not torch's."""


@pytest.mark.parametrize(
    ("make", "is_tensor"),
    [
        (lambda groups: torch.optim.SGD(groups, RATE, fused=True), True),
        (lambda groups: torch.optim.SGD(groups, RATE), False),  # reads the number off a tensor
        (lambda groups: torch.optim.Adam(groups, RATE, fused=True, capturable=True), True),
        (lambda groups: torch.optim.RMSprop(groups, RATE, capturable=True), True),
        (lambda groups: torch.optim.RMSprop(groups, RATE, capturable=True, foreach=False), False),  # so does it
        (lambda groups: torch.optim.Adam(groups, RATE), False),
        (lambda groups: Own(groups, RATE, fused=True), False),
    ],
)
def test_a_rate_is_a_tensor_where_the_kernels_of_torch_read_one(make, is_tensor):
    optimizer = two_groups(make)
    put_rates_on_device(optimizer)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert [isinstance(rate, Tensor) for rate in rates] == [is_tensor] * 2
    assert [float(rate) for rate in rates] == pytest.approx([RATE] * 2)
    if is_tensor:
        rates[0].fill_(1.0)
        assert rates[1] == pytest.approx(RATE), "each group has its own"


CAPTURABLE = ["Adam", "AdamW", "NAdam", "RAdam", "Adamax", "ASGD", "Adadelta", "RMSprop"]


@pytest.mark.parametrize("name", CAPTURABLE)
def test_a_step_with_its_rate_on_the_device_reads_no_number_off_it(name):
    with FakeTensorMode():  # has a CUDA device without memory, on which reading a number is an error
        make = getattr(torch.optim, name)
        optimizer = two_groups(lambda groups: make(groups, RATE, capturable=True, foreach=True), "cuda")
        put_rates_on_device(optimizer)
        assert {group["lr"].device.type for group in optimizer.param_groups} == {"cuda"}
        for _ in range(2):
            take_step_of_nothing(optimizer)
        with pytest.raises(Exception, match="_local_scalar_dense"):
            float(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_a_fused_kernel_trains_as_well_with_its_rate_in_a_tensor(name):
    ends = []
    for on_device in (True, False):
        torch.manual_seed(0)
        optimizer = two_groups(lambda groups: getattr(torch.optim, name)(groups, RATE, fused=True))
        if on_device:
            put_rates_on_device(optimizer)
        for rate in (0.05, 0.01):
            for group in optimizer.param_groups:
                lr_scheduler._update_param_group_val(group, "lr", rate)
            take_step(optimizer)
        ends.append([one.detach() for group in optimizer.param_groups for one in group["params"]])
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-7)


def adam(captured: bool) -> torch.optim.Optimizer:
    torch.manual_seed(0)
    optimizer = two_groups(lambda groups: torch.optim.Adam(groups, RATE, fused=True, capturable=captured))
    keep_form(optimizer)
    if captured:
        put_rates_on_device(optimizer)
    return optimizer


@pytest.mark.parametrize("captured", [True, False])
def test_a_run_goes_on_from_the_state_of_a_captured_or_plain_one_in_its_own_form(tmp_path, captured):
    before, after = adam(not captured), adam(captured)
    take_step(before)
    for group in before.param_groups:
        lr_scheduler._update_param_group_val(group, "lr", 0.5)
    torch.save(before.state_dict(), tmp_path / "state")
    after.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for group in after.param_groups:
        assert group["capturable"] is captured
        assert isinstance(group["lr"], Tensor if captured else float)
        assert group["lr"] == 0.5
    for own, other in zip(after.state.values(), before.state.values(), strict=True):
        assert own.keys() == other.keys()
        assert all(torch.equal(own[key], other[key]) for key in own)
    take_step(after)


def test_the_counters_of_a_plain_run_go_to_the_device_where_the_step_is_captured():
    with FakeTensorMode():
        plain, captured = (
            two_groups(lambda groups, captured=captured: torch.optim.Adam(groups, RATE, capturable=captured), "cuda")
            for captured in (False, True)
        )
        take_step_of_nothing(plain)
        assert {state["step"].device.type for state in plain.state.values()} == {"cpu"}
        keep_form(captured)
        captured.load_state_dict(plain.state_dict())
        assert {state["step"].device.type for state in captured.state.values()} == {"cuda"}
        take_step_of_nothing(captured)


def take_step_of_nothing(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.empty_like(parameter)
    optimizer.step()
