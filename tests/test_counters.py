import pytest
import torch

from bn_experiments.counters import normal, random_bits, split_mix, uniform

N = 200_000


def reference(counter: int) -> int:
    """SplitMix64 in Python's integers, as Steele et al. 2014 print it, for counter times the golden gamma."""
    mask = 2**64 - 1
    z = counter * 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def test_split_mix_equals_integer_arithmetic():
    counters = [0, 1, 2, 2**40 + 7, 2**62 + 12345]
    ours = [value % 2**64 for value in split_mix(torch.tensor(counters)).tolist()]
    assert ours == [reference(counter) for counter in counters]
    # the generator's published first output for seed 0 is its mix of one gamma
    assert reference(1) == 0xE220A8397B1DCDAF


def bits(seed: int, step: int, count: int) -> torch.Tensor:
    return random_bits(torch.tensor(seed), torch.tensor(step), count)


def test_uniform_numbers_are_the_upper_bits_and_spread_evenly():
    drawn = bits(3, 7, N)
    exact = torch.tensor([(value % 2**64 >> 40) / 2**24 for value in drawn[:100].tolist()])
    assert torch.equal(uniform(drawn[:100]), exact)
    counts = torch.histc(uniform(drawn), 20, 0, 1)
    chi_square = ((counts - N / 20) ** 2 / (N / 20)).sum().item()
    assert chi_square < 43.8  # of 19 degrees of freedom, exceeded once in a thousand draws
    assert uniform(torch.tensor([-1, 0])).tolist() == [1 - 2.0**-24, 0.0]


def test_normal_numbers_have_the_moments_of_the_normal_distribution():
    drawn = normal(bits(5, 1, 2 * N).view(2, N)).double()
    assert drawn.isfinite().all()
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:  # of z^power
        assert abs((drawn**power).mean().item() - moment) < 4 * (variance / N) ** 0.5


@pytest.mark.parametrize(("seed", "step"), [(0, 1), (1, 0)])
def test_streams_of_other_seeds_and_steps_are_unrelated(seed, step):
    one, other = uniform(bits(0, 0, N)).double(), uniform(bits(seed * 1000, step * 1000, N)).double()
    assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1].item()) < 4 / N**0.5
