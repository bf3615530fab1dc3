import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bn_experiments.config import objects
from bn_experiments.models.rnn import RNN
from bn_experiments.norms.slot import Slot, norms_of
from bn_experiments.training.initialization import initialize
from tests.models.test_lstm import PLACE, TARGETS, signals
from tests.models.test_models import count, linear, splits

CLASSES, HIDDEN, STEPS, FEATURES, BATCH = 5, 6, 7, 3, 16


def rnn(norm: str, recurrent_init="orthogonal", hidden=HIDDEN, norms="terms", **changes) -> RNN:
    """In float64, and with scales and shifts that no one would notice missing if they were ones and zeros."""
    slot = Slot(**{**PLACE, **TARGETS[norm], **changes})
    network = RNN(
        (FEATURES, STEPS), CLASSES, slot, hidden=hidden, reading="rows", norms=norms, recurrent_init=recurrent_init
    )
    initialize(network, 0, "torch", "ones")
    generator = torch.Generator().manual_seed(1)
    for one in norms_of(network).values():
        for parameter in one.parameters():
            nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    return network.double()


def test_without_a_norm_it_is_torchs_rnn():
    ours, x = rnn("none"), signals(BATCH, FEATURES, STEPS)
    theirs = nn.RNN(FEATURES, HIDDEN, batch_first=True).double()
    state = {"weight_ih_l0": ours.input.layer.weight, "weight_hh_l0": ours.hidden.layer.weight}
    state |= {"bias_ih_l0": ours.input.layer.bias, "bias_hh_l0": torch.zeros(HIDDEN)}
    theirs.load_state_dict({name: tensor.detach() for name, tensor in state.items()})
    expected = ours.output(theirs(x.transpose(1, 2))[0][:, -1])
    torch.testing.assert_close(ours(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", ["bn", "ln"])
def test_norms_stand_on_both_terms_and_read_their_own_step(norm):
    network, x = rnn(norm), signals(BATCH, FEATURES, STEPS)
    h, seen = torch.zeros(BATCH, HIDDEN, dtype=torch.float64), {}

    def normalized(name, v, t):
        seen[name, t] = v.detach()
        one = network.get_submodule(f"{name}.norm")
        if norm == "bn":
            return F.batch_norm(v, None, None, one.weight, one.bias, training=True)
        return F.layer_norm(v, (HIDDEN,), one.weight, one.bias)

    for t in range(STEPS):
        term = normalized("hidden", h @ network.hidden.layer.weight.T, t)
        h = torch.tanh(term + normalized("input", x[:, :, t] @ network.input.layer.weight.T, t))
    torch.testing.assert_close(network(x), network.output(h), rtol=1e-10, atol=1e-12)
    for (name, t), v in seen.items() if norm == "bn" else ():
        statistics = network.get_submodule(f"{name}.norm").shared
        torch.testing.assert_close(statistics.running_mean[t], 0.1 * v.mean(0))


@pytest.mark.parametrize("norm", ["bn", "ln"])
def test_one_norm_can_stand_on_the_sum_of_the_terms(norm):
    network, x = rnn(norm, norms="sum"), signals(BATCH, FEATURES, STEPS)
    assert list(norms_of(network)) == ["norm"]
    assert network.input.layer.bias is None
    h, one = torch.zeros(BATCH, HIDDEN, dtype=torch.float64), network.norm
    for t in range(STEPS):
        z = h @ network.hidden.layer.weight.T + x[:, :, t] @ network.input.layer.weight.T
        over = 0 if norm == "bn" else 1
        z = (z - z.mean(over, keepdim=True)) / (z.var(over, correction=0, keepdim=True) + 1e-5).sqrt()
        h = torch.tanh(z * one.weight + one.bias)
    torch.testing.assert_close(network(x), network.output(h), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("norm", ["none", "wn"])
def test_without_a_norm_of_activations_the_place_of_the_norms_changes_nothing(norm):
    x = signals(BATCH, FEATURES, STEPS)
    assert torch.equal(rnn(norm, norms="sum")(x), rnn(norm)(x))


@pytest.mark.parametrize("norm", ["none", "bn", "wn"])
def test_the_recurrent_weights_start_as_they_are_named(norm):
    orthogonal = rnn(norm, "orthogonal").hidden.layer.weight
    torch.testing.assert_close(orthogonal @ orthogonal.T, torch.eye(HIDDEN).double(), rtol=0, atol=1e-6)
    assert torch.equal(rnn(norm, "identity").hidden.layer.weight, torch.eye(HIDDEN).double())
    drawn = rnn("none", "torch", hidden=64)
    for weight in (drawn.hidden.layer.weight, drawn.input.layer.weight):
        assert 0.95 / math.sqrt(64) < weight.abs().max() <= 1 / math.sqrt(64)


@pytest.mark.parametrize("norm", ["none", "bn", "ln", "gn", "rms", "wn"])
def test_it_has_the_weights_of_its_maps_and_norms(compose_cell, norm):
    cell = compose_cell("model=rnn", f"norm={norm}", "model.hidden=10")
    added = {"none": 10, "rms": 3 * 10, "wn": 3 * 10}.get(norm, 4 * 10)  # the bias, norms of two terms
    assert count(objects.network(cell.config, splits((1, 40)))) == 10 * (1 + 10) + linear(10, 10) + added


def test_a_norm_after_the_activation_is_refused(compose_cell):
    with pytest.raises(ValueError, match=r"norm\.placement=post: model=rnn has its norms before the activations"):
        objects.network(compose_cell("model=rnn", "norm.placement=post").config, splits((1, 40)))


@pytest.mark.parametrize("norm", ["bn", "wn"])
def test_arms_start_from_the_same_weights(compose_cell, norm):
    arm, baseline = (
        objects.initial_network(compose_cell("model=rnn", f"norm={each}").config, splits((1, 40)), 3)
        for each in (norm, "none")
    )
    for name in ("input.layer", "hidden.layer", "output"):
        ours, theirs = arm.get_submodule(name).weight, baseline.get_submodule(name).weight
        torch.testing.assert_close(ours, theirs, rtol=1e-6 if norm == "wn" else 0, atol=1e-7 if norm == "wn" else 0)
