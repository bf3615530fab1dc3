"""Splits by replica: what each replica has equals what a run alone with that split seed would have."""

import json

import numpy as np
import pytest
import torch

from bn_experiments.config import objects
from bn_experiments.config.check import check
from bn_experiments.config.origin import origin
from bn_experiments.data import sources
from bn_experiments.data.examples import of_replicas
from bn_experiments.data.sources import Source
from bn_experiments.data.splits import Splitting
from bn_experiments.records.origin import changes, is_mixed
from bn_experiments.refusal import Refusal
from bn_experiments.run import run
from tests.everything import everything
from tests.probes.runs import OF_MLPS

SEEDS = (3, 4, 11)
EVERY_PROBE = f"probes=[{','.join(OF_MLPS)}]"
WAYS = {"none": (0.5, 0.5), "given": ([0.1, 0.2, 0.3], 0.4), "train": (0.5, 0.5)}


def realisation(seed: int) -> Source:
    """Seeded images (3, 5, 4) of two classes, as another seed makes others."""
    rng = np.random.default_rng(seed)
    train, test = (torch.from_numpy(rng.integers(0, 256, (n, 3, 5, 4), dtype=np.uint8)) for n in (30, 8))
    train_y, test_y = (torch.from_numpy(rng.integers(0, 2, n)) for n in (30, 8))
    return Source(train, train_y, test, test_y, ("a", "b"))


PUBLISHED = realisation(0)


def published() -> Source:
    """Images that are what they are: the function takes no seed."""
    return PUBLISHED


def splitting(normalization: str = "none", val_split: str = "tail", **options: object) -> Splitting:
    mean, std = WAYS[normalization]
    given = {"train_examples": 27, "test_examples": 7, "val_fraction": 0.3, "split_seed": "replica"} | options
    return Splitting(val_split=val_split, normalization=normalization, mean=mean, std=std, **given)


@pytest.mark.parametrize("realisations", [1, 3])
@pytest.mark.parametrize("val_split", ["tail", "random"])
@pytest.mark.parametrize("normalization", WAYS)
def test_each_replica_has_the_splits_of_its_seed(normalization, val_split, realisations):
    sources = [realisation(i) for i in range(realisations)]
    found = splitting(normalization, val_split).split_by_replica(sources, SEEDS)
    found = found.to(torch.device("cpu"), torch.float64)
    for r, seed in enumerate(SEEDS):
        alone = splitting(normalization, "random", split_seed=seed).split(sources[min(r, realisations - 1)])
        for name in ("train", "val", "test"):
            examples, expected = getattr(found, name), everything(getattr(alone, name))
            own = r if len(examples.labels) > 1 else 0
            assert len(examples) == len(expected[1])
            assert torch.equal(examples.labels[own], expected[1])
            index = of_replicas(torch.arange(len(examples)).expand(len(SEEDS), -1), len(examples))
            for x, y in (examples.take(index[r]), [part[own] for part in examples.slice(0, 1000)]):
                assert torch.equal(x, expected[0])
                assert torch.equal(y, expected[1])


def test_replicas_differ_in_their_splits_and_share_what_is_not_drawn():
    found = splitting().split_by_replica([realisation(0)], SEEDS)
    assert found.train.x.data_ptr() == found.val.x.data_ptr(), "the images are in memory once"
    assert len({tuple(sorted(own)) for own in found.val.rows.tolist()}) == 3
    for train, val in zip(found.train.rows.tolist(), found.val.rows.tolist(), strict=True):
        assert sorted(train + val) == list(range(27))
    assert found.test.labels.shape == (1, 7)


def test_chance_is_that_of_the_replica_with_the_largest_class():
    one, two, three = map(realisation, range(3))
    sources = [one._replace(test_y=torch.arange(8) % 2), two._replace(test_y=torch.ones(8).long()), three]
    found = splitting(test_examples=8).split_by_replica(sources, SEEDS)
    assert found.test.chance() == 1.0


def test_realisations_of_another_shape_are_refused():
    other = realisation(1)
    with pytest.raises(Refusal, match=r"^data\._target_: makes data of another shape with another data_seed; allowed"):
        splitting().split_by_replica([realisation(0), other._replace(test_x=other.test_x[1:])], SEEDS[:2])


@pytest.mark.parametrize(
    "options",
    [
        ["norm=bn", EVERY_PROBE, "augmentation=shift"],
        ["norm=bn", "data.normalization=train", "data.val_split=test", EVERY_PROBE],
        ["norm=bn_noisy", "probes=[]"],
        ["norm=bn", "trainer.stack_replicas=false", EVERY_PROBE, "data.batch_size=full"],
    ],
    ids=["augmented", "scaled", "drawing", "one by one"],
)
@pytest.mark.few(1)
def test_a_stack_gives_each_replica_what_a_run_alone_with_its_data_and_split_gives(compose_cell, options):
    own = ["trainer.precision=64-true", "trainer.max_epochs=2", "data.test_examples=300", *options]
    stacked = compose_cell("data.split_seed=replica", "replicas=3", "seed=5", *own)
    assert check(stacked) == []
    together = run(stacked)
    for i, seed in enumerate((5, 6, 7)):
        given = [f"seed={seed}", f"data.split_seed={seed}", f"+data.data_seed={seed}", "replicas=1"]
        if "data.val_split=test" not in options:
            given.append("data.val_split=random")
        alone = run(compose_cell(*own, *given))
        assert together.diverged[i] == alone.diverged[0]
        for name, values in together.metrics.items():
            assert values[i] == pytest.approx(alone.metrics[name][0], rel=1e-9, abs=1e-12), name
        probes = (json.loads(json.dumps(one.probes)) for one in (together, alone))
        assert replica_of(next(probes), i) == pytest.approx(replica_of(next(probes), 0), rel=1e-9, abs=1e-9)


def replica_of(probes: dict, i: int) -> dict[str, float]:
    """The numbers of one replica by probe, quantity and label."""
    return {
        f"{probe} {quantity} {label}": numbers[i]
        for probe, quantities in probes.items()
        for quantity, labels in quantities.items()
        for label, numbers in labels.items()
    }


def test_arms_see_the_same_data(compose_cell):
    first, other = (compose_cell("data.split_seed=replica", f"norm={norm}").config for norm in ("bn", "none"))
    one, two = (objects.splits(config, objects.seeds(config)) for config in (first, other))
    assert torch.equal(one.train.rows, two.train.rows)
    assert torch.equal(one.train.x, two.train.x)


FIXED = (f"data._target_={__name__}.published", "data.train_examples=null", "~data.root")


@pytest.mark.parametrize("val_split", ["tail", "random"])
def test_data_that_cannot_be_drawn_anew_are_split_anew(compose_cell, val_split):
    config = compose_cell("data.split_seed=replica", f"data.val_split={val_split}", *FIXED).config
    splits = objects.splits(config, (0, 1))
    assert torch.equal(splits.train.x, PUBLISHED.train_x)
    assert splits.train.x.data_ptr() == PUBLISHED.train_x.data_ptr(), "and are in memory once"
    assert not torch.equal(*splits.train.rows)
    assert splits.test.labels.shape == (1, 8)


def test_noise_is_drawn_anew_for_each_replica(compose_cell):
    keys = ["data=gaussian", "data.split_seed=replica", "data.train_examples=null", "data.shape=[1,9]"]
    cell = compose_cell(*keys, "seed=3")
    assert check(cell) == []
    splits = objects.splits(cell.config, objects.seeds(cell.config))
    alone = compose_cell(*keys[:1], *keys[2:], "data.data_seed=4", "data.split_seed=4", "data.val_split=random").config
    expected, found = objects.splits(alone).train, splits.train.to(torch.device("cpu"), torch.float64)
    index = of_replicas(torch.arange(len(found)).expand(2, -1), len(found))[1]
    assert torch.equal(found.take(index)[0], everything(expected)[0])


def test_the_origin_knows_the_data_of_each_replica_and_further_seeds_are_no_change(compose_cell, monkeypatch):
    keys = ["data=gaussian", "data.split_seed=replica", "data.train_examples=null"]
    first, more = (compose_cell(*keys, f"replicas={count}").config for count in (2, 4))
    before = origin(first)
    assert changes(before, origin(more)) == []
    assert not is_mixed([before, origin(more)])
    made = sources._gaussian.__wrapped__
    monkeypatch.setattr(sources, "_gaussian", lambda *own: made(*own[:-1], own[-1] + 7 * (own[-1] == 1)))
    assert changes(before, origin(more)) == ["the data of seed 1 changed"]
    assert is_mixed([before, origin(more)])


def test_where_nothing_is_drawn_the_key_is_refused(compose_cell):
    (refusal,) = check(compose_cell("data.split_seed=replica", "data.val_split=test", *FIXED))
    assert str(refusal).startswith("data.split_seed=replica: draws nothing where data.val_split=test leaves")
    (refusal,) = check(compose_cell("data.split_seed=each"))
    assert "data.split_seed=each: wrong value; allowed: a whole number of at least 0 or replica" in str(refusal)
