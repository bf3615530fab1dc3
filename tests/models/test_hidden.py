import pytest
import torch

from bn_experiments.models.hidden import Dropout
from bn_experiments.training.initialization import initialize


def seeded(p: float, seed: int = 0) -> Dropout:
    layer = Dropout(p)
    initialize(layer, seed, "torch", "ones")
    return layer


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_dropout_zeroes_the_share_p_and_keeps_the_mean(p):
    layer, x = seeded(p), torch.ones(200, 500)
    dropped = (layer(x) == 0).float().mean().item()
    assert abs(dropped - p) < 5 * (p * (1 - p) / x.numel()) ** 0.5
    kept = layer(x)
    assert kept[kept != 0].unique().item() == pytest.approx(1 / (1 - p))


def test_masks_of_steps_layers_and_seeds_are_unrelated():
    x = torch.ones(100, 100)
    layer = seeded(0.5)
    masks = [layer(x) != 0, layer(x) != 0, seeded(0.5, seed=1)(x) != 0]
    for i in range(3):
        for j in range(i):
            agreement = (masks[i] == masks[j]).float().mean().item()
            assert abs(agreement - 0.5) < 5 * 0.5 / 100


def test_the_mask_depends_on_seed_and_step_alone():
    x = torch.randn(10, 10)
    first, second = seeded(0.5), seeded(0.5)
    first(x)
    torch.manual_seed(99)
    second(torch.randn(10, 10))
    assert torch.equal(first(x), second(x))


def test_evaluation_mode_is_the_identity_and_takes_no_step():
    layer, x = seeded(0.5).eval(), torch.randn(3, 4)
    assert torch.equal(layer(x), x)
    assert layer.step.item() == 0


def test_a_stack_draws_what_each_replica_draws_alone():
    layers, x = [seeded(0.5, seed) for seed in range(3)], torch.randn(3, 4, 5)
    seeds, steps = (torch.stack([getattr(layer, name) for layer in layers]) for name in ("seed", "step"))
    stacked = torch.vmap(
        lambda seed, step, x: torch.func.functional_call(layers[0], {"seed": seed, "step": step}, (x,))
    )(seeds, steps, x)
    for i in range(3):
        assert torch.equal(stacked[i], seeded(0.5, i)(x[i]))
