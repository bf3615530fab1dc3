import pytest
import torch

from bn_experiments.norms.ghost import GhostBatchNorm
from bn_experiments.refusal import Refusal
from tests.norms.test_batch import OPTIONS, F, drawn, inputs, torchs

SHAPES = [(8, F), (8, F, 3), (8, F, 3, 2)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("group_size", "parts"), [(4, [4, 4]), (3, [3, 3, 2]), (5, [5, 3]), (8, [8]), (100, [8])])
def test_each_group_is_what_torchs_batch_norm_makes_of_it(shape, group_size, parts):
    x = inputs(*shape)
    ours, theirs = drawn(GhostBatchNorm(F, group_size=group_size, **OPTIONS)), drawn(torchs(x, **OPTIONS))
    expected = torch.cat([theirs(part) for part in x.split(parts)])
    torch.testing.assert_close(ours(x), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_running_statistics_are_those_of_whole_batches_once_a_step(shape):
    x = inputs(*shape)
    ours, theirs = drawn(GhostBatchNorm(F, group_size=3, **OPTIONS)), drawn(torchs(x, **OPTIONS))
    for step in range(3):
        ours(x + step)
        theirs(x + step)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_a_last_group_of_one_example_is_refused_where_it_has_one_value():
    with pytest.raises(Refusal, match=r"data\.batch_size=1: gives the norm one value"):
        GhostBatchNorm(F, group_size=7, **OPTIONS).double()(inputs(8, F))
    with pytest.raises(Refusal, match="one value"):
        GhostBatchNorm(F, group_size=1, **OPTIONS).double()(inputs(8, F))
    assert GhostBatchNorm(F, group_size=7, **OPTIONS).double()(inputs(8, F, 3)).isfinite().all()
