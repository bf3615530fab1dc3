"""Networks, norms and optimizers as people write them: stacked as alone, or known not to be."""

import copy
import itertools
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.people import Affine, Shared
from bn_experiments.config import objects, stacking
from bn_experiments.config.build import build
from bn_experiments.config.check import check_cells
from bn_experiments.training import agreement
from bn_experiments.training.agreement import Agreement
from bn_experiments.training.replicas import StackedReplicas
from tests.models.test_models import splits
from tests.pairs import SMALL, of_pair, pairs, refusal, slow

ALONE = {  # what differs in a stack
    "LazyState": "moving_mean keeps a tensor",
    "Noisy": "a pass draws random numbers",
    "NoisyByPython": "a pass draws random numbers",
    "NoisyByNumPy": "a pass draws random numbers",
    "NoisyInEvaluation": "a pass draws random numbers",
    "OwnGenerator": "differs in a stack",
    "Branching": "attempting to use a Tensor in some data-dependent control flow",
    "Remembering": "last keeps a tensor",
    "ShiftedAttribute": "older keeps a tensor",
    "KeepsGraph": "last_mean keeps a tensor",
    "Metered": "meter keeps a tensor",
    "NumPyState": "Cannot access data pointer",
    "NoisyInTheLastBatch": "a pass draws random numbers",
    "IntegerParameter": "cannot assign",
    "Textbook": "data",
    "Hooked": "vmap",
}
ANEW = {
    "OpaqueState": "norm.queue, which a checkpoint does not hold",
    "OwnGenerator": "norm.generator, which a checkpoint does not hold",
    "Metered": "norm.meter, which a checkpoint does not hold",
    "NumPyState": "norm.mean, which a checkpoint does not hold",
}
NORMS = ["PlainAttributes", "AssignedBuffers", "InPlaceBuffers", "NotPersistent", "AssignedRenorm", "InPlaceRenorm"]
NORMS += ["LazyState", "Ghost", "Noisy", "NoisyByPython", "NoisyByNumPy", "Counting", "Branching", "Mixing"]
NORMS += ["NoisyInEvaluation", "OwnGenerator", "DrawsInConstructor", "Remembering", "OpaqueState"]
NORMS += ["Shifted", "ShiftedAttribute", "KeepsGraph", "Metered", "NumPyState", "NoisyInTheLastBatch"]
NORMS += ["Textbook", "Hooked", "IntegerParameter", "ReadsLater"]
TORCHS = ["BatchNorm1d", "LayerNorm", "RMSNorm", "SyncBatchNorm"]
NETWORKS = ["Tokens", "Attention", "Kaiming", "Shared", "Frozen"]
OPTIMIZERS = {
    "benchmarks.people.adamw_by_axes": {"lr": 0.01, "weight_decay": 0.1, "decay": "all"},
    "benchmarks.people.adamw_by_names": {"lr": 0.01, "weight_decay": 0.1, "decay": "all"},
    "benchmarks.people.Lars": {"lr": 0.01, "decay": "all"},
    "benchmarks.people.GloballyClipped": {"lr": 0.1, "momentum": 0.9, "decay": "all"},
    "torch.optim.Adafactor": {"lr": 0.01, "decay": "weights"},
    "torch.optim.SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "decay": "weights"},
    "torch.optim.NAdam": {"lr": 0.01, "decay": "all"},
    "torch.optim.Rprop": {"lr": 0.01, "decay": "all"},
    "torch.optim.ASGD": {"lr": 0.01, "decay": "all"},
    "torch.optim.Adadelta": {"lr": 0.1, "decay": "all"},
}

VARIANTS = [  # of what a network is made of
    "model=resnet model.pre_activation=true model.shortcut=B model.branch_scale=skipinit model.branch_scale_start=0.5",
    "model=resnet norm=none model.branch_scale=fixup",
    "model=residual_mlp model.norm_position=last model.branch_scale=layer_scale model.branch_scale_start=0.1",
    "model=residual_mlp model.branch_scale=rezero model.dropout=0.5",
    "model=transformer model.norm_position=post model.pooling=class_token model.dropout=0.5",
    "model=vgg norm.placement=post model.hidden=[8] model.dropout=0.5",
    "model=rnn model.recurrent_init=identity norm.scale_init=0.1",
    "model=mlp model.repeat=2 model.bias=false model.activation=identity",
    "model=lenet model.padding=[2,0]",
]


STATEFUL = {"benchmarks.people.LazyMomentum": "moved", "benchmarks.people.Lookahead": "taken"}


def found(compose_cell, *overrides, network=None, optimizer=None, batch_size=20):
    config = copy.deepcopy(compose_cell(f"data.batch_size={batch_size}", *overrides).config)
    if network:
        config["model"] = {"_target_": f"benchmarks.people.{network}"}
        config["init"] = "own"
    if optimizer:
        config["optimizer"] = {"_target_": optimizer, **(OPTIMIZERS.get(optimizer) or {"lr": 0.01, "decay": "all"})}
    return stacking.agreement_of(config, objects.splits(config), "cpu")


@pytest.mark.parametrize(
    "norm", [*(f"benchmarks.people.{name}" for name in NORMS), *(f"torch.nn.{name}" for name in TORCHS)]
)
@pytest.mark.few(10)
def test_norms_as_people_write_them_agree_or_are_known_not_to(compose_cell, norm):
    name = norm.rpartition(".")[2]
    rest = [f"data.drop_last={name == 'Ghost'}"]  # which takes no batch of five
    size = 50 if name == "NoisyInTheLastBatch" else 20
    what = found(compose_cell, "model.hidden=[8]", "norm=none", f"norm._target_={norm}", *rest, batch_size=size)
    assert (what.alone is None) == (name not in ALONE), what
    assert ALONE.get(name, "") in (what.alone or "")
    assert (what.anew is None) == (name not in ANEW), what
    assert what.draws == name.startswith("Noisy")


class Rarely(Affine):
    """Noise for one pass of many, which the few steps of a trial do not meet."""

    def __init__(self, width: int, kind: str):
        super().__init__(width)
        seed = random.getrandbits(30) if kind != "of_one_seed" else 0
        self.source: Any = {
            "python": lambda: random.Random(seed),
            "numpy": lambda: np.random.default_rng(seed),
            "legacy": lambda: np.random.RandomState(seed),
            "of_one_seed": lambda: random.Random(seed),
            "in_slots": lambda: InSlots(random.Random(seed)),
            "count": lambda: itertools.count(1),
            "cycle": lambda: itertools.cycle([1.0, 0.5]),
        }[kind]()

    def forward(self, x: Tensor) -> Tensor:
        source = getattr(self.source, "inner", self.source)
        drawn = next(source) if hasattr(source, "__next__") else source.random()
        return self.scaled(x + 1.0) if self.training and drawn < 1e-6 else self.scaled(x)


class InSlots:
    """An object without a dictionary of its attributes."""

    __slots__ = ("inner",)

    def __init__(self, inner: Any):
        self.inner = inner


@pytest.mark.parametrize(
    ("kind", "alone"),
    [
        *((kind, "norm.source differs in a stack") for kind in ("python", "numpy", "legacy", "in_slots")),
        ("of_one_seed", None),
        *((kind, "norm.source keeps an iterator, whose state cannot be seen") for kind in ("count", "cycle")),
    ],
)
def test_what_a_module_draws_from_by_itself_is_a_state_though_no_step_of_the_trial_shows_it(compose_cell, kind, alone):
    norm = ["norm=none", f"norm._target_={__name__}.Rarely", f"+norm.kind={kind}"]
    agreement = found(compose_cell, "model.hidden=[8]", *norm)
    assert alone in agreement.alone if alone else agreement.alone is None
    assert agreement.anew == "the network keeps hidden.0.norm.source, which a checkpoint does not hold"
    assert not agreement.draws


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_as_people_write_them_agree(compose_cell, network):
    agreement = found(compose_cell, "norm=bn", network=network)
    assert (agreement.alone, agreement.anew) == (None, None)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_as_people_write_them_agree(compose_cell, optimizer):
    agreement = found(compose_cell, "norm=bn", network="Kaiming", optimizer=optimizer)
    assert (agreement.alone, agreement.anew) == (None, None)


@pytest.mark.parametrize(("optimizer", "kept"), STATEFUL.items())
def test_what_an_optimizer_keeps_beside_its_state_is_found_and_named(compose_cell, optimizer, kept):
    agreement = found(compose_cell, "norm=bn", network="Kaiming", optimizer=optimizer)
    assert agreement.anew == f"the optimizer keeps {kept}, which a checkpoint does not hold"
    assert agreement.alone is None


def test_replicas_whose_constructors_make_different_layers_are_trained_one_by_one(compose_cell):
    coin = ["norm=none", "norm._target_=benchmarks.people.Coin", "+norm.share=0.7"]  # alike in the seeds 0 and 1
    cell = compose_cell("model.hidden=[8]", *coin, "replicas=5")
    assert stacking.agreement_of(cell.config, objects.splits(cell.config), "cpu").alone is None, "of two seeds"
    built = build(cell)
    kinds = [network.hidden[0].norm.by_example for network in built.module.replicas.networks]
    assert len(set(kinds)) == 2
    assert built.notes[0].startswith("replicas are trained one by one, for hidden.0.norm.by_example differs between")
    config = {**cell.config, "trainer": {**cell.config["trainer"], "stack_replicas": True}}
    reason = stacking.unlike(config, objects.splits(config))
    refusal = f"the network cannot be stacked ({reason}); allowed: auto or false; set it to auto"
    assert [str(one) for one in check_cells([replace(cell, config=config)])] == [
        f"trainer.stack_replicas=true: {refusal}"
    ]


@pytest.mark.parametrize(("model", "norm"), pairs())
@pytest.mark.few(7)
def test_what_is_not_tried_before_a_run_agrees(compose_cell, monkeypatch, model, norm):
    if refusal(norm, model):
        pytest.skip("the norm has no place in the model")
    if (model, norm) == ("lstm", "bn_scale"):
        # it amplifies: initial weights that differ by 2e-16 of themselves end two steps 2e-6 apart (measured, float64)
        monkeypatch.setitem(agreement.TOLERANCE, torch.float64, 1e-6)
    config = compose_cell("data.batch_size=11", *of_pair(model, norm)).config
    assert objects.is_known(config)
    assert stacking.tried(config, objects.splits(config), "cpu", True) == Agreement(None, None, False)


@pytest.mark.parametrize("norm", ["bn", *slow("kept", "none")])
@pytest.mark.few(1)
def test_a_network_of_torchvision_that_is_not_tried_before_a_run_agrees(compose_cell, norm):
    data = [
        "data=gaussian",
        "data.shape=[3,32,32]",
        "data.examples=64",
        "data.train_examples=64",
        "data.batch_size=8",
        "data.drop_last=true",
    ]
    config = compose_cell("model=torchvision", f"norm={norm}", *data).config
    assert objects.is_known(config)
    assert stacking.tried(config, objects.splits(config), "cpu", True) == Agreement(None, None, False)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_that_are_not_tried_before_a_run_agree(compose_cell, variant):
    overrides = variant.split()
    small = SMALL.get(overrides[0].partition("=")[2], [])
    config = compose_cell("data.batch_size=10", *small, *overrides).config  # norm=bn where the variant names none
    assert objects.is_known(config)
    assert stacking.tried(config, objects.splits(config), "cpu", True) == Agreement(None, None, False)


@pytest.mark.parametrize("optimizer", objects.ELEMENTWISE, ids=lambda one: one.__name__)
@pytest.mark.few(5)
def test_optimizers_that_are_given_a_stack_whole_agree(compose_cell, optimizer):
    config = copy.deepcopy(compose_cell("norm=bn", "data.batch_size=10", "model.hidden=[8]").config)
    config["optimizer"] = {"_target_": f"torch.optim.{optimizer.__name__}", "lr": 0.01, "decay": "weights"}
    assert objects.is_known(config)
    assert stacking.tried(config, objects.splits(config), "cpu", True) == Agreement(None, None, False)


def test_an_optimizer_that_couples_the_tensors_of_a_stack_would_be_found(compose_cell, monkeypatch):
    monkeypatch.setattr(objects, "ELEMENTWISE", (*objects.ELEMENTWISE, torch.optim.Adafactor))
    agreement = found(compose_cell, "norm=bn", network="Kaiming", optimizer="torch.optim.Adafactor")
    assert agreement.alone.endswith("differs in a stack")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("norm", ["DrawsInConstructor", "PlainAttributes"])
@pytest.mark.few(4)
def test_the_second_replica_and_the_other_arm_start_as_the_seed_alone(compose_cell, network, norm):
    def start(seed, *norm):
        config = copy.deepcopy(compose_cell(*norm).config)
        config |= {"model": {"_target_": f"benchmarks.people.{network}"}, "init": "own"}
        torch.manual_seed(torch.seed())  # whatever was drawn before
        return dict(objects.initial_network(config, splits((1, 40)), seed).named_parameters())

    own = "norm=none", f"norm._target_=benchmarks.people.{norm}", "norm.bias=keep"
    start(0, *own)
    second, alone, baseline = start(1, *own), start(1, *own), start(1, "norm=none")
    assert alone.keys() > baseline.keys()
    for name, tensor in second.items():
        assert torch.equal(tensor, alone[name]), name
        assert name not in baseline or torch.equal(tensor, baseline[name]), name
    assert not torch.equal(start(2, *own)["output.weight"], alone["output.weight"])


def test_a_network_of_ones_own_keeps_its_initialization(compose_cell):
    keys = ["~model.hidden", "~model.repeat", "~model.bias", "~model.activation", "~model.dropout"]
    config = copy.deepcopy(compose_cell("norm=bn", "model._target_=benchmarks.people.Kaiming", *keys).config)
    assert config["init"] == "own"
    network = objects.initial_network(config, splits((1, 40)), 0)
    assert network.output.bias.eq(0.01).all()
    # fan_out of the hidden layer is 32: a standard deviation of sqrt(2 / 32)
    assert network.hidden.layer.weight.std().item() == pytest.approx(0.25, rel=0.1)


def test_what_is_shared_stays_shared_in_a_stack_and_what_is_frozen_stays_frozen(compose_cell):
    slot = objects.slot(compose_cell("norm=bn").config)
    stack = StackedReplicas([Shared((1, 40), 10, slot) for _ in range(3)])
    for network in (stack.network, stack.replica(1), stack.view(1)):
        assert network.tied.weight is network.hidden.layer.weight
        assert network.again is network.hidden
    stack.view(2).output.bias.data.fill_(7)
    assert stack.network.output.bias[2].eq(7).all()
    assert not stack.network.output.bias[1].eq(7).any()
