"""Cells that were cut short: by a signal anywhere, by a crash, with their checkpoint damaged."""

import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from bn_experiments.data.batches import Blocks, EvaluationBatches
from bn_experiments.records.identity import config_hash
from bn_experiments.run import run
from bn_experiments.system import interruption
from bn_experiments.training.trainer import WholeFiles

EPOCHS, BLOCKS = 3, 5  # of nine mini-batches, two a block
KEYS = ["norm=bn", "model.dropout=0.2", "optimizer=adam", "scheduler=cosine", f"trainer.max_epochs={EPOCHS}"]
KEYS += ["data.batch_size=25", "trainer.steps_per_execution=2", "trainer.checkpoint_every_n_steps=1"]


@pytest.fixture
def cells(compose_cell, tmp_path):
    """Two cells that differ in their folder alone."""
    return [compose_cell(*KEYS, f"paths.output_dir={tmp_path / name}") for name in ("whole", "cut")]


@pytest.fixture
def at_block(monkeypatch):
    """Calls a function before the n-th block that is trained from now on; counts the blocks."""
    original, counts = Blocks._blocks, []

    def calling(n, function):
        def blocks(self):
            for i, block in enumerate(original(self)):
                if i >= self.taken:
                    counts[-1] += 1
                    if counts[-1] == n:
                        function()
                yield block

        counts.append(0)
        monkeypatch.setattr(Blocks, "_blocks", blocks)
        return counts

    return calling


def nothing():
    """Done before a block."""


def same_record(whole, cut, expected, result):
    assert result.metrics == expected.metrics
    assert result.probes == expected.probes
    pd.testing.assert_frame_equal(*(pd.read_csv(cell.folder / "metrics.csv") for cell in (whole, cut)))
    assert (whole.folder / "probes.npz").read_bytes() == (cut.folder / "probes.npz").read_bytes()
    points = [points_drawn(cell.folder) for cell in (whole, cut)]
    assert points[0] == points[1]
    assert len(set(points[1])) == len(points[1]), "a point is drawn once"


def points_drawn(folder: Path) -> list[tuple[str, int]]:
    files = list(folder.glob("events.out.tfevents.*"))
    events = [event for file in files for event in EventFileLoader(str(file)).Load()]
    points = [(value.tag, event.step) for event in events for value in event.summary.value]
    # the hyper-parameters are logged with unknown metrics first, with the real ones at the end
    return sorted(point for point in points if not point[0].startswith(("test/", "_hparams_/")))


@pytest.mark.parametrize("block", [1, 2, BLOCKS, BLOCKS + 1, 2 * BLOCKS + 3, EPOCHS * BLOCKS])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.few(4)
def test_a_signal_saves_after_the_block_and_the_cell_goes_on_from_there(cells, at_block, block, number):
    whole, cut = cells
    expected = run(whole)
    at_block(block, lambda: signal.raise_signal(number))
    with pytest.raises(interruption.Interrupted) as ended, interruption.listening(), interruption.deferred():
        run(cut)
    assert ended.value.status == 128 + number
    counts = at_block(-1, nothing)
    result = run(cut)
    assert counts == [block, EPOCHS * BLOCKS - block], "no block twice"
    same_record(whole, cut, expected, result)


def test_a_signal_ends_the_test_and_the_cell_is_tested_anew(cells, at_block, monkeypatch):
    whole, cut = cells
    expected = run(whole)
    batches, tested = EvaluationBatches.batches, []

    def interrupted(self):
        for i, batch in enumerate(batches(self)):
            if len(self.examples) == 1000:  # MNIST-1D's test set
                tested.append(i)
                signal.raise_signal(signal.SIGTERM)
            yield batch

    monkeypatch.setattr(EvaluationBatches, "batches", interrupted)
    with pytest.raises(interruption.Interrupted), interruption.listening(), interruption.deferred():
        run(cut)
    assert tested == [0], "no batch after the signal"
    monkeypatch.undo()
    counts = at_block(-1, nothing)
    result = run(cut)
    assert counts == [0], "nothing is trained"
    same_record(whole, cut, expected, result)


def test_interrupted_again_and_again_a_cell_ends_with_the_same_numbers(cells, at_block):
    whole, cut = cells
    expected = run(whole)
    for _ in range(EPOCHS * BLOCKS // 2):
        at_block(2, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(interruption.Interrupted), interruption.listening(), interruption.deferred():
            run(cut)
    same_record(whole, cut, expected, run(cut))


def truncate(file: Path, other: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path, other: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path, other: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)


def replace(file: Path, other: Path) -> None:
    shutil.copy(other, file)


def pickled(file: Path, other: Path) -> None:
    torch.save({"config_hash": file.stem, "state_dict": Path("a class that weights do not need")}, file)


@pytest.mark.parametrize("damage", [truncate, empty, flip, replace, pickled])
@pytest.mark.few(2)
def test_a_cell_whose_checkpoint_is_damaged_or_anothers_starts_anew(
    cells, compose_cell, tmp_path, at_block, capsys, damage
):
    whole, cut = cells
    expected = run(whole)
    other = compose_cell(*KEYS, f"paths.output_dir={tmp_path / 'other'}", "optimizer.lr=0.123")
    run(other)
    at_block(2 * BLOCKS + 2, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(interruption.Interrupted), interruption.listening(), interruption.deferred():
        run(cut)
    damage(*(cell.folder / "checkpoints" / f"{config_hash(cell.config)}.ckpt" for cell in (cut, other)))
    counts = at_block(-1, nothing)
    result = run(cut)
    assert counts[-1] == EPOCHS * BLOCKS
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(".ckpt: a damaged or foreign checkpoint; the cell starts anew")
    same_record(whole, cut, expected, result)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path):
    file = tmp_path / "a.ckpt"
    WholeFiles().save_checkpoint({"epoch": 1}, file)
    with pytest.raises(AttributeError, match="local"):
        WholeFiles().save_checkpoint({"epoch": 2, "state": lambda: 0}, file)
    assert torch.load(file, weights_only=True) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [file]
