import pytest
import torch

from bn_experiments.models.hidden import Dropout, _split_mix
from bn_experiments.training.initialization import initialize


def seeded(p: float, seed: int = 0) -> Dropout:
    layer = Dropout(p)
    initialize(layer, seed, "torch", "ones")
    return layer


def reference_split_mix(counter: int) -> int:
    """SplitMix64 in Python's integers, as Steele et al. 2014 print it, for counter times the golden gamma."""
    mask = 2**64 - 1
    z = counter * 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def test_split_mix_equals_integer_arithmetic():
    counters = [0, 1, 2, 2**40 + 7, 2**62 + 12345]
    ours = [value % 2**64 for value in _split_mix(torch.tensor(counters)).tolist()]
    assert ours == [reference_split_mix(counter) for counter in counters]
    # the generator's published first output for seed 0 is its mix of one gamma
    assert reference_split_mix(1) == 0xE220A8397B1DCDAF


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
