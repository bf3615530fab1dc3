"""Rotation: angles by hand, those of steps written out, and the law of equilibrium."""

import copy
import math

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from torch import nn

from bn_experiments.claims.protocol import Claim
from bn_experiments.figures.arms import Arm, looks
from bn_experiments.probes.weight_rotation import Seen, WeightRotation, angles
from bn_experiments.probes.weight_rotation_figures import angle_by_epoch
from bn_experiments.probes.weight_rotation_oracles import angle, growth_of_decay
from bn_experiments.records.quantities import Quantity
from bn_experiments.run import run
from bn_experiments.system import interruption
from bn_experiments.training.module import Classification
from bn_experiments.training.replicas import Part, SeparateReplicas, StackedReplicas
from tests.cells_by_hand import a_result, write_cell
from tests.probes.runs import SIZES, npz
from tests.probes.sizes import Sizes


@pytest.mark.parametrize("size", [1e-6, 0.03, 1.0, 3.1])
def test_angles_are_exact_for_small_ones_too(size):
    turned = torch.tensor([math.cos(size), math.sin(size)], dtype=torch.float64)
    found = angles(torch.tensor([3.0, 0.0], dtype=torch.float64), 0.1 * turned)
    assert found.item() == pytest.approx(size, rel=1e-9)


@pytest.mark.parametrize("kind", [StackedReplicas, SeparateReplicas])
def test_the_angles_are_those_of_the_steps(kind):
    torch.manual_seed(0)
    replicas = kind([nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)) for _ in range(2)])
    probe, steps = WeightRotation(), 3
    parts = replicas.parts()
    optimizers = [[torch.optim.SGD(network.parameters(), 0.1) for network in part.networks] for part in parts]
    probe.follow(parts, optimizers)
    probe.start_epoch(1)
    squares = np.zeros((2, 2, 2))  # whole and by row, replicas, layers
    for _ in range(steps):
        before = [copy.deepcopy(replicas.replica(i)) for i in range(2)]
        for part, own in zip(parts, optimizers, strict=True):
            for parameter in part.module.parameters():
                parameter.grad = torch.randn(parameter.shape)
            for optimizer in own:
                optimizer.step()
        for i in range(2):
            for j in range(2):
                w, v = (one[j].weight.detach().double().numpy() for one in (before[i], replicas.replica(i)))
                cosine = (w * v).sum() / np.linalg.norm(w) / np.linalg.norm(v)
                rows = (w * v).sum(1) / np.linalg.norm(w, axis=1) / np.linalg.norm(v, axis=1)
                squares[:, i, j] += [np.arccos(cosine) ** 2, (np.arccos(rows) ** 2).mean()]
    reading = probe.measure(replicas, None)
    expected = np.sqrt(squares / steps)
    np.testing.assert_allclose(reading.values["angle"], expected[0], rtol=1e-5)
    np.testing.assert_allclose(reading.values["angle_of_units"], expected[1], rtol=1e-5)
    lengths = [[layer.weight.norm().item() for layer in replicas.replica(i)] for i in range(2)]
    np.testing.assert_allclose(reading.values["length"], lengths, rtol=1e-6)
    probe.start_epoch(1)
    assert probe.measure(replicas, None).values["angle"].isfinite().all(), "the same epoch goes on"
    probe.start_epoch(2)
    assert probe.measure(replicas, None).values["angle"].isnan().all(), "of no step"


def test_shares_of_a_stack_with_an_optimizer_each_are_seen_in_one_step():
    torch.manual_seed(0)
    stack = StackedReplicas([nn.Linear(4, 3) for _ in range(2)])
    (part,) = stack.parts([range(1), range(1, 2)])
    optimizers = [torch.optim.SGD(network.parameters(), 0.1) for network in part.networks]
    seen = Seen(part, optimizers)
    for parameter in part.module.parameters():
        parameter.grad = torch.randn(parameter.shape)
    part.hand_out_gradients()
    for optimizer in optimizers:
        optimizer.step()
    assert seen.tensors["steps"] == 1
    assert (seen.tensors["angle"] > 0).all()


def test_a_network_alone_is_a_part_too():
    network = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    seen = Seen(Part.of(network), [optimizer])
    network(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    assert seen.tensors["angle"].shape == (1, 1)
    assert seen.tensors["angle"] > 0


RUN = ["norm=bn", "probes=[weight_rotation]", "trainer.max_epochs=3"]


def test_a_run_has_a_reading_for_each_epoch_and_is_not_changed_by_it(compose_cell):
    cell = compose_cell(*RUN)
    found, plain = run(cell), run(compose_cell("norm=bn", "probes=[]", "trainer.max_epochs=3"))
    arrays = npz(cell)
    assert arrays["weight_rotation/epochs"].tolist() == [1, 2, 3]
    assert (arrays["weight_rotation/angle"] > 0).all()
    assert found.metrics == plain.metrics
    alone = compose_cell(*RUN, "trainer.stack_replicas=false", "name=alone")
    run(alone)
    np.testing.assert_allclose(npz(alone)["weight_rotation/angle"], arrays["weight_rotation/angle"], rtol=1e-3)


def test_before_training_there_is_no_angle_and_a_length(compose_cell):
    cell = compose_cell(
        "norm=bn", "probes=[weight_rotation]", "trainer.max_epochs=0", "probes.weight_rotation.at_start=true"
    )
    run(cell)
    assert np.isnan(npz(cell)["weight_rotation/angle"]).all()
    assert (npz(cell)["weight_rotation/length"] > 0).all()


def test_the_oracles_follow_the_configuration(compose_cell):
    sgd = ["norm=bn", "optimizer=sgd", "optimizer.lr=0.05", "optimizer.weight_decay=0.01", "optimizer.momentum=0.9"]
    assert angle(compose_cell(*sgd).config) == pytest.approx(math.sqrt(0.001 / 1.9))
    own = [*sgd, "optimizer.weight_decay=7", "optimizer.groups.scale_invariant.weight_decay=0.01"]
    assert angle(compose_cell(*own).config) == pytest.approx(math.sqrt(0.001 / 1.9))
    adam = ["norm=bn", "optimizer=adamw", "optimizer.lr=0.005", "optimizer.weight_decay=0.1"]
    assert angle(compose_cell(*adam).config) == pytest.approx(math.sqrt(0.001 * 0.1 / 1.9))
    growing = ["norm=bn", "scheduler=decay_equivalent", "scheduler.weight_decay=0.02", "optimizer.momentum=0"]
    growing += ["data.train_examples=2500", "data.val_fraction=0.2", "data.batch_size=100", "trainer.max_epochs=50"]
    assert math.exp(growth_of_decay(compose_cell(*growing).config)) == pytest.approx(2.719642, rel=1e-6)
    faster = [*growing, "optimizer.lr=1.0", "optimizer.groups.scale_invariant.lr=0.05"]
    assert growth_of_decay(compose_cell(*faster).config) == growth_of_decay(compose_cell(*growing).config)


def test_the_figure_has_a_line_for_each_layer_and_the_theory(tmp_path):
    readings = {"weight_rotation/epochs": np.array([1, 2]), "weight_rotation/layer": np.array(["a", "b"])}
    values = np.random.default_rng(0).uniform(0.01, 0.02, (2, 6, 2))
    readings |= {f"weight_rotation/{name}": values for name in ("angle", "angle_of_units", "length")}
    metrics = {"test/acc": [0.5] * 6}
    folder = write_cell(tmp_path / "bn", "bn", metrics, probes=readings)
    arm = Arm("bn", folder, a_result("bn", metrics), looks({"bn": "bn"})["bn"])
    quantity = Quantity("bn", "weight_rotation/angle", moment="late", labels=["a"])
    drawing = angle_by_epoch({"bn": arm}, [Claim("c", "agreement", {"values": quantity, "margin": 0.1}, oracle=0.015)])
    for j, layer in enumerate("ab"):
        rows = drawing.data[drawing.data["layer"] == layer]
        np.testing.assert_allclose(rows["mean"], values[:, :, j].mean(axis=1))
    assert "theory" in drawing.caption


TURNING = "bn_experiments.probes.weight_rotation.WeightRotation"


@pytest.mark.parametrize("at", ["in the middle of an epoch", "as another probe measures"])
def test_a_run_that_was_cut_has_the_angles_of_all_its_steps(compose_cell, monkeypatch, at):
    keys = ["norm=bn", "probes=[]", SIZES, "trainer.max_epochs=3", "data.batch_size=25"]
    keys += [f"+probes.turning={{_target_:{TURNING},at_start:false,every_n_epochs:1,at_end:true}}"]
    keys += ["trainer.steps_per_execution=4"]
    whole, cell, asked, calls = compose_cell(*keys, "name=whole"), compose_cell(*keys, "name=cut"), [], []
    run(whole)
    owner, name, call = (Classification, "training_step", 5) if "middle" in at else (Sizes, "measure", 2)
    original = getattr(owner, name)

    def cutting(*arguments):
        calls.append(0)
        if len(calls) == call:
            asked.append(0)
            raise interruption.Interrupted(15)
        return original(*arguments)

    monkeypatch.setattr(owner, name, cutting)
    monkeypatch.setattr(interruption, "asked", lambda: bool(asked))
    with pytest.raises(interruption.Interrupted):
        run(cell)
    asked.clear()
    run(cell)
    for key, values in npz(whole).items():
        np.testing.assert_array_equal(npz(cell)[key], values, key)


def test_a_network_without_layers_is_refused():
    (refusal,) = WeightRotation().refusals(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(3)), torch.zeros(2, 3))
    line = "probes.weight_rotation: the network has no linear or convolutional layer that is trained"
    assert str(refusal).startswith(line)


@pytest.mark.parametrize("quantity", [{"label": "a"}, {}])
def test_theory_is_drawn_in_each_layer_that_a_claim_is_about(tmp_path, quantity):
    readings = {"weight_rotation/epochs": np.array([1, 2]), "weight_rotation/layer": np.array(["a", "b"])}
    readings |= {f"weight_rotation/{name}": np.full((2, 6, 2), 0.01) for name in ("angle", "angle_of_units", "length")}
    metrics = {"test/acc": [0.5] * 6}
    folder = write_cell(tmp_path / "bn", "bn", metrics, probes=readings)
    arm = Arm("bn", folder, a_result("bn", metrics), looks({"bn": "bn"})["bn"])
    values = Quantity("bn", "weight_rotation/angle", **quantity)
    claims = [Claim("c", "agreement", {"values": values, "margin": 0.1}, oracle=0.0123)]
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Axes, "axhline", lambda *arguments, **_: lines.append(arguments[1]))
        angle_by_epoch({"bn": arm}, claims)
    assert lines == [0.0123] * (1 if quantity else 2)
