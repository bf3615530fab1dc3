import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bn_experiments.config import build, objects
from bn_experiments.norms.weight import weight_norm
from bn_experiments.probes.gradients import Gradients, gradient_norms, last_hidden_layer
from bn_experiments.probes.probe import fixed_batch
from bn_experiments.run import run
from tests.models.test_models import splits
from tests.probes.drawn import EPOCHS, REPLICAS, draw, numbers
from tests.probes.runs import TINY, events, npz, refusal_of_one, refusals, splits_of, steps


def batch(examples: int, features: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(examples, features, generator=generator, dtype=torch.float64)
    return x, torch.randint(classes, (examples,), generator=generator)


def softmax_error(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(p - onehot) / B, the gradient of the mean cross-entropy with respect to the logits."""
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    return (p - torch.eye(logits.shape[1], dtype=logits.dtype)[y]) / len(y)


def test_a_linear_softmax_layer_has_the_closed_form_of_its_gradient():
    x, y = batch(11, 4, 3)
    network = nn.Sequential(nn.Linear(4, 3, dtype=torch.float64))
    error = softmax_error((x @ network[0].weight.T + network[0].bias).detach(), y)
    weight, bias = error.T @ x, error.sum(0)
    found = gradient_norms(network, x, y)
    assert list(found) == ["0"], "weight and bias count as one layer"
    assert found["0"].item() == pytest.approx((weight.square().sum() + bias.square().sum()).sqrt().item(), rel=1e-12)


def test_a_known_gradient():
    network = nn.Sequential(nn.Linear(1, 2))
    nn.init.zeros_(network[0].weight)
    nn.init.zeros_(network[0].bias)
    # p - onehot = (-1/2, 1/2), so the weight's gradient is (-3/2, 3/2) and the bias's (-1/2, 1/2)
    norm = gradient_norms(network, torch.tensor([[3.0]]), torch.tensor([0]))["0"]
    assert norm.item() == pytest.approx((2 * 1.5**2 + 2 * 0.5**2) ** 0.5)


def test_each_layer_of_a_network_has_the_norm_that_back_propagation_by_hand_gives():
    x, y = batch(9, 4, 3)
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3, bias=False)).double()
    with torch.no_grad():
        h = (x @ network[0].weight.T + network[0].bias).tanh()
        error = softmax_error(h @ network[2].weight.T, y)
        back = error @ network[2].weight * (1 - h.square())
        below = torch.cat([back.T @ x, back.sum(0)[:, None]], dim=1)
    found = gradient_norms(network, x, y)
    assert list(found) == ["0", "2"]
    assert found["2"].item() == pytest.approx((error.T @ h).norm().item(), rel=1e-12)
    assert found["0"].item() == pytest.approx(below.norm().item(), rel=1e-12)


def test_a_weight_normalized_layer_appears_once_with_length_direction_and_bias_together():
    x, y = batch(9, 4, 3)
    network = nn.Sequential(nn.Linear(4, 3)).double()
    weight_norm(network[0])
    with torch.no_grad():
        w, bias = network[0].weight, network[0].bias
        error = softmax_error(x @ w.T + bias, y)
        by_w = error.T @ x
        lengths = w.norm(dim=1, keepdim=True)
        direction = w / lengths  # v starts as w, and g as ||w||
        by_g = (by_w * direction).sum(1, keepdim=True)  # Salimans & Kingma 2016, equation 3
        by_v = by_w - by_g * direction
        square = by_g.square().sum() + by_v.square().sum() + error.sum(0).square().sum()
    found = gradient_norms(network, x, y)
    assert list(found) == ["0"]
    assert found["0"].item() == pytest.approx(square.sqrt().item(), rel=1e-12)


class TwoRoads(nn.Module):
    """Layers that are called in another order than that in which they are made, one of them twice."""

    def __init__(self):
        super().__init__()
        self.output, self.last, self.shared = nn.Linear(4, 3), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.last(self.shared(self.shared(x).relu())).relu())


def test_the_last_hidden_layer_is_the_one_that_is_called_before_the_logits():
    x, _ = batch(9, 4, 3)
    assert last_hidden_layer(TwoRoads().double(), x) == "last"
    network = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)).double()
    assert last_hidden_layer(network, x.unsqueeze(1)) == "0"
    assert last_hidden_layer(nn.Sequential(nn.Linear(4, 3)).double(), x) is None


@pytest.mark.parametrize("model", ["rnn", "lstm"])
def test_the_last_hidden_layer_of_a_recurrent_network_is_the_same_with_and_without_norms(compose_cell, model):
    named = {
        last_hidden_layer(
            objects.network(compose_cell(f"model={model}", f"norm={norm}", *more).config, splits((1, 40))),
            torch.randn(4, 1, 40),
        )
        for norm, *more in (["none"], ["bn"], ["bn", "norm.bias=keep"], ["ln", "model.norms=sum"], ["wn"])
    }
    assert named == {"input.layer"}


@pytest.mark.parametrize("depth", [1, 3])
def test_in_a_transformer_it_is_the_second_map_of_the_last_network(compose_cell, depth):
    small = ["model.width=8", "model.heads=2", "model.hidden=6", f"model.depth={depth}", "norm=ln"]
    cell = compose_cell("model=transformer", *small)
    splits = splits_of(cell)
    replicas = build.replicas(cell.config, splits, "cpu")
    probe = Gradients(examples=20)
    probe.seeds = [0, 1]
    reading = probe.measure(replicas, splits)
    at = reading.labels.index(f"blocks.{depth - 1}.network.branch.outputs")
    assert torch.equal(reading.values["last_hidden"], reading.values["norm"][:, at])
    # with the error e_t at the output of W_2 a_t + b: sum_t e_t a_t^T for W_2, and sum_t e_t for b
    x, y = fixed_batch(splits.train, probe.seeds, 20)
    for i in range(2):
        network, kept = replicas.replica(i), {}

        def keep(_, inputs, output, kept=kept):
            output.retain_grad()
            kept.update(a=inputs[0].detach(), z=output)

        network.blocks[-1].network.branch.outputs.register_forward_hook(keep)
        F.cross_entropy(network(x[i]), y[i]).backward()
        error = kept["z"].grad
        squares = torch.einsum("bft,bat->fa", error, kept["a"]).square().sum() + error.sum((0, 2)).square().sum()
        assert reading.values["last_hidden"][i].item() == pytest.approx(squares.sqrt().item(), rel=1e-4)


def test_a_parameter_that_the_loss_does_not_depend_on_gives_zero():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(4, 3), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    x, y = batch(9, 4, 3)
    found = gradient_norms(Idle().double(), x, y)
    assert found["idle"].item() == 0
    assert found["used"].item() > 0


def test_the_gradients_of_the_parameters_themselves_are_left_alone():
    x, y = batch(9, 4, 3)
    network = nn.Sequential(nn.Linear(4, 3)).double()
    gradient_norms(network, x, y)
    assert all(parameter.grad is None for parameter in network.parameters())


LAYERS = [f"hidden.{i}.{part}" for i in (0, 1) for part in ("layer", "norm")] + ["output"]


def test_its_readings_hold_every_layer_and_tensorboard_shows_their_means(compose_cell):
    schedule = [f"probes.gradients.{key}" for key in ("at_start=false", "every_n_epochs=3", "at_end=false")]
    cell = compose_cell("norm=bn", *TINY, "probes=[gradients]", *schedule, "trainer.max_epochs=5")
    result = run(cell)
    arrays, drawn = npz(cell), events(cell)
    assert arrays["gradients/epochs"].tolist() == [3]
    assert arrays["gradients/layer"].tolist() == LAYERS
    assert set(arrays) == {"gradients/epochs", "gradients/layer", "gradients/norm", "gradients/last_hidden"}
    assert arrays["gradients/norm"].shape == (1, 2, 5)
    assert list(result.probes["gradients"]["norm"]) == LAYERS
    assert not np.allclose(arrays["gradients/norm"][:, 0], arrays["gradients/norm"][:, 1], rtol=1e-3)
    for j, layer in enumerate(LAYERS):
        points = drawn.Scalars(f"gradients/{layer}")
        assert steps(points) == [3]
        means = arrays["gradients/norm"][:, :, j].mean(1)
        np.testing.assert_allclose([point.value for point in points], means, rtol=1e-5)


def test_a_batch_of_one_is_refused_where_the_norm_needs_two(compose_cell):
    one = ["probes=[gradients]", "probes.gradients.examples=1"]
    line = refusal_of_one("probes.gradients.examples", 1, "train", 225)
    assert refusals(compose_cell("norm=bn", *one)) == [line]
    assert refusals(compose_cell("norm=ln", *one)) == []


def read(norm):
    values = numbers(norm, 4)
    norms = np.stack([values[:, :2], values[:, 2:]])
    return {"epochs": [0, EPOCHS], "layer": ["hidden.0.layer", "output"], "norm": norms}


def test_the_report_draws_the_norms_at_the_start_and_at_the_end(tmp_path):
    drawn = draw(tmp_path, "gradients", read)
    assert set(drawn) == {"gradient_norms"}
    data = drawn["gradient_norms"].data
    for norm in ("bn", "none"):
        for moment, at in {"start": 0, "end": -1}.items():
            own = data[(data["arm"] == norm) & (data["moment"] == moment)]
            assert own["layer"].tolist() == ["hidden.0.layer", "output"]
            assert own["mean"].tolist() == pytest.approx(read(norm)["norm"][at].mean(0).tolist(), rel=1e-6)


def test_the_report_counts_no_norm_that_is_not_finite(tmp_path):
    def diverged(norm):
        found = read(norm)
        found["norm"][-1] = np.nan
        return found

    data = draw(tmp_path, "gradients", diverged)["gradient_norms"].data
    assert data[data["arm"] == "none"]["n"].tolist() == [REPLICAS, REPLICAS, 0, 0]
