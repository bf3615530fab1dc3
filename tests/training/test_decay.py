import copy
import functools

import pytest
import torch
from torch import nn

from bn_experiments.config import build, objects
from bn_experiments.norms.slot import mark
from bn_experiments.run import run
from bn_experiments.training.captured import CapturedSteps
from bn_experiments.training.decay import parameter_groups
from bn_experiments.training.replicas import Part, SeparateReplicas, StackedReplicas
from bn_experiments.training.steps import Steps
from tests.probes.runs import refusals, saved
from tests.training.test_replicas import CROSS_ENTROPY, assert_same_network, batches, networks, train_alone

DECAYING = ["optimizer.weight_decay=0.5", "optimizer.lr=0.1"]


def decayed_names(network: nn.Module, decay: str = "weights") -> set[str]:
    """The names of the parameters in the group that keeps the optimizer's own weight decay."""
    groups = list(parameter_groups(network, decay, {}))
    kept = {id(one) for group in groups if "weight_decay" not in group for one in group["params"]}
    assert {id(one) for group in groups for one in group["params"]} == {id(one) for one in network.parameters()}
    return {name for name, one in network.named_parameters() if id(one) in kept}


@pytest.mark.parametrize(
    ("keys", "decayed"),
    [
        (["model=mlp", "norm=bn"], {"hidden.0.layer.weight", "hidden.1.layer.weight", "output.weight"}),
        (["model=mlp", "norm=rms"], {"hidden.0.layer.weight", "hidden.1.layer.weight", "output.weight"}),
        (["model=lstm", "norm=bn"], {"input.layer.weight", "hidden.layer.weight", "output.weight"}),
    ],
)
@pytest.mark.parametrize("stacked", [False, True])
def test_weights_of_layers_decay_and_norms_and_biases_do_not_in_a_stack_too(compose_cell, keys, decayed, stacked):
    singles = networks(compose_cell, *keys)
    network = StackedReplicas(singles) if stacked else singles[0]
    assert {name.removeprefix("network.") for name in decayed_names(network)} == decayed
    everything = {name for name, _ in network.named_parameters()}
    assert decayed_names(network, "all") == everything > decayed_names(network)


def test_a_norm_whose_scale_has_two_axes_does_not_decay():
    network = nn.ModuleDict({"layer": nn.Conv1d(1, 2, 3), "norm": mark(nn.LayerNorm((2, 5)))})
    assert decayed_names(network) == {"layer.weight"}


def test_length_and_direction_of_weight_normalization_both_decay(compose_cell):
    (network, *_) = networks(compose_cell, "model=mlp", "norm=wn")
    assert {name for name in decayed_names(network) if name.startswith("hidden.0")} == {
        "hidden.0.layer.parametrizations.weight.original0",
        "hidden.0.layer.parametrizations.weight.original1",
    }


def by_hand(parameters) -> torch.optim.Optimizer:
    """What a person writes with torch alone for an mlp with norms whose parameters have one axis."""
    everything = list(parameters)
    weights, rest = ([one for one in everything if (one.dim() == 2) == is_weight] for is_weight in (True, False))
    return torch.optim.AdamW([{"params": weights, "weight_decay": 0.5}, {"params": rest, "weight_decay": 0.0}], lr=0.1)


@pytest.mark.parametrize("kind", [StackedReplicas, SeparateReplicas])
def test_training_with_decay_equals_an_optimizer_of_two_groups_made_by_hand(compose_cell, kind):
    config = compose_cell("model=mlp", "norm=bn", "optimizer=adamw", *DECAYING).config
    singles = networks(compose_cell, "model=mlp", "norm=bn", "norm.scale_init=uniform")
    replicas, make = kind(copy.deepcopy(singles)), objects.optimizer(config)
    examples, index = batches()
    for part in replicas.parts():
        Steps(part, [make(part.module)], CROSS_ENTROPY, None)(examples, index[:, part.replicas])
    for i, network in enumerate(singles):
        assert_same_network(replicas.replica(i), train_alone(network, by_hand, i)[0])


def trained(cell) -> dict[str, torch.Tensor]:
    run(cell)
    return saved(cell).state_dict()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_without_weight_decay_the_key_changes_no_bit(compose_cell, optimizer):
    keys = ["norm=bn", f"optimizer={optimizer}", "probes=[]"]
    ends = [trained(compose_cell(*keys, f"optimizer.decay={decay}")) for decay in ("weights", "all")]
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name


def test_with_weight_decay_the_key_decides_whether_the_scales_of_norms_decay(compose_cell):
    keys = ["norm=bn", "norm.scale_init=1.0", "probes=[]", "optimizer.weight_decay=1.0", "optimizer.lr=0.02"]
    ends = {decay: trained(compose_cell(*keys, f"optimizer.decay={decay}")) for decay in ("weights", "all")}
    scales, weights = ({decay: end[f"network.hidden.0.{kind}.weight"] for decay, end in ends.items()}
                       for kind in ("norm", "layer"))  # fmt: skip
    assert scales["weights"].mean() > 0.95 > scales["all"].mean() + 0.02
    assert weights["weights"].norm() < 0.95 * initial_norm(compose_cell(*keys))


def initial_norm(cell) -> float:
    replicas = build.replicas(cell.config, objects.splits(cell.config), True)
    return replicas.state_dict()["network.hidden.0.layer.weight"].norm()


def test_captured_steps_train_both_groups_and_see_a_new_rate_in_each(compose_cell):
    config = compose_cell("optimizer.momentum=0.9", *DECAYING).config
    (single, *_) = networks(compose_cell, "norm=bn")
    examples, index = batches(12)
    ends = []
    for wrap in (lambda steps: steps, functools.partial(CapturedSteps, capture=lambda function: function)):
        part = copy.deepcopy(single)
        steps = Steps(Part.of(part), [objects.optimizer(config)(part)], CROSS_ENTROPY, None)
        take = wrap(steps)
        for rate in (0.1, 0.01):
            assert len(steps.optimizers[0].param_groups) == 2
            for group in steps.optimizers[0].param_groups:
                group["lr"] = rate
            take(examples, index[:, 0])
        ends.append(part)
    assert_same_network(*ends)


def test_a_network_without_biases_and_norms_trains_though_its_second_group_is_empty(compose_cell):
    config = compose_cell(*DECAYING).config
    network = nn.Linear(2, 2, bias=False)
    optimizer = objects.optimizer(config)(network)
    network(torch.ones(1, 2)).sum().backward()
    before = network.weight.detach().clone()
    optimizer.step()
    torch.testing.assert_close(network.weight, before - 0.1 * (1 + 0.5 * before))


def test_an_interrupted_run_with_decay_goes_on_from_its_checkpoint(compose_cell):
    cell = compose_cell("norm=bn", "probes=[]", "trainer.max_epochs=2", *DECAYING)
    run(cell)
    (file,) = (cell.folder / "checkpoints").iterdir()
    groups = torch.load(file, weights_only=True)["optimizer_states"][0]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    (cell.folder / "result.json").unlink()
    assert run(cell).timing["samples_per_s"] == 0, "nothing was trained again"


def test_another_value_of_the_key_is_refused_with_both(compose_cell):
    line = "optimizer.decay=norms: wrong value; allowed: weights or all; change it, or leave it out for the default"
    assert refusals(compose_cell("optimizer.decay=norms")) == [line]
    assert refusals(compose_cell("optimizer.decay=all", *DECAYING)) == []
    (negative,) = refusals(compose_cell("optimizer.weight_decay=-1"))
    assert negative.startswith("optimizer.weight_decay=-1: torch.optim.SGD refuses this (")
