import pytest
import torch
from torch import nn

from bn_experiments.norms.weight import weight_norm
from bn_experiments.probes.gradients import gradient_norms


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
