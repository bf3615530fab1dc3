"""Through time: the gradient of each state by hand, by autograd and far outside the range of a float, and its rate."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bn_experiments.claims.protocol import Claim
from bn_experiments.config.check import check
from bn_experiments.data.examples import Examples
from bn_experiments.data.splits import Splits
from bn_experiments.figures.arms import Arm, looks
from bn_experiments.models.lstm import LSTM
from bn_experiments.models.recurrent import Term
from bn_experiments.models.rnn import RNN
from bn_experiments.norms.slot import Slot
from bn_experiments.oracles import bn_rnn_factor
from bn_experiments.probes.through_time import ThroughTime, log_norms
from bn_experiments.probes.through_time_figures import through_time
from bn_experiments.probes.through_time_oracles import rate
from bn_experiments.records.quantities import Quantity
from bn_experiments.run import run
from bn_experiments.training.replicas import SeparateReplicas, StackedReplicas
from tests.cells_by_hand import a_result, write_cell
from tests.probes.runs import npz, refusals

PLACE = {"placement": "pre", "bias": "auto", "scale_init": "ones", "layers": "all"}
BATCH, CHANNELS, STEPS, HIDDEN = 6, 3, 9, 5


def network_of(model: type[nn.Module], target: str | None, **more) -> nn.Module:
    torch.manual_seed(0)
    slot = Slot(target, **PLACE, **({"eps": 1e-5} if target else {}))
    return model((CHANNELS, STEPS), 2, slot, hidden=HIDDEN, **{"reading": "rows", "norms": "terms", **more}).double()


def signals() -> Tensor:
    return torch.randn(BATCH, CHANNELS, STEPS, generator=torch.Generator().manual_seed(2)).double()


def drawn() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def by_autograd(network: nn.Module, x: Tensor, step) -> Tensor:
    """The logarithms of the norms, of the states that `step(t, x_t)` returns one after the other."""
    reached = []
    for t in range(x.shape[2]):
        reached.append(step(t, x[:, :, t]))
        reached[-1].retain_grad()
    direction = torch.randn(reached[-1].shape, generator=drawn()).to(x)
    (reached[-1] * direction).sum().backward()
    return torch.stack([state.grad.norm().log() for state in reached]).detach()


@pytest.mark.parametrize("target", [None, "torch.nn.BatchNorm1d", "torch.nn.LayerNorm"])
def test_the_gradients_of_an_rnn_are_those_of_autograd(target):
    network, x = network_of(RNN, target, recurrent_init="orthogonal"), signals()
    h = torch.zeros(BATCH, HIDDEN).double()

    def step(t: int, x_t: Tensor) -> Tensor:
        nonlocal h
        h = (network.hidden(h, t) + network.input(x_t, t)).tanh()
        return h

    torch.testing.assert_close(log_norms(network, x, drawn()), by_autograd(network, x, step))


@pytest.mark.parametrize("target", [None, "torch.nn.BatchNorm1d", "torch.nn.LayerNorm"])
def test_the_gradients_of_an_lstm_are_those_of_autograd_though_its_memory_goes_past_the_state(target):
    network, x = network_of(LSTM, target), signals()
    h = c = torch.zeros(BATCH, HIDDEN).double()

    def step(t: int, x_t: Tensor) -> Tensor:
        nonlocal h, c
        i, f, g, o = (network.hidden(h, t) + network.input(x_t, t)).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * (c if network.cell.norm is None else network.cell.norm(c, t)).tanh()
        return h

    torch.testing.assert_close(log_norms(network, x, drawn()), by_autograd(network, x, step))


class Linear(nn.Module):
    """The states h_t = 10^exponent h_{t-1} + x."""

    def __init__(self, exponent: float, steps: int):
        super().__init__()
        self.hidden = Term(nn.Linear(HIDDEN, HIDDEN, bias=False).double(), None)
        nn.init.eye_(self.hidden.layer.weight)
        self.hidden.layer.weight.data *= 10.0**exponent
        self.made, self.output, self.steps = nn.Identity(), nn.Linear(HIDDEN, 1), steps

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros_like(x)
        for t in range(self.steps):
            h = self.made(self.hidden(h, t) + x)
        return self.output(h)


@pytest.mark.parametrize("exponent", [0.0, -3.0, 3.0])
def test_a_gradient_far_outside_the_range_of_a_float_keeps_its_logarithm(exponent):
    network, x = Linear(exponent, steps=400), torch.randn(BATCH, HIDDEN)
    found = log_norms(network, torch.zeros_like(x), drawn())
    last = torch.randn(BATCH, HIDDEN, generator=drawn()).double().norm().log()
    expected = last + exponent * math.log(10) * torch.arange(399, -1, -1)
    assert abs(expected[0]) > 900 * abs(exponent), "a float64 ends at e^709"
    torch.testing.assert_close(found, expected.double())


def normalized(z: Tensor) -> Tensor:
    return (z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt()


def test_the_gradient_of_an_lstm_is_that_of_its_steps_one_by_one_where_a_float_overflows():
    batch, hidden, steps = 3, 2, 200
    torch.manual_seed(0)
    network = LSTM(
        (1, steps), 2, Slot("torch.nn.BatchNorm1d", **PLACE, eps=1e-5), hidden=hidden, reading="rows", norms="terms"
    )
    x = torch.zeros(batch, 1, steps).double()
    x[:, :, -5:] = torch.randn(batch, 1, 5, generator=drawn())  # before that batch norm divides by sqrt(eps) alone
    found = log_norms(network, x, drawn())

    def step(state: Tensor, x_t: Tensor) -> Tensor:
        h, c = state
        terms = normalized(h @ network.hidden.layer.weight.T) + normalized(x_t @ network.input.layer.weight.T)
        i, f, g, o = terms.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return torch.stack([o.sigmoid() * normalized(c).tanh(), c])

    states = [torch.zeros(2, batch, hidden).double()]
    for t in range(steps):
        states.append(step(states[-1], x[:, :, t]).detach())
    gradient = torch.zeros(2, batch, hidden).double()
    gradient[0] = torch.randn(batch, hidden, generator=drawn())
    total, expected = 0.0, [gradient.norm().log()]
    for t in range(steps - 1, 0, -1):
        (gradient,) = torch.func.vjp(lambda state, t=t: step(state, x[:, :, t]), states[t])[1](gradient)
        expected.append(total + gradient[0].norm().log())
        total += gradient.norm().log()
        gradient = gradient / gradient.norm()
    assert found[0] > 710, "a float64 ends at e^709"
    torch.testing.assert_close(found, torch.stack(expected[::-1]).detach())


def test_it_is_zero_where_nothing_comes_back():
    network = Linear(0.0, steps=3)
    network.hidden.layer.weight.data.zero_()
    found = log_norms(network, torch.zeros(BATCH, HIDDEN), drawn())
    assert found[:2].tolist() == [-math.inf, -math.inf]
    assert found[2].isfinite()


def growing(factor: float) -> Linear:
    network = Linear(math.log10(factor), steps=STEPS)
    network.float()
    return network


@pytest.mark.parametrize("kind", [StackedReplicas, SeparateReplicas])
def test_the_rate_is_that_of_a_time_step_without_those_at_the_ends(kind):
    replicas = kind([growing(factor) for factor in (2.0, 0.5, 1.0)])
    one = Examples(torch.randn(20, HIDDEN), torch.zeros(20).long(), torch.ones(1), torch.zeros(1))
    for skip, start, first in ((2, 0.0, 1), (STEPS // 2, 0.5, STEPS // 2)):
        probe = ThroughTime(batch_size=5, skip=skip, start=start)
        probe.seeds = (3, 4, 5)
        reading = probe.measure(replicas, Splits(one, one, one, ("a",)))
        assert reading.labels == [str(t) for t in range(1, STEPS + 1)]
        logs = torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64).log()
        ratio = reading.values["log10_norm"][:, first - 1] - reading.values["log10_norm"][:, -1]
        torch.testing.assert_close(reading.values["log10_ratio"], ratio)
        torch.testing.assert_close(ratio, (STEPS - first) * logs / math.log(10), rtol=1e-6, atol=1e-6)
        if first == 1:
            torch.testing.assert_close(reading.values["rate"], 2 * logs, rtol=1e-6, atol=1e-6)
        else:
            assert reading.values["rate"].isnan().all(), "a single time step has no slope"


def test_measuring_leaves_the_replicas_as_they_are():
    replicas = SeparateReplicas([growing(2.0)])
    one = Examples(torch.randn(20, HIDDEN), torch.zeros(20).long(), torch.ones(1), torch.zeros(1))
    probe = ThroughTime(batch_size=5, skip=0, start=0.0)
    probe.seeds = (3,)
    probe.measure(replicas, Splits(one, one, one, ("a",)))
    assert all(parameter.dtype == torch.float32 for parameter in replicas.parameters())


def test_a_network_without_a_recurrent_state_is_refused_before_anything_trains(compose_cell):
    (line,) = refusals(compose_cell("model=mlp", "probes=[through_time]"))
    assert line.startswith("probes.through_time: MLP has no state that goes from time step to time step; allowed: ")
    for model in ("rnn", "lstm"):
        assert refusals(compose_cell(f"model={model}", "probes=[through_time]")) == []


def test_in_a_wide_network_the_rate_of_batch_norm_is_the_oracles(compose_cell):
    keys = ["data=gaussian", "data.train_examples=null", "data.shape=[150,20]", "data.examples=200"]
    keys += ["data.test_examples=10", "data.batch_size=150", "model=rnn", "model.hidden=150", "init=torch"]
    keys += ["trainer.max_epochs=0", "probes=[through_time]", "norm=bn"]
    for gain, norms, variance in ((0.5, "terms", None), (1.0, "terms", None), (0.5, "sum", 150 / (3 * 150))):
        cell = compose_cell(*keys, f"norm.scale_init={gain}", f"model.norms={norms}")
        assert check(cell) == []
        run(cell)
        rates = npz(cell)["through_time/rate"][0]
        assert rates.shape == (2,)
        np.testing.assert_allclose(rates, math.log(bn_rnn_factor(gain, variance)), atol=0.05)
        assert rate(cell.config) == math.log(bn_rnn_factor(gain, variance))
    assert rate(compose_cell(*keys).config) == rate(compose_cell(*keys, "norm.scale_init=1.0").config)


def test_of_a_reading_of_the_start_and_one_of_the_end_the_figure_shows_the_last(tmp_path):
    norms = np.random.default_rng(0).normal(size=(2, 5, STEPS))
    readings = {"through_time/epochs": np.array([0, 3]), "through_time/log10_norm": norms}
    readings |= {"through_time/time_step": np.array([str(t) for t in range(1, STEPS + 1)])}
    metrics = {"test/acc": [0.5] * 5}
    folder = write_cell(tmp_path / "bn", "bn", metrics, probes=readings)
    arm = Arm("bn", folder, a_result("bn", metrics), looks({"bn": "bn"})["bn"])
    np.testing.assert_allclose(through_time({"bn": arm}, []).data["mean"], norms[1].mean(axis=0))


@pytest.mark.parametrize("oracle", [None, f"{rate.__module__}.rate"])
def test_the_figure_shows_the_means_and_the_slope_of_the_theory(tmp_path, compose_cell, oracle):
    norms = np.random.default_rng(0).normal(size=(1, 5, STEPS))
    readings = {"through_time/epochs": np.array([0]), "through_time/log10_norm": norms}
    readings |= {"through_time/time_step": np.array([str(t) for t in range(1, STEPS + 1)])}
    readings |= {"through_time/rate": norms[:, :, 0]}
    metrics = {"test/acc": [0.5] * 5}
    config = compose_cell("model=rnn", "norm=bn", "norm.scale_init=0.1", "data=gaussian", "data.shape=[99,9]").config
    folder = write_cell(tmp_path / "bn", "bn", metrics, probes=readings, config=config)
    arm = Arm("bn", folder, a_result("bn", metrics, config=config), looks({"bn": "bn"})["bn"])
    values = Quantity("bn", "through_time/rate", moment="start")
    claims = [Claim("c", "agreement", {"values": values, "margin": 0.1}, oracle=oracle)] if oracle else []
    drawing = through_time({"bn": arm}, claims)
    assert drawing.data["time_step"].tolist() == readings["through_time/time_step"].tolist()
    np.testing.assert_allclose(drawing.data["mean"], norms[0].mean(axis=0))
    assert ("theory" in drawing.caption) == (oracle is not None)
    assert ("theory" in drawing.svg) == (oracle is not None)
