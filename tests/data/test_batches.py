import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bn_experiments.data import batches
from bn_experiments.data.batches import Batching, Blocks, EvaluationBatches, mini_batches
from bn_experiments.data.examples import Examples


def numbered(count):
    """Examples of one value, their place; labels likewise. The scale is such that x is normalized to place + 1."""
    place = torch.arange(count)
    return Examples(place.float().view(-1, 1, 1), place, torch.ones(1, 1), torch.ones(1, 1))


def blocks(count=23, seeds=(0,), epoch=0, batch_size=5, shuffle=True, drop_last=False, steps=3):
    batching = Batching(batch_size, shuffle, drop_last, eval_batch_size=7)
    return Blocks(numbered(count), seeds, lambda: epoch, batching, steps)


def labels(handed_out):
    """The labels of each mini-batch, (R, B), after a look at its inputs."""
    found = []
    for block in handed_out:
        taken = list(mini_batches(block.examples, block.index.movedim(1, 0)))
        assert len(taken) == len(block)
        for x, y in taken:
            assert x.shape == (*y.shape, 1, 1)
            assert torch.equal(x.view(y.shape), y + 1.0)
            found.append(y)
    return found


def epoch_of(**options):
    """(R, N): the places of the examples in the order of the epoch."""
    return torch.cat(labels(blocks(**options)), dim=1)


counts, batch_sizes, ks = st.integers(1, 40), st.integers(1, 12), st.integers(1, 9)


@given(count=counts, batch_size=batch_sizes, steps=ks, seed=st.integers(0, 2**31), epoch=st.integers(0, 1000))
@settings(deadline=None)
def test_an_epoch_gives_every_replica_each_example_once(count, batch_size, steps, seed, epoch):
    options = {"count": count, "batch_size": batch_size, "steps": steps, "epoch": epoch}
    order = epoch_of(seeds=[seed, seed + 1], **options)
    for replica in order:
        assert sorted(replica.tolist()) == list(range(count))


@given(count=counts, batch_size=batch_sizes, steps=ks, drop_last=st.booleans(), shuffle=st.booleans())
@settings(deadline=None)
def test_blocks_hold_the_plain_sequence_of_mini_batches_whatever_their_length(
    count, batch_size, steps, drop_last, shuffle
):
    options = {"count": count, "batch_size": batch_size, "drop_last": drop_last, "shuffle": shuffle, "seeds": (3, 4)}
    handed_out = blocks(steps=steps, **options)
    order = handed_out.order(0)
    plain = [batch for batch in order.split(batch_size, dim=1) if batch.shape[1] == batch_size or not drop_last]
    found = labels(handed_out)
    assert len(found) == len(plain)
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))
    assert len(handed_out) == len(list(handed_out))
    assert all(len(block) <= steps for block in handed_out)


@given(count=counts, batch_size=batch_sizes | st.just("full"), drop_last=st.booleans())
@settings(deadline=None)
def test_the_announced_sizes_are_those_that_come(count, batch_size, drop_last):
    found = labels(blocks(count=count, batch_size=batch_size, drop_last=drop_last))
    batching = Batching(batch_size, True, drop_last, 1)
    assert batching.sizes(count) == {y.shape[1] for y in found}


@given(shape=st.lists(ks, min_size=2, max_size=3), at_once=st.integers(1, 500))
@settings(deadline=None)
def test_mini_batches_are_examples_taken_one_by_one_however_many_are_taken_at_once(shape, at_once):
    x = torch.arange(90, dtype=torch.uint8).view(15, 2, 3)
    scale, shift = torch.tensor([[0.25], [4.0]], dtype=torch.float64), torch.tensor([[-1.0], [7.0]])
    index = torch.randint(15, shape, generator=torch.Generator().manual_seed(0))  # (K, B) or (K, R, B)
    take, numbers = Examples.take, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "TAKEN_AT_ONCE", at_once)
        patch.setattr(Examples, "take", lambda self, part: numbers.append(6 * part.numel()) or take(self, part))
        found = list(mini_batches(Examples(x, torch.arange(15) % 4, scale, shift), index))
    assert max(numbers) <= max(at_once, 6 * index[0].numel()), "no more than fit, or one mini-batch"
    assert len(found) == len(index)
    for (inputs, targets), places in zip(found, index, strict=True):
        assert inputs.shape == (*places.shape, 2, 3)
        assert torch.equal(targets, places % 4)
        for example, place in zip(inputs.view(-1, 2, 3), places.flatten(), strict=True):
            assert torch.equal(example, x[place] * scale + shift)


@pytest.mark.parametrize("epoch", [0, 5])
def test_a_replica_in_a_stack_sees_what_its_seed_alone_sees(epoch):
    stacked = epoch_of(seeds=range(7, 11), epoch=epoch)
    for replica, seed in enumerate(range(7, 11)):
        assert torch.equal(stacked[replica : replica + 1], epoch_of(seeds=[seed], epoch=epoch))


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else():
    order = epoch_of(seeds=[1], epoch=2)
    torch.manual_seed(99)
    torch.rand(3)
    assert torch.equal(order, epoch_of(seeds=[1], epoch=2))
    assert torch.equal(order, epoch_of(seeds=[1], epoch=2, batch_size=9, steps=1))
    assert not torch.equal(order, epoch_of(seeds=[2], epoch=2))
    assert not torch.equal(order, epoch_of(seeds=[1], epoch=3))
    assert not torch.equal(order, torch.arange(23)[None])


def test_blocks_follow_the_current_epoch_as_it_goes_on():
    epochs = iter([4, 5])
    handed_out = Blocks(numbered(23), [1], lambda: next(epochs), Batching(5, True, False, 7), 3)
    for epoch in (4, 5):
        assert torch.equal(torch.cat(labels(handed_out), dim=1), epoch_of(seeds=[1], epoch=epoch))


def test_without_shuffling_all_replicas_take_the_examples_as_they_come():
    assert torch.equal(epoch_of(seeds=[0, 1], epoch=3, shuffle=False), torch.arange(23).expand(2, -1))


@given(count=counts, shuffle=st.booleans(), drop_last=st.booleans(), steps=ks)
@settings(deadline=None)
def test_a_full_batch_is_the_whole_split_in_its_own_order(count, shuffle, drop_last, steps):
    options = {"count": count, "shuffle": shuffle, "drop_last": drop_last, "steps": steps, "seeds": [1, 2]}
    (batch,) = labels(blocks(batch_size="full", epoch=3, **options))
    assert torch.equal(batch, torch.arange(count).expand(2, -1))


@given(count=counts, batch_size=batch_sizes)
@settings(deadline=None)
def test_evaluation_covers_the_split_in_order(count, batch_size):
    handed_out = EvaluationBatches(numbered(count), batch_size)
    (whole,) = handed_out
    assert len(handed_out) == 1, "for Lightning it is one batch"
    found = list(whole.batches())
    assert torch.cat([y[0] for _, y in found]).tolist() == list(range(count))
    assert torch.cat([x.flatten() for x, _ in found]).tolist() == list(range(1, count + 1))
    assert all(y.shape == (1, batch_size) for _, y in found[:-1])
