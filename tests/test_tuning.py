"""Tuned arms: what is tried at once equals what is tried alone, and what is judged had no part in the choice."""

import json
import re
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from torch import nn

from bn_experiments.claims.contexts import of_grid
from bn_experiments.config import objects, space, stacking
from bn_experiments.config.build import build_trials
from bn_experiments.config.check import check_cells
from bn_experiments.fitting import fit
from bn_experiments.records import results, tuning
from bn_experiments.records.identity import identity
from bn_experiments.refusal import Refusal
from bn_experiments.run import run
from bn_experiments.system import interruption
from bn_experiments.training.replicas import StackedReplicas
from bn_experiments.training.telling import Stage
from bn_experiments.tuning import at_once, best

ENOUGH = ["trainer.max_epochs=3", "data.train_examples=1000", "probes=[]"]  # to tell a rate that learns
EXACT = ["trainer.precision=64-true", "trainer.max_epochs=3", "probes=[]", "seed=1000"]
SCHEDULES = {
    "sgd": ["optimizer=sgd", "optimizer.nesterov=true", "scheduler=cosine"],
    "adamw": ["optimizer=adamw", "scheduler=warmup_cosine", "optimizer.weight_decay=0.1"],
    "by step": ["optimizer=rmsprop", "scheduler=one_cycle"],
    "clipped": ["optimizer=sgd", "optimizer.weight_decay=0.01", "trainer.gradient_clip_norm=0.5"],
    "not by element": ["optimizer=sgd", "~optimizer.momentum", "~optimizer.dampening", "~optimizer.nesterov",
                       "~optimizer.fused", "optimizer._target_=torch.optim.Adafactor"],
    "one by one": ["optimizer=sgd", "trainer.stack_replicas=false"],
    "model": ["model=lenet", "optimizer=adam"],
}  # fmt: skip
SPACES = {
    "sgd": {"optimizer.lr": [0.01, 0.5], "optimizer.momentum": [0.5, 0.9]},
    "adamw": {"optimizer.lr": [1e-3, 0.1], "scheduler.warmup_epochs": [0.0, 2.0]},
    "by step": {"optimizer.lr": [1e-4, 1e-2]},
    "clipped": {"optimizer.lr": [0.01, 0.1, 1.0], "optimizer.weight_decay": [0.0, 0.1]},
    "not by element": {"optimizer.lr": [1e-3, 1e-1]},
    "one by one": {"optimizer.lr": [0.01, 0.1], "norm.scale_init": ["ones", 0.1]},
    "model": {"optimizer.lr": [1e-3, 1e-2], "norm.scale_init": [0.5, 1.0]},
}


def losses(folder) -> np.ndarray:
    """The losses of all steps (K, R), as `metrics.csv` has them."""
    table = pd.read_csv(folder / "metrics.csv")
    return table[table["name"] == "train/step_loss"].pivot(index="step", columns="replica", values="value").to_numpy()


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.few(2)
def test_what_is_tried_at_once_equals_each_point_alone(compose_cell, name):
    tuned = [f"++tune.{key}={values}".replace("'", "") for key, values in SPACES[name].items()]
    cell = compose_cell(*EXACT, *SCHEDULES[name], *tuned)
    (pack,) = space.packs(cell.config, space.points(cell.config), 100)
    assert len(pack) == np.prod([len(values) for values in SPACES[name].values()])
    built = build_trials(cell, pack, Stage(cell.folder, "tuning", then=1))
    fitted = fit(built, None)
    assert isinstance(built.module.replicas, StackedReplicas) == (name != "one by one")
    built.curves.write(cell.folder)
    together = losses(cell.folder)
    for i, point in enumerate(pack):
        alone = compose_cell(*EXACT, *SCHEDULES[name], *(f"{key}={value}" for key, value in point.items()))
        result, own = run(alone), slice(2 * i, 2 * i + 2)
        np.testing.assert_allclose(together[:, own], losses(alone.folder), rtol=1e-6)  # the digits of the file
        for metric, values in result.metrics.items():
            np.testing.assert_allclose(fitted.metrics[metric][own], values, rtol=1e-9)


def test_keys_that_change_the_program_are_tried_one_after_another(compose_cell):
    cell = compose_cell("norm=gn", "++tune.optimizer.lr=[0.1,1,10]", "++tune.norm.num_groups=[1,2]")
    packs = space.packs(cell.config, space.points(cell.config), at_once=20)
    assert [[point["norm.num_groups"] for point in pack] for pack in packs] == [[1, 1], [1], [2, 2], [2]]
    assert [point for pack in packs for point in pack] == [
        {"optimizer.lr": rate, "norm.num_groups": groups} for groups in (1, 2) for rate in (0.1, 1, 10)
    ]


def test_a_norm_that_is_none_is_not_tried_several_times(compose_cell):
    spaces = ["++tune.optimizer.lr=[0.1,1]", "++tune.norm.scale_init=[ones,0.1]"]
    assert len(space.points(compose_cell("norm=bn", *spaces).config)) == 4
    assert len(space.points(compose_cell("norm=none", *spaces).config)) == 2


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1e-3..10:9", np.geomspace(1e-3, 10, 9)),
        ("0.5..8:5", [0.5, 1, 2, 4, 8]),
        ("0.1 .. 0.2 : 2", [0.1, 0.2]),
        ([3, 1, 2, 1], [1, 2, 3]),
    ],
)
def test_a_range_is_geometric_and_a_list_is_sorted(text, values):
    np.testing.assert_allclose(space.values_of("optimizer.lr", text), values, rtol=5e-4)


@pytest.mark.parametrize(
    "text",
    [
        "1e-3...10:9",
        "1_0..2_0:3",
        "0..1:3",
        "1..0.1:3",
        "1e-3..10:1",
        "a..b:3",
        0.1,
        [0.1],
        [1, 1],
        "0.1",
        "1..inf:2",
        "1..1.00001:3",
        {},
    ],
)
def test_what_stands_for_no_values_is_refused(text):
    with pytest.raises(Refusal, match=r"tune\.optimizer\.lr"):
        space.values_of("optimizer.lr", text)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["++tune.optimizer.lr=[-1,1]"], "tune.optimizer.lr=-1"),
        (["++tune.optimizer.rate=[0.1,1]"], "tune.optimizer.rate"),
        (["++tune.optimzer.lr=[0.1,1]"], "tune.optimzer.lr"),
        (["++tune.replicas=3", "++tune.seed=[1,2]"], "tune.seed"),
        (["++tune.optimizer.lr=[0.1,1]", "++tune.replicas=0"], "tune.replicas=0"),
        (["++tune.optimizer.lr=[0.1,1]", "trainer.max_epochs=0"], "trainer.max_epochs=0"),
        (["++tune.optimizer.lr=[0.1,1]", "seed=995", "replicas=10"], "seed=1000"),
        (["++tune.norm.scale_init=[ones,twos]"], "tune.norm.scale_init=twos"),
        (["++tune.optimizer.momentum=[0,0.9]", "optimizer.nesterov=true"], "optimizer.momentum=0"),
        (["norm=gn", "++tune.norm.num_groups=[1,3]"], "norm.num_groups=3"),
        (["++tune.data.split_seed=[1,2]"], "tune.data.split_seed"),
        (["++tune.optimizer.lr=[0.1,1]", "data.val_split=test"], "data.val_split=test"),
    ],
)
def test_what_cannot_be_tuned_is_refused_with_its_key(compose_cell, overrides, key):
    refusals = check_cells([compose_cell(*overrides)])
    assert re.match(rf"{re.escape(key)}[:,]", str(refusals[0]))


def test_the_best_point_has_the_highest_mean_accuracy_then_the_lowest_loss():
    accuracies = [[0.5, 0.7], [0.6, 0.6], [0.9, 0.1], [0.7, 0.4]]
    assert best({"val/acc": accuracies, "val/loss": [[1.0, 1.0], [1.0, 0.8], [0.1, 0.1], [0.1, 0.1]]}) == 1
    assert best({"val/acc": accuracies, "val/loss": [[1.0, 1.0], [None, 0.8], [0.1, 0.1], [0.1, 0.1]]}) == 0


@pytest.fixture
def tuned_arms(compose_cell):
    """The arms bn and none, tuned over rates of which one is far too small, and one lets a network diverge."""
    keys = ["++tune.optimizer.lr=[1e-6,0.1,1e20]", "++tune.replicas=2", *ENOUGH]
    return [compose_cell(f"norm={norm}", *keys) for norm in ("bn", "none")]


def test_each_arm_is_judged_at_its_best_with_seeds_that_chose_nothing(compose_cell, tuned_arms):
    for cell, norm in zip(tuned_arms, ("bn", "none"), strict=True):
        result, record = run(cell), tuning.read(cell.folder)
        plain = compose_cell(f"norm={norm}", "optimizer.lr=0.1", *ENOUGH)
        assert result.metrics == run(plain).metrics, "what is judged is a plain run at the chosen rate"
        assert result.tuned == {"optimizer.lr": {"value": 0.1, "edge": None, "of": 3}}
        assert (result.seeds, record.seeds) == ([0, 1], [1000, 1001])
        assert record.diverged[2] == [True, True] or norm == "bn"  # whose scale-free layers may survive
    cells = {cell.folder: results.read(cell.folder) for cell in tuned_arms}
    (context,) = of_grid(cells)
    assert context.arms.keys() == {"bn", "none"}


def test_arms_of_other_spaces_are_not_compared_and_the_typed_rate_says_nothing(compose_cell):
    one, same, other, plain = (
        compose_cell(*keys).config
        for keys in (
            ["++tune.optimizer.lr=[0.1,1]"],
            ["++tune.optimizer.lr=[0.1,1]", "optimizer.lr=0.3"],
            ["++tune.optimizer.lr=[0.1,1,10]"],
            [],
        )
    )
    assert identity(one) == identity(same)
    assert len({identity(each) for each in (one, other, plain)}) == 3


def test_tuning_that_is_cut_goes_on_and_what_is_done_is_not_tried_again(compose_cell, monkeypatch):
    keys = ["++tune.optimizer.lr=[0.01,0.1]", "++tune.norm.num_groups=[1,2]", "++tune.replicas=2", "probes=[]"]
    keys += ["norm=gn", "trainer.max_epochs=2", "data.batch_size=25", "trainer.steps_per_execution=2"]
    whole, cut = (compose_cell(*keys, f"name={name}") for name in ("whole", "cut"))
    expected = run(whole)
    from bn_experiments.training.module import Classification

    step, blocks = Classification.training_step, []

    def counted(self, block, index):
        blocks.append(self.replicas.size)
        if len(blocks) == 13:  # in the second of two packs; each has 2 epochs of 5 blocks
            signal.raise_signal(signal.SIGTERM)
        return step(self, block, index)

    monkeypatch.setattr(Classification, "training_step", counted)
    with pytest.raises(interruption.Interrupted), interruption.listening(), interruption.deferred():
        run(cut)
    assert blocks == [4] * 13
    result = run(cut)
    assert blocks == [4] * 20 + [2] * 10, "no block twice"
    assert result.metrics == expected.metrics
    ours, theirs = (json.loads((cell.folder / "tuning.json").read_text()) for cell in (cut, whole))
    assert ours | {"train_s": 0} == theirs | {"train_s": 0}
    more = cut.of_seeds([2, 3], cut.folder / "seeds=2-3")
    assert run(more).tuned == result.tuned
    assert blocks[30:] == [2] * 10, "nothing is tried again for further seeds"


def test_what_the_command_gives_a_key_says_nothing_of_what_is_tried_of_it(compose_cell):
    range_of_rates = "++tune.optimizer.lr=1..10:4"
    for typed in ("optimizer.lr=1", "optimizer.lr=0.05"):
        assert space.space_of(compose_cell(range_of_rates, typed).config)["optimizer.lr"] == [1.0, 2.154, 4.642, 10.0]
    for keys, key, expected in (
        (["norm=gn"], "norm.num_groups", [1, 3, 10]),
        (["scheduler=step", "scheduler.step_size=2"], "scheduler.step_size", [1, 3, 10]),
        (["scheduler=warmup_cosine"], "scheduler.warmup_epochs", [1.0, 3.162, 10.0]),
        (["trainer.gradient_clip_norm=1"], "trainer.gradient_clip_norm", [1.0, 3.162, 10.0]),
        (["model=resnet"], "model.depth", [1, 3, 10]),
    ):
        assert space.space_of(compose_cell(*keys, f"++tune.{key}=1..10:3").config)[key] == expected


def test_the_initialization_is_tuned_as_any_key_is(compose_cell):
    assert check_cells([compose_cell("++tune.init=[torch,he_uniform]")]) == []
    (refusal,) = check_cells([compose_cell("++tune.init=[torch,he]")])
    assert str(refusal).startswith("tune.init=he: ")


def test_a_mistyped_group_is_told_from_its_key(compose_cell):
    (refusal,) = check_cells([compose_cell("++tune.optimzer.lr=[0.1,1]")])
    assert str(refusal).endswith("did you mean tune.optimizer.lr?")
    (refusal,) = check_cells([compose_cell("++tune.optimizer.lr=[0.1,1]", "++tune.trails=8")])
    assert str(refusal).startswith(
        "tune.trails: no such key; allowed: tune.init, tune.replicas, tune.sampler, tune.trials"
    )
    assert str(refusal).endswith("did you mean tune.trials?")
    (refusal,) = check_cells([compose_cell("++tune.paths.output_dir=[a,b]")])
    assert str(refusal).startswith("tune.paths.output_dir: cannot be tuned; allowed: keys of tune.data.batch_size")


def test_a_stack_has_as_many_replicas_as_the_memory_holds(compose_cell):
    keys = ["model=mlp", "model.hidden=[64]", "norm=none", "++tune.optimizer.lr=[0.1,1]"]
    config = compose_cell(*keys, "data.batch_size=100").config
    splits = objects.splits(config)
    assert stacking.most_at_once(config, splits, "cpu") == stacking.MOST_AT_ONCE
    large = compose_cell(*keys, "data.batch_size=100", "model.hidden=[4000,4000]").config
    weights = 40 * 4000 + 4000 + 4000 * 4000 + 4000 + 4000 * 10 + 10
    outputs = 100 * (4 * 4000 + 10)  # of two layers and their activations, and of the last layer
    found = stacking.most_at_once(large, splits, "cpu")
    assert found == pytest.approx(stacking.MEMORY_BYTES / 4 / (16 * weights + 8 * outputs), abs=2)
    assert at_once(compose_cell(*keys, "trainer.stack_replicas=false").config) == 0


class Alpha(nn.Module):
    """A norm of one's own, whose alpha is a plain number."""

    def __init__(self, num_features, alpha=1.0):
        super().__init__()
        self.alpha = alpha

    def forward(self, x):
        return self.alpha * x


def test_a_number_of_ones_own_norm_is_tried_one_value_after_another(compose_cell):
    keys = ["norm._target_=tests.test_tuning.Alpha", "++norm.alpha=1", "++tune.norm.alpha=[0.1,1]"]
    own = compose_cell(*keys).config
    assert [len(pack) for pack in space.packs(own, space.points(own), 100)] == [1, 1]
    ours = compose_cell("norm=dyt", "++tune.norm.alpha=[0.1,1]").config
    assert [len(pack) for pack in space.packs(ours, space.points(ours), 100)] == [2]


def test_whole_numbers_stay_whole_and_booleans_have_no_edge(compose_cell):
    spaces = ["++tune.data.batch_size=16..256:5", "++tune.optimizer.nesterov=[true,false]"]
    config = compose_cell("data.batch_size=32", *spaces).config
    assert space.space_of(config)["data.batch_size"] == [16, 32, 64, 128, 256]
    points = space.points(config)
    assert space.edges(points, points[0]) == {"data.batch_size": "low"}


@pytest.mark.parametrize(
    "change", [{"chosen": 9}, {"points": "none"}, {"metrics": {}}, {"seeds": [1, 2]}, {"diverged": 3}]
)
def test_a_damaged_record_counts_as_none(tmp_path, change):
    metrics = {"val/acc": [[0.1], [0.2]], "val/loss": [[1.0], [None]]}
    points = [{"optimizer.lr": 0.1}, {"optimizer.lr": 1.0}]
    record = tuning.Tuning("0", points, [1000], metrics, [[False], [True]], 1, {"optimizer.lr": "high"}, [], 1.0)
    record.write(tmp_path)
    assert tuning.read(tmp_path) == record
    replace(record, **change).write(tmp_path)
    assert tuning.read(tmp_path) is None
