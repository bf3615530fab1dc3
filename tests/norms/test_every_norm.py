"""What holds of every norm of conf/norm: its gradients, its stack, its place in every model, and its start."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.func import functional_call

from bn_experiments.config import objects
from bn_experiments.config.check import check
from bn_experiments.norms.slot import norms_of
from bn_experiments.training.replicas import StackedReplicas
from tests.models.test_models import splits
from tests.pairs import CONVOLUTIONAL, NORMS, SMALLER, of_pair, pairs, refusal, slow

R, B, F = 3, 5, 4
SHAPES = {"features": (B, F), "signals": (B, F, 3), "images": (B, F, 3, 2)}
PARAMETRIZATIONS = ["wn", "ws", "scaled_ws", "spectral", "orthogonal"]
CLASSES = [name for name in NORMS if name not in (*PARAMETRIZATIONS, "none")]
LAYERS = {"linear": nn.Linear(6, F), "conv1d": nn.Conv1d(2, F, 3), "conv2d": nn.Conv2d(2, 2 * F, 3)}


def slot(compose_cell, norm: str):
    return objects.slot(compose_cell(f"norm={norm}", *SMALLER.get(norm, [])).config)


def made(compose_cell, norm: str, shape: tuple[int, ...], seed: int = 0) -> nn.Module:
    """A norm in float64 off its start values, after two training steps."""
    norm = slot(compose_cell, norm).make(F, dim=max(len(shape) - 2, 1)).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    for _ in range(2):
        norm(inputs(shape, seed))
    return norm


def inputs(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 10)) + 0.5


def takes(norm: str, shape: str) -> bool:
    return shape != "features" or norm not in CONVOLUTIONAL


@pytest.mark.parametrize("training", [True, *slow(False)])
@pytest.mark.parametrize("shape", ["features", "images", *slow("signals")])
@pytest.mark.parametrize("norm", CLASSES)
@pytest.mark.few(12)
def test_gradients_are_derivatives(compose_cell, norm, shape, training):
    if not takes(norm, shape):
        pytest.skip("the norm needs positions")
    if norm == "renorm" and training:
        pytest.skip("r and d are constants to its gradient: see test_running")
    module, x = made(compose_cell, norm, SHAPES[shape]), inputs(SHAPES[shape], 5).requires_grad_()
    names = [name for name, _ in module.named_parameters()]

    def outputs(x, *parameters):
        asked = copy.deepcopy(module).train(training)
        return functional_call(asked, dict(zip(names, parameters, strict=True)), (x,))

    assert gradcheck(outputs, (x, *(p.detach().clone().requires_grad_() for p in module.parameters())))


@pytest.mark.parametrize("shape", ["features", "images", *slow("signals")])
@pytest.mark.parametrize("norm", CLASSES)
@pytest.mark.few(8)
def test_a_stack_gives_what_each_gives_alone(compose_cell, norm, shape):
    if not takes(norm, shape):
        pytest.skip("the norm needs positions")
    alone = [made(compose_cell, norm, SHAPES[shape], seed) for seed in range(R)]
    stack = StackedReplicas(alone)
    x = torch.stack([inputs(SHAPES[shape], seed) for seed in range(R)])
    for _ in range(2):
        torch.testing.assert_close(stack(x), torch.stack([one(own) for one, own in zip(alone, x, strict=True)]))
    for i, one in enumerate(alone):
        torch.testing.assert_close(dict(stack.replica(i).state_dict()), dict(one.state_dict()))
    evaluated = torch.stack([one.eval()(own) for one, own in zip(alone, x, strict=True)])
    torch.testing.assert_close(stack.eval()(x), evaluated)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("norm", PARAMETRIZATIONS)
@pytest.mark.few(5)
def test_a_parametrized_layer_has_right_gradients_and_stacks(compose_cell, norm, layer):
    def parametrized(seed):
        torch.manual_seed(seed)
        own = copy.deepcopy(LAYERS[layer])
        own.reset_parameters()
        slot(compose_cell, norm).fill(own)
        return own.double()

    alone = [parametrized(seed) for seed in range(R)]
    originals = {name: p for name, p in alone[0].named_parameters() if name != "bias"}

    def weight(*parameters):
        asked = copy.deepcopy(alone[0]).eval()  # a training pass of spectral norm moves its singular vectors
        x = torch.eye(6).double() if layer == "linear" else inputs((B, 2, *(5,) * int(layer[4])))
        return functional_call(asked, dict(zip(originals, parameters, strict=True)), (x,))

    assert gradcheck(weight, tuple(p.detach().clone().requires_grad_() for p in originals.values()))
    x = inputs((R, B, 6) if layer == "linear" else (R, B, 2, *(5,) * int(layer[4])))
    stack = StackedReplicas(alone)
    for _ in range(2):
        torch.testing.assert_close(stack(x), torch.stack([one(own) for one, own in zip(alone, x, strict=True)]))
    for i, one in enumerate(alone):
        torch.testing.assert_close(dict(stack.replica(i).state_dict()), dict(one.state_dict()))


@pytest.mark.parametrize(("model", "norm"), pairs())
@pytest.mark.few(6)
def test_every_norm_trains_in_every_model_or_is_refused_in_one_line(compose_cell, model, norm):
    cell = compose_cell("probes=[]", "data.batch_size=26", *of_pair(model, norm))
    refusals, expected = check(cell), refusal(norm, model)
    if expected:
        (line,) = map(str, refusals)
        assert expected in line
        return
    assert refusals == []
    network = objects.initial_network(cell.config, splits((1, 40)), 0)
    batch = torch.randn(B, 1, 40, generator=torch.Generator().manual_seed(0))
    network(batch).logsumexp(1).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert name.startswith("output") or parameter.grad.ne(0).any() or norm == "frn", name
    assert len(norms_of(network)) == 0 or norm in CLASSES


@pytest.mark.parametrize("model", ["mlp", *slow("lenet", "residual_mlp")])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.few(7)
def test_every_arm_starts_from_the_weights_of_the_baseline(compose_cell, norm, model):
    if refusal(norm, model):
        pytest.skip("it is refused")

    def start(norm: str) -> dict[str, torch.Tensor]:
        config = compose_cell(f"model={model}", f"norm={norm}").config
        network = objects.initial_network(config, splits((1, 40)), 3)
        return {name: parameter.detach() for name, parameter in network.named_parameters()}

    own, baseline = start(norm), start("none")
    original = "original1" if norm == "wn" else "original0" if norm == "scaled_ws" else "original"
    renamed = {name.replace(f"parametrizations.weight.{original}", "weight"): value for name, value in own.items()}
    missing = {name for name in baseline if name not in renamed}
    assert all(name.endswith("layer.bias") for name in missing), "what a norm's shift stands for"
    assert all(torch.equal(renamed[name], value) for name, value in baseline.items() if name not in missing)
