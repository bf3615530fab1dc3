"""Networks, norms and optimizers as people write them: stacked as alone, or known not to be."""

import copy

import pytest
import torch

from benchmarks.people import Shared
from bn_experiments.config import objects, stacking
from bn_experiments.training.agreement import Agreement
from bn_experiments.training.replicas import StackedReplicas
from tests.conftest import CONF
from tests.models.test_models import splits

ALONE = {  # what differs in a stack
    "LazyState": "moving_mean keeps a tensor",
    "Noisy": "a pass draws random numbers",
    "NoisyByPython": "a pass draws random numbers",
    "NoisyByNumPy": "a pass draws random numbers",
    "NoisyInEvaluation": "a pass draws random numbers",
    "OwnGenerator": "differs in a stack",
    "Branching": "attempting to use a Tensor in some data-dependent control flow",
    "Remembering": "last keeps a tensor",
}
ANEW = {"OpaqueState": "differs after it", "OwnGenerator": "differs after it"}
NORMS = ["PlainAttributes", "AssignedBuffers", "InPlaceBuffers", "NotPersistent", "AssignedRenorm", "InPlaceRenorm"]
NORMS += ["LazyState", "Ghost", "Noisy", "NoisyByPython", "NoisyByNumPy", "Counting", "Branching", "Mixing"]
NORMS += ["NoisyInEvaluation", "OwnGenerator", "DrawsInConstructor", "Remembering", "OpaqueState"]
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


def found(compose_cell, *overrides, network=None, optimizer=None):
    config = copy.deepcopy(compose_cell("data.batch_size=20", *overrides).config)
    if network:
        config["model"] = {"_target_": f"benchmarks.people.{network}"}
        config["init"] = "own"
    if optimizer:
        config["optimizer"] = {"_target_": optimizer, **OPTIMIZERS[optimizer]}
    return stacking.agreement_of(config, objects.splits(config), "cpu")


@pytest.mark.parametrize(
    "norm", [*(f"benchmarks.people.{name}" for name in NORMS), *(f"torch.nn.{name}" for name in TORCHS)]
)
def test_norms_as_people_write_them_agree_or_are_known_not_to(compose_cell, norm):
    agreement = found(compose_cell, "model.hidden=[8]", "norm=none", f"norm._target_={norm}")
    name = norm.rpartition(".")[2]
    assert (agreement.alone is None) == (name not in ALONE), agreement
    assert ALONE.get(name, "") in (agreement.alone or "")
    assert (agreement.anew is None) == (name not in ANEW), agreement
    assert agreement.draws == name.startswith("Noisy")


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_as_people_write_them_agree(compose_cell, network):
    agreement = found(compose_cell, "norm=bn", network=network)
    assert (agreement.alone, agreement.anew) == (None, None)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_as_people_write_them_agree(compose_cell, optimizer):
    agreement = found(compose_cell, "norm=bn", network="Kaiming", optimizer=optimizer)
    assert (agreement.alone, agreement.anew) == (None, None)


@pytest.mark.parametrize("norm", sorted(file.stem for file in (CONF / "norm").glob("*.yaml")))
@pytest.mark.parametrize("model", sorted(file.stem for file in (CONF / "model").glob("*.yaml")))
def test_what_is_not_tried_before_a_run_agrees(compose_cell, model, norm):
    if norm == "in" and model != "lenet":
        pytest.skip("instance norm has no place in a fully connected network")
    small = ["model.hidden=8"] if model == "lstm" else []
    config = compose_cell(f"model={model}", f"norm={norm}", "data.batch_size=8", *small).config
    assert objects.is_known(config)
    assert stacking.tried(config, objects.splits(config), "cpu", True) == Agreement(None, None, False)


@pytest.mark.parametrize("optimizer", objects.ELEMENTWISE, ids=lambda one: one.__name__)
def test_optimizers_that_are_given_a_stack_whole_agree(compose_cell, optimizer):
    config = copy.deepcopy(compose_cell("norm=bn", "data.batch_size=8", "model.hidden=[8]").config)
    config["optimizer"] = {"_target_": f"torch.optim.{optimizer.__name__}", "lr": 0.01, "decay": "weights"}
    assert objects.is_known(config)
    assert stacking.tried(config, objects.splits(config), "cpu", True) == Agreement(None, None, False)


def test_an_optimizer_that_couples_the_tensors_of_a_stack_would_be_found(compose_cell, monkeypatch):
    monkeypatch.setattr(objects, "ELEMENTWISE", (*objects.ELEMENTWISE, torch.optim.Adafactor))
    agreement = found(compose_cell, "norm=bn", network="Kaiming", optimizer="torch.optim.Adafactor")
    assert agreement.alone.endswith("differs in a stack")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("norm", ["DrawsInConstructor", "PlainAttributes"])
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
    config = copy.deepcopy(compose_cell("norm=bn", "model._target_=benchmarks.people.Kaiming", "~model.hidden",
                                        "~model.activation", "~model.dropout").config)  # fmt: skip
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
