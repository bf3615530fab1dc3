import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bn_experiments.seeds import derive, generator


@pytest.mark.parametrize(
    ("arguments", "digest"),
    [  # the first 16 hex digits of `printf 0/batches/3 | sha256sum` and of `printf 12/hidden.0.layer | sha256sum`
        ((0, "batches", 3), 0xC3E4926D8A08AE3E),
        ((12, "hidden.0.layer"), 0x9A6BCB438ECCC10A),
    ],
)
def test_derived_seeds_are_the_same_in_every_process_and_version(arguments, digest):
    assert derive(*arguments) == digest >> 1


@given(st.integers(0, 2**40), st.lists(st.text("ab/. é0") | st.integers(0, 10**6), max_size=3))
@settings(deadline=None)
def test_derived_seeds_are_the_first_63_bits_of_a_sha256(seed, purpose):
    text = "/".join([str(seed), *map(str, purpose)])
    bits = "".join(f"{byte:08b}" for byte in hashlib.sha256(text.encode()).digest())
    assert derive(seed, *purpose) == int(bits[:63], 2)


def test_seeds_and_purposes_have_streams_of_their_own():
    purposes = [(seed, *purpose) for seed in range(20) for purpose in (("a",), ("b",), ("batches", 0), ("batches", 1))]
    assert len({derive(*purpose) for purpose in purposes}) == len(purposes)


def test_generators_start_at_the_derived_seed_and_leave_the_global_one_alone():
    before = torch.get_rng_state()
    drawn = torch.rand(5, generator=generator(4, "dropout"))
    assert torch.equal(drawn, torch.rand(5, generator=torch.Generator().manual_seed(derive(4, "dropout"))))
    assert torch.equal(before, torch.get_rng_state())
