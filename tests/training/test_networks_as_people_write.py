"""Networks and optimizers as people write them: a replica is a run alone, and a cut run ends as a whole one."""

import signal

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bn_experiments.config.check import check_cells
from bn_experiments.run import run
from bn_experiments.system import interruption
from tests.training.test_trainer import at_block  # noqa: F401  # a fixture

HERE = "tests.training.test_networks_as_people_write"
FEW = ["trainer.max_epochs=3", "data.batch_size=50", "trainer.steps_per_execution=2", "probes=[]", "norm=kept"]
OWN_OPTIMIZER = ["~optimizer.momentum", "~optimizer.dampening", "~optimizer.nesterov", "~optimizer.fused"]


class Plain(nn.Module):
    """Two layers and a batch norm."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(40, 16), nn.BatchNorm1d(16), nn.Linear(16, num_classes)

    def hidden(self, x):
        return torch.relu(self.norm(self.a(x.flatten(1))))

    def forward(self, x):
        return self.b(self.hidden(x))


class ChangesItsInput(Plain):
    """It scales its input in place."""

    def forward(self, x):
        return super().forward(x.mul_(0.5).add_(0.1))


class OneMemory(Plain):
    """Two of its layers have one memory, though not one parameter."""

    def __init__(self):
        super().__init__()
        self.c, self.d = nn.Linear(16, 16), nn.Linear(16, 16)
        self.d.weight.data = self.c.weight.data

    def hidden(self, x):
        return self.d(torch.relu(self.c(super().hidden(x))))


class LateBuffer(Plain):
    """Its buffer comes into being in the ninth training step."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", None)
        self.steps = 0

    def hidden(self, x):
        h = super().hidden(x)
        self.steps += self.training
        if self.training and self.steps > 8:
            old = 0 if self.mean is None else self.mean
            self.mean = (0.9 * old + 0.1 * h.mean(0)).detach()
        return h if self.mean is None else h - self.mean


class LayerLeftOut(Plain):
    """Its second layer is used from the fifth step on."""

    def __init__(self):
        super().__init__()
        self.c, self.steps = nn.Linear(16, 16), 0

    def hidden(self, x):
        self.steps += self.training
        h = super().hidden(x)
        return self.c(h) if self.steps > 4 else h


class Complex(Plain):
    """It multiplies by a complex parameter."""

    def __init__(self):
        super().__init__()
        self.c = nn.Parameter(torch.ones(16, dtype=torch.complex64) * (1 + 0.5j))

    def hidden(self, x):
        return (super().hidden(x) * self.c).abs()


class Lookahead(torch.optim.SGD):
    """It gives parameters other memory at every seventh step, as the plain way to write lookahead does."""

    def __init__(self, params, lr, weight_decay=0.0):
        super().__init__(params, lr=lr, weight_decay=weight_decay, momentum=0.9)
        self.taken, self.slow = 0, [parameter.detach().clone() for parameter in self.param_groups[0]["params"]]

    def step(self, closure=None):
        super().step(closure)
        self.taken += 1
        if self.taken % 7 == 0:
            for slow, parameter in zip(self.slow, self.param_groups[0]["params"], strict=True):
                slow.lerp_(parameter.detach(), 0.5)
                parameter.data = slow.clone()


def curves(cell):
    table = pd.read_csv(cell.folder / "metrics.csv")
    return table.pivot_table(index=["name", "step"], columns="replica", values="value").to_numpy()


CASES = [
    ("ChangesItsInput", ["trainer.stack_replicas=false"]),
    ("OneMemory", []),
    ("LateBuffer", []),
    ("LayerLeftOut", ["trainer.stack_replicas=false"]),
    ("Complex", ["optimizer.fused=false"]),
    ("Plain", [f"optimizer._target_={HERE}.Lookahead", *OWN_OPTIMIZER]),
]


@pytest.mark.parametrize(("network", "keys"), CASES, ids=[name for name, _ in CASES])
def test_the_second_replica_is_the_run_of_its_seed_alone(compose_cell, network, keys):
    own = ["model=own", f"model.target={HERE}.{network}", *FEW, *keys]
    together = compose_cell(*own, "name=together", "replicas=2")
    alone = compose_cell(*own, "name=alone", "replicas=1", "seed=1")
    for cell in (together, alone):
        assert check_cells([cell]) == []
        run(cell)
    np.testing.assert_allclose(curves(together)[:, 1], curves(alone)[:, 0], rtol=2e-4, atol=1e-6)


def test_complex_parameters_with_a_kernel_that_takes_none_are_refused_before_anything_trains(compose_cell):
    (refusal,) = check_cells([compose_cell("model=own", f"model.target={HERE}.Complex", *FEW, "optimizer.fused=true")])
    assert "floating point" in str(refusal)


@pytest.mark.parametrize(
    "keys",
    [
        ["model=mlp", "norm=bn", "trainer.precision=64-true"],
        ["model=own", f"model.target={HERE}.LateBuffer", "norm=kept", "replicas=1"],
        ["model=own", f"model.target={HERE}.LayerLeftOut", "norm=kept", "replicas=1"],
    ],
    ids=["double", "a late buffer", "a late layer"],
)
def test_a_cut_run_ends_as_a_whole_one(compose_cell, at_block, keys):  # noqa: F811  # the fixture
    whole, cut = (compose_cell(*FEW, *keys, f"name={name}") for name in ("whole", "cut"))
    run(whole)
    at_block(6, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(interruption.Interrupted), interruption.listening(), interruption.deferred():
        run(cut)
    counts = at_block(-1, lambda: None)
    run(cut)
    assert counts == [6, 3], "it went on"
    np.testing.assert_array_equal(curves(whole), curves(cut))
