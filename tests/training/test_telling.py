"""How far a run is, as its file says while it lasts."""

import math
import signal
from itertools import pairwise
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from bn_experiments.data.batches import Blocks
from bn_experiments.records import progress
from bn_experiments.records.progress import TESTING, TRAINING, Progress
from bn_experiments.run import run
from bn_experiments.system import interruption
from bn_experiments.training import telling
from bn_experiments.training.curves import Curves
from bn_experiments.training.telling import Stage, Telling

EPOCHS, STEPS, IN_BLOCK = 3, 9, 3
KEYS = ["norm=bn", f"trainer.max_epochs={EPOCHS}", "data.batch_size=25", f"trainer.steps_per_execution={IN_BLOCK}"]
KEYS += ["trainer.checkpoint_every_n_steps=1", "probes=[]"]


@pytest.fixture
def cell(compose_cell):
    return compose_cell(*KEYS)


@pytest.fixture
def told(monkeypatch):
    """All that stands in the file of a run, each time that it is written."""
    original, found = Progress.write, []

    def write(self, folder):
        original(self, folder)
        found.append(progress.read(folder))

    monkeypatch.setattr(Progress, "write", write)
    return found


@pytest.fixture
def lasting(monkeypatch):
    """Makes each block last so many seconds, and the n-th one of all call a function."""
    original, now, blocks = Blocks._blocks, [0.0], [0]

    def made(seconds, n=0, function=None):
        def lasting_blocks(self):
            for i, block in enumerate(original(self)):
                if i >= self.taken:  # a run before this one has not taken it
                    now[0] += seconds
                    blocks[0] += 1
                    if blocks[0] == n:
                        function()
                yield block

        monkeypatch.setattr(Blocks, "_blocks", lasting_blocks)
        monkeypatch.setattr(telling, "time", SimpleNamespace(monotonic=lambda: now[0]))

    return made


def curve(cell, name):
    table = pd.read_csv(cell.folder / "metrics.csv")
    return table[table["name"] == name].groupby("step")["value"].mean().to_numpy()


def test_a_run_says_its_epoch_its_step_its_losses_and_the_time_left_and_leaves_no_file(cell, told, lasting):
    lasting(6)
    run(cell)
    steps = [*range(IN_BLOCK, EPOCHS * STEPS + 1, IN_BLOCK)]
    start, *blocks, end = told
    assert (start.stage, start.epoch, start.epochs, start.step, start.left_s) == (TRAINING, 1, EPOCHS, 0, None)
    assert [each.step for each in blocks] == steps
    assert {each.steps for each in blocks} == {EPOCHS * STEPS}
    assert [each.left_s for each in blocks] == [2 * (EPOCHS * STEPS - step) for step in steps]
    assert [each.epoch for each in blocks] == [min(1 + step // STEPS, EPOCHS) for step in steps]
    losses = curve(cell, "train/step_loss").reshape(-1, IN_BLOCK).mean(1)
    assert [each.loss for each in blocks] == pytest.approx(losses, rel=1e-5)
    for name in ("val_loss", "val_acc"):
        after = curve(cell, name.replace("_", "/"))
        known = [after[(step - 1) // STEPS - 1] for step in steps[IN_BLOCK:]]
        assert [getattr(each, name) for each in blocks[:IN_BLOCK]] == [None] * IN_BLOCK
        assert [getattr(each, name) for each in blocks[IN_BLOCK:]] == pytest.approx(known, rel=1e-5)
    assert (end.stage, end.step) == (TESTING, EPOCHS * STEPS)
    assert not list(cell.folder.rglob(progress.FILE))


def test_within_a_second_a_run_writes_once(cell, told, lasting):
    lasting(0.3)
    run(cell)
    gaps = [later.step - earlier.step for earlier, later in pairwise(told[:-1])]
    assert set(gaps) == {4 * IN_BLOCK}, "1.2 s"


def test_the_time_left_of_a_run_that_goes_on_is_at_the_pace_of_its_own_process(cell, told, lasting):
    lasting(600, 4, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(interruption.Interrupted), interruption.listening(), interruption.deferred():
        run(cell)
    told.clear()
    lasting(6)
    run(cell)
    start, *blocks, _ = told
    assert (start.step, start.epoch, start.left_s) == (4 * IN_BLOCK, 2, None)
    assert [(each.step, each.left_s) for each in blocks] == [(step, 2 * (27 - step)) for step in range(15, 28, 3)]


def test_a_run_whose_file_cannot_be_written_ends_with_the_same_numbers(cell, compose_cell, told, lasting, tmp_path):
    lasting(6)
    expected = run(cell)
    other = compose_cell(*KEYS, f"paths.output_dir={tmp_path}/other")
    (other.folder / progress.FILE).mkdir(parents=True)  # no file takes its place
    count = len(told)
    assert run(other).metrics == expected.metrics
    assert told[count:] == [None] * count
    Progress(TRAINING).write(tmp_path / "gone")


def test_a_replica_that_diverged_is_counted_and_left_out_of_the_means(tmp_path):
    curves = Curves([(None, range(3))], 10)
    curves.losses = [torch.tensor([[1.0, math.nan, 3.0], [2.0, math.nan, 4.0]])]
    curves.epochs["val/loss"] = [torch.tensor([0.5, 9.0, math.inf])]
    curves.epochs["val/acc"] = [torch.tensor([0.5, 0.1, 0.1])]
    means = Telling(Stage(tmp_path, TRAINING, then=0), curves)._means()
    assert means == {"diverged": 2, "loss": 1.5, "val_loss": 0.5, "val_acc": 0.5}
    Progress(TRAINING, loss=math.nan, left_s=math.inf).write(tmp_path)
    assert progress.read(tmp_path) == Progress(TRAINING)


@pytest.mark.parametrize("stacked", [True, False])
def test_a_tuned_run_says_which_points_it_tries_and_counts_what_comes_after_them(compose_cell, told, lasting, stacked):
    cell = compose_cell(
        *KEYS, "++tune.optimizer.lr=[0.01,0.1,0.5]", "++tune.replicas=4", f"trainer.stack_replicas={stacked}"
    )
    lasting(6)
    run(cell)
    stages = ["tuning 1-3 of 3"] if stacked else [f"tuning {i} of 3" for i in (1, 2, 3)]
    assert list(dict.fromkeys(each.stage for each in told)) == [*stages, TRAINING, TESTING]
    halves = {each.stage: each for each in told if each.step == 15}
    work = dict.fromkeys(stages, 12 if stacked else 4)  # networks
    to_come = [2] if stacked else [10, 6, 2]
    for stage, networks in zip(stages, to_come, strict=True):
        assert halves[stage].left_s == pytest.approx(2 * (12 + 27 * networks / work[stage]))
        assert halves[stage].replicas == work[stage]
    assert halves[TRAINING].left_s == 2 * 12
