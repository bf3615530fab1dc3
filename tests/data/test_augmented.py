from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from bn_experiments.config import objects
from bn_experiments.data.augmentation import Crop, Flip
from bn_experiments.data.augmented import Augmented
from bn_experiments.data.batches import Batching, Blocks, mini_batches
from bn_experiments.data.datamodule import DataModule
from bn_experiments.data.examples import Examples
from bn_experiments.run import run
from tests.everything import everything

SHAPE, COUNT = (1, 6, 6), 23
CROP, FLIP = Crop(SHAPE, padding=2), Flip(SHAPE)


def examples():
    """Images of which no two pixels are alike."""
    x = torch.arange(1.0, 36 * COUNT + 1).view(COUNT, *SHAPE)
    return Examples(x, torch.arange(COUNT), torch.ones(1, 1, 1), torch.zeros(1, 1, 1))


def blocks(seeds=(0,), epoch=0, batch_size=5, steps=3, shuffle=True, **augmentations):
    augmented = Augmented.of(examples(), augmentations or {"crop": CROP}, seeds)
    return Blocks(augmented, seeds, lambda: epoch, Batching(batch_size, shuffle, False, 7), steps)


def batches(handed_out):
    return [
        batch for block in handed_out for batch in mini_batches(block.examples, block.index.movedim(1, 0))
    ]  # x (R, B, ...), y (R, B)


def by_example(handed_out):
    """What each replica sees of each example in an epoch, (R, N, ...), in the order of the split."""
    x, y = (torch.cat(parts, dim=1) for parts in zip(*batches(handed_out), strict=True))
    assert torch.equal(y.sort(dim=1).values, torch.arange(COUNT).expand(len(y), -1))
    return torch.stack([own[places.argsort()] for own, places in zip(x, y, strict=True)])


def test_a_replica_in_a_stack_of_any_size_sees_what_it_sees_alone():
    stacked = batches(blocks(seeds=range(3, 7), crop=CROP, flip=FLIP))
    for i, seed in enumerate(range(3, 7)):
        alone = batches(blocks(seeds=[seed], crop=CROP, flip=FLIP))
        for (x, y), (x_alone, y_alone) in zip(stacked, alone, strict=True):
            assert torch.equal(x[i], x_alone[0])
            assert torch.equal(y[i], y_alone[0])


def test_what_is_drawn_for_an_example_depends_on_seed_and_epoch_and_not_on_the_batches():
    seen = by_example(blocks(seeds=[1], epoch=2))
    torch.manual_seed(99)
    assert torch.equal(seen, by_example(blocks(seeds=[1], epoch=2, batch_size=9, steps=1)))
    assert torch.equal(seen, by_example(blocks(seeds=[1], epoch=2, shuffle=False)))
    for other in (blocks(seeds=[2], epoch=2), blocks(seeds=[1], epoch=3)):
        same = (by_example(other) == seen).flatten(2).all(2).sum()
        assert same < COUNT / 2, "one crop in 25 is the same by chance"


def test_an_augmentation_draws_the_same_whatever_others_act_beside_it():
    cropped, flipped = by_example(blocks(crop=CROP)), by_example(blocks(flip=FLIP))
    is_flipped = (flipped != examples().x).flatten(2).any(2)  # (R, N)
    assert 0 < is_flipped.sum() < COUNT
    expected = torch.where(is_flipped[..., None, None, None], cropped.flip(-1), cropped)
    assert torch.equal(by_example(blocks(crop=CROP, flip=FLIP)), expected)


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_an_epoch_that_was_cut_goes_on_to_the_same_examples(taken):
    whole, cut, resumed = (blocks(epoch=4, steps=1) for _ in range(3))
    iterator = iter(cut)
    for _ in range(taken):
        next(iterator)
    resumed.load_state_dict(cut.state_dict())
    rest = batches(resumed)
    assert len(rest) == len(whole) - taken
    for (x, _), (x_whole, _) in zip(rest, batches(whole)[taken:], strict=True):
        assert torch.equal(x, x_whole)


def test_each_epoch_draws_into_the_memory_that_a_captured_step_reads():
    epochs = iter(range(2))
    augmented = Augmented.of(examples(), {"crop": CROP}, [0, 1])
    handed_out = Blocks(augmented, [0, 1], lambda: next(epochs), Batching(COUNT, False, False, 7), 1)
    (first,) = handed_out
    address, drawn = augmented.draws["crop"].data_ptr(), augmented.draws["crop"].clone()
    captured = first.examples.take(first.index)[0].clone()
    (second,) = handed_out
    assert second.examples is first.examples
    assert torch.equal(second.index, first.index), "without shuffling"
    assert augmented.draws["crop"].data_ptr() == address
    assert not torch.equal(augmented.draws["crop"], drawn)
    assert not torch.equal(first.examples.take(first.index)[0], captured), "the same call sees the new epoch"


def test_training_batches_alone_are_augmented(compose_cell):
    splits = objects.splits(compose_cell().config)
    data = DataModule(splits, [0], Batching(50, False, False, 60), 3, {"zeros": Zeros()})
    data.trainer = SimpleNamespace(current_epoch=0)
    for batch, _ in batches(data.train_dataloader()):
        assert not batch.any()
    for whole, split in ((data.val_dataloader(), splits.val), (data.test_dataloader(), splits.test)):
        assert torch.equal(torch.cat([x[0] for x, _ in whole.batches()]), everything(split)[0])


class Zeros:
    draws = 0

    def __call__(self, x, u):
        assert u.shape == (len(x), 0)
        return x * 0


def losses(folder, replica):
    rows = pd.read_csv(folder / "metrics.csv").query("name == 'train/step_loss'")
    return torch.tensor(rows[rows.replica == replica].sort_values("step").value.to_numpy())


@pytest.mark.parametrize("stack", ["true", "false"])
def test_replicas_train_on_the_same_augmented_examples_as_alone(compose_cell, stack):
    keys = ["augmentation=[shift,scale]", "norm=bn", f"trainer.stack_replicas={stack}", "trainer.max_epochs=2"]
    keys += ["probes=[]", "trainer.precision=64-true"]
    together = compose_cell(*keys, "replicas=3", "name=together")
    run(together)
    for seed in range(3):
        alone = compose_cell(*keys, "replicas=1", f"seed={seed}", f"name=alone{seed}")
        run(alone)
        found, expected = losses(together.folder, seed), losses(alone.folder, 0)
        assert len(expected) > 5
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)  # as many digits as the file has
