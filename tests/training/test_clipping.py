"""Adaptive clipping: the formula of Brock et al., for each unit and replica; the last layer is left as it is."""

import copy

import pytest
import torch
from torch import nn

from bn_experiments.config import objects
from bn_experiments.config.check import check
from bn_experiments.training.clipping import clip_adaptively, clip_gradients
from bn_experiments.training.replicas import SeparateReplicas, StackedReplicas
from bn_experiments.training.roles import find_roles
from tests.training.test_replicas import batches, networks

FACTOR, EPS = 0.01, 1e-3


def by_the_formula(weight: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Equation 3 of arXiv:2102.06171, unit by unit, in plain loops."""
    units = list(zip(weight, gradient, strict=True)) if weight.dim() >= 2 else [(weight, gradient)]
    clipped = []
    for w, g in units:
        ratio = g.square().sum().sqrt() / max(float(w.square().sum().sqrt()), EPS)
        clipped.append(g * FACTOR / ratio if ratio > FACTOR else g)
    return torch.stack(clipped) if weight.dim() >= 2 else clipped[0]


@pytest.mark.parametrize("kind", [StackedReplicas, SeparateReplicas])
@pytest.mark.parametrize("model", ["mlp", "lenet"])
@pytest.mark.few(2)
def test_each_replica_is_clipped_by_the_formula_but_for_its_last_layer(compose_cell, kind, model):
    singles = networks(compose_cell, f"model={model}", "norm=bn", "norm.bias=keep", "model.hidden=[12,8]")[:3]
    for i, network in enumerate(singles):
        find_roles(network, (1, 20))
        network.hidden[0].layer.weight.data[2] = 0  # a unit with weights of zero counts as eps
        network.hidden[0].layer.weight.data.mul_(10.0**i)
    replicas, (examples, index) = kind(copy.deepcopy(singles)), batches()
    x, y = examples.take(index[0, :3])
    objects.losses(compose_cell().config).train(replicas(x), y).sum().backward()
    before = copy.deepcopy(replicas)
    for own, other in zip(before.parameters(), replicas.parameters(), strict=True):
        own.grad = other.grad.clone()
    for part in replicas.parts():
        clip_adaptively(part.module, FACTOR, EPS)
    changed = set()
    for i in range(3):
        for name, weight, old, new in zip(
            [name for name, _ in singles[i].named_parameters()], *of_replica(before, replicas, i), strict=True
        ):
            expected = old if name.startswith("output") else by_the_formula(weight, old)
            torch.testing.assert_close(new, expected, rtol=1e-9, atol=1e-15)
            changed.add(torch.equal(new, old))
    assert changed == {True, False}


def of_replica(before, after, i):
    if isinstance(before, StackedReplicas):
        pairs = list(zip(before.parameters(), after.parameters(), strict=True))
        return [p.detach()[i] for p, _ in pairs], [p.grad[i] for p, _ in pairs], [q.grad[i] for _, q in pairs]
    pairs = list(zip(before.networks[i].parameters(), after.networks[i].parameters(), strict=True))
    return [p.detach() for p, _ in pairs], [p.grad for p, _ in pairs], [q.grad for _, q in pairs]


class Scaled(nn.Module):
    """Has a parameter without axes."""

    def __init__(self):
        super().__init__()
        self.layer, self.scale = nn.Linear(20, 10), nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.scale * self.layer(x.flatten(1))


@pytest.mark.parametrize("clip", [lambda part: clip_gradients(part, 0.1), lambda part: clip_adaptively(part, 0.1, EPS)])
def test_a_parameter_without_axes_is_clipped_in_a_stack_as_alone(clip):
    singles = [Scaled().double() for _ in range(3)]
    stack, (examples, index) = StackedReplicas(singles), batches()
    x, _ = examples.take(index[0, :3])
    stack(x).square().sum().backward()
    clip(stack)
    for i, network in enumerate(singles):
        network(x[i]).square().sum().backward()
        clip(network)
        for own, stacked in zip(network.parameters(), stack.parameters(), strict=True):
            torch.testing.assert_close(stacked.grad[i], own.grad, rtol=1e-6, atol=1e-12)


def test_the_last_layer_is_found_in_every_model_and_the_key_clips(compose_cell):
    for model in ("mlp", "lenet", "lstm", "residual_mlp"):
        config = compose_cell(f"model={model}", "norm=bn", "trainer.adaptive_clip_factor=0.01").config
        network = objects.initial_network(config, objects.splits(config), 0)
        assert network.parameter_roles["last_layer"] == ["output.bias", "output.weight"]
    assert objects.clip(config).keywords == {"factor": 0.01, "eps": 1e-3}


def test_both_kinds_of_clipping_at_once_are_refused(compose_cell):
    (line,) = map(str, check(compose_cell("trainer.adaptive_clip_factor=0.1", "trainer.gradient_clip_norm=1.0")))
    assert line.startswith("trainer.gradient_clip_norm: the gradient would be clipped twice")
