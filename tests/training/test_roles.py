"""Roles of parameters: weights whose scale a norm takes out, and settings of their own for kinds of parameters."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from bn_experiments.config import objects
from bn_experiments.config.check import check
from bn_experiments.norms.slot import mark
from bn_experiments.run import run
from bn_experiments.training.replicas import SeparateReplicas, StackedReplicas
from bn_experiments.training.roles import find_roles, roles_of
from bn_experiments.training.steps import Steps
from tests.training.test_replicas import CROSS_ENTROPY, assert_same_network, batches, networks, train_alone

HIDDEN = {"hidden.0.layer.weight", "hidden.1.layer.weight"}
CONVOLUTIONS = {"features.0.layer.weight", "features.1.layer.weight"}
FOUND = {
    ("model=mlp", "norm=bn"): HIDDEN,
    ("model=mlp", "norm=rms", "norm.bias=keep"): HIDDEN,
    ("model=mlp", "norm=bn", "norm.placement=post"): set(),
    ("model=mlp", "norm=none"): set(),
    ("model=mlp", "norm=wn"): set(),
    ("model=lenet", "norm=gn"): HIDDEN | CONVOLUTIONS,
    ("model=lenet", "norm=in"): CONVOLUTIONS,
    ("model=lenet", "norm=bn", "norm.layers=linear"): HIDDEN,
    ("model=lstm", "norm=bn"): {"input.layer.weight", "hidden.layer.weight"},
}


def with_roles(compose_cell, *keys: str) -> list[nn.Module]:
    singles = networks(compose_cell, *keys)
    for network in singles:
        find_roles(network, (1, 20))
    return singles


@pytest.mark.parametrize("keys", FOUND, ids=" ".join)
def test_the_weights_directly_before_a_norm_are_found(compose_cell, keys):
    singles = with_roles(compose_cell, *keys)
    assert roles_of(singles[0]).before_norm == FOUND[keys]
    assert roles_of(singles[0]).last_layer == {"output.weight", "output.bias"}
    stack = StackedReplicas(singles)
    assert {name.removeprefix("network.") for name in roles_of(stack).before_norm} == FOUND[keys]
    assert roles_of(stack).before_norm <= dict(stack.named_parameters()).keys()
    assert roles_of(stack.view(1)) == roles_of(stack.replica(1)) == roles_of(singles[0])


@pytest.mark.parametrize("keys", [keys for keys in FOUND if FOUND[keys]], ids=" ".join)
def test_a_network_does_not_feel_the_scale_of_these_weights_and_feels_that_of_the_last_layer(compose_cell, keys):
    (network, *_) = with_roles(compose_cell, *keys)
    network.train()
    for name, module in network.named_modules():
        if hasattr(module, "eps"):
            module.eps = 1e-14
        if name.endswith("layer") and getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
    x = batches()[0].x
    before = copy.deepcopy(network)(x)
    for name in (*roles_of(network).before_norm, "output.weight"):
        scaled = copy.deepcopy(network)
        scaled.get_parameter(name).data.mul_(3.0)
        assert torch.allclose(scaled(x), before, rtol=1e-6, atol=1e-6) == (name != "output.weight"), name


class Odd(nn.Module):
    """Layers that are called in other ways, and one whose output an activation changes in place."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(20, 6))
        self.conv, self.after, self.output = nn.Conv1d(1, 6, 1), nn.Linear(6, 6), nn.Linear(6, 10)
        self.a, self.b, self.c = (nn.ModuleDict({"norm": mark(nn.BatchNorm1d(6))}) for _ in range(3))

    def forward(self, x):
        signal = self.b["norm"](self.conv(x).transpose(1, 2).flatten(0, 1)).view(len(x), 20, 6).mean(1)
        h = self.a["norm"](x.flatten(1) @ self.matrix) + signal
        return self.output(self.c["norm"](torch.relu_(self.after(h)))).softmax(1)


def test_weights_are_found_by_what_is_computed_not_by_names():
    network = Odd()
    find_roles(network, (1, 20))
    assert roles_of(network).before_norm == {"matrix", "conv.weight"}
    assert roles_of(network).last_layer == {"output.weight", "output.bias"}


GROUPS = ["optimizer.weight_decay=0.1", "optimizer.groups.norms={lr:0.5,weight_decay:0.2}"]
GROUPS += ["optimizer.groups.scale_invariant.weight_decay=0.7"]


def by_hand(names, make, parameters) -> torch.optim.Optimizer:
    """What a person writes with torch alone for an mlp with batch norm."""
    kinds = {"norm": [], "layer": [], "output.weight": [], "output.bias": []}
    for name, parameter in zip(names, parameters, strict=True):
        kinds[next(kind for kind in kinds if kind in name)].append(parameter)
    return make([
        {"params": kinds["norm"], "lr": 0.5, "weight_decay": 0.2},
        {"params": kinds["layer"], "weight_decay": 0.7},
        {"params": kinds["output.weight"], "weight_decay": 0.1},
        {"params": kinds["output.bias"], "weight_decay": 0.0},
    ])  # fmt: skip


MAKERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.001),
}


@pytest.mark.parametrize("optimizer", MAKERS)
@pytest.mark.parametrize("kind", [StackedReplicas, SeparateReplicas])
@pytest.mark.few(2)
def test_training_with_settings_of_kinds_equals_groups_made_by_hand(compose_cell, kind, optimizer):
    config = compose_cell("model=mlp", "norm=bn", f"optimizer={optimizer}", *GROUPS).config
    singles = with_roles(compose_cell, "model=mlp", "norm=bn", "norm.scale_init=uniform")
    replicas, make = kind(copy.deepcopy(singles)), objects.optimizer(config)
    examples, index = batches()
    for part in replicas.parts():
        Steps(part, [make(part.module)], CROSS_ENTROPY, None)(examples, index[:, part.replicas])
    for i, network in enumerate(singles):
        names = [name for name, _ in network.named_parameters()]
        alone, *_ = train_alone(network, partial(by_hand, names, MAKERS[optimizer]), i)
        assert_same_network(replicas.replica(i), alone)


def test_a_rate_of_zero_for_the_norms_keeps_them_as_they_were(compose_cell):
    cell = compose_cell("norm=bn", "norm.scale_init=0.5", "optimizer.groups.norms.lr=0", "probes=[]")
    assert check(cell) == []
    run(cell)
    (file,) = (cell.folder / "checkpoints").iterdir()
    state = torch.load(file, weights_only=True)["state_dict"]
    scales = [tensor for name, tensor in state.items() if name.endswith("norm.weight")]
    assert len(scales) == 2
    assert all(scale.eq(0.5).all() for scale in scales)


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("optimizer.groups.norms.lr=-1", "optimizer.groups.norms.lr=-1: wrong value; allowed: a number of at least 0"),
        ("+optimizer.groups.biases.lr=1", "optimizer.groups.biases: no such key; allowed: optimizer.groups."),
        ("+optimizer.groups.norms.momentum=1", "optimizer.groups.norms.momentum: no such key; allowed: optimizer."),
    ],
)
def test_settings_that_are_wrong_are_refused_in_one_line(compose_cell, key, line):
    (found,) = map(str, check(compose_cell(key)))
    assert line in found


def test_an_optimizer_that_takes_the_whole_network_takes_no_groups(compose_cell):
    own = ["optimizer._target_=benchmarks.people.adamw_by_names", "~optimizer.momentum", "~optimizer.dampening"]
    own += ["~optimizer.nesterov", "~optimizer.fused", "optimizer.groups.norms.lr=0.1"]
    (line,) = map(str, check(compose_cell(*own)))
    assert line.startswith("optimizer.groups.norms: benchmarks.people.adamw_by_names takes ")
