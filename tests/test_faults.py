"""Faults as they come: full and read-only disks, dead workers, two sweeps at once. Each is provoked for real."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bn_experiments.config import build
from bn_experiments.records.lock import is_locked, locked
from bn_experiments.records.origin import is_mixed
from bn_experiments.records.results import done_below, read
from bn_experiments.records.table import collect
from bn_experiments.run import run as run_cell
from bn_experiments.sweeps.train_cell import is_done
from tests.command_line import ONE_AT_A_TIME, ROOT, command, run, start, train, until

TWO_AT_A_TIME = "hydra.launcher.n_jobs=2"


class Disk:
    """A disk of its own, which can be full or read-only."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=64m", "tmpfs")
        self.mounts = 1

    def _mount(self, *arguments: str) -> None:
        subprocess.run(["mount", *arguments, self.folder], check=True, capture_output=True)

    def resize(self, size: str) -> None:
        self._mount("-o", f"remount,size={size}")

    def turn_read_only(self) -> None:
        """Also while files are open, which a disk would not allow: through a second mount of it."""
        self._mount("--bind", str(self.folder))
        self._mount("-o", "remount,ro,bind")
        self.mounts += 1

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True)
        self.mounts -= 1


@pytest.fixture
def disk(tmp_path):
    try:
        made = Disk(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a disk of one's own needs the right to mount")
    yield made
    while made.mounts:
        made.unmount()


@pytest.mark.slow
@pytest.mark.parametrize("at_a_time", [ONE_AT_A_TIME, TWO_AT_A_TIME])
@pytest.mark.parametrize("kilobytes", [60, 300])  # not enough for Hydra's files; not enough for all cells
def test_a_disk_that_is_full_costs_the_cells_that_found_no_place(data_dir, disk, at_a_time, kilobytes):
    folder = disk.folder
    disk.resize(f"{kilobytes}k")
    grid = ["-m", "model=mlp,residual_mlp", "norm=bn,none", at_a_time]
    full = train(data_dir, folder, *grid)
    assert full.returncode == 1, full.stderr
    assert "Traceback" not in full.stderr
    assert "No space left on device" in full.stderr
    done = sum('"status": "done"' in path.read_text() for path in folder.rglob("result.json"))
    assert f"{done} of 4 cells done" in full.stdout
    disk.resize("64m")
    again = train(data_dir, folder, *grid)
    assert again.returncode == 0, again.stderr
    assert "4 of 4 cells done" in again.stdout
    assert not list(folder.rglob("*.partial"))


@pytest.mark.slow
def test_a_folder_that_turns_read_only_costs_what_was_not_written_yet(data_dir, disk):
    folder = disk.folder
    words = command(data_dir, folder, "-m", "norm=bn", "trainer.max_epochs=1,400", ONE_AT_A_TIME)
    words.remove("trainer.max_epochs=2")
    running = start(words, ROOT)
    until(lambda: len(list(folder.rglob("*.ckpt"))) == 2 and done_below(folder), running)
    disk.turn_read_only()
    stdout, stderr = running.communicate(timeout=100)
    assert running.returncode == 1, stderr
    assert "1 of 2 cells done" in stdout
    assert "Read-only file system" in stderr
    refused = run(words, ROOT)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"paths.output_dir={folder}: cannot be written (Read-only file system)")
    disk.unmount()
    again = run(words, ROOT)
    assert again.returncode == 0, again.stderr
    assert "2 of 2 cells done" in again.stdout


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        ("Failing", "ZeroDivisionError: on purpose"),
        pytest.param("Hungry", "can't allocate memory", marks=pytest.mark.slow),
        pytest.param("Killing", "its process was killed, for a lack of memory perhaps", marks=pytest.mark.slow),
    ],
)
def test_a_cell_that_fails_says_so_and_does_not_stop_the_others(data_dir, tmp_path, failing, reason):
    grid = [
        "-m",
        "norm=none",
        f"norm._target_=null,tests.failing.{failing}",
        "optimizer.lr=0.01,0.02",
        TWO_AT_A_TIME,
    ]
    done = train(data_dir, tmp_path, *grid)
    assert done.returncode == 1, done.stderr
    assert "2 of 4 cells done" in done.stdout
    records = [json.loads(path.read_text()) for path in tmp_path.rglob("result.json")]
    by_status = {status: [r for r in records if r["status"] == status] for status in ("done", "failed")}
    assert [len(found) for found in by_status.values()] == [2, 2]
    assert all(reason in record["error"] for record in by_status["failed"])
    assert all(record["config"]["norm"]["_target_"] is None for record in by_status["done"])
    told = [line for line in done.stderr.splitlines() if "the same command tries it again" in line]
    assert len(told) == 2
    assert all(reason in line for line in told)


@pytest.mark.slow
def test_a_probe_that_raises_costs_its_cell(data_dir, tmp_path):
    bad = "{_target_:tests.failing.BadProbe,at_start:true,every_n_epochs:1,at_end:true}"
    done = train(data_dir, tmp_path, f"+probes.bad={bad}", "norm=bn")
    assert done.returncode == 1
    assert "failed (ZeroDivisionError: on purpose)" in done.stderr.splitlines()[-1]
    (record,) = tmp_path.rglob("result.json")
    assert read(record.parent).status == "failed"
    mended = train(data_dir, tmp_path, "norm=bn")
    assert mended.returncode == 0, mended.stderr


@pytest.mark.parametrize("damage", ["", "{", '{"status": "done"}', "null", "\0" * 100])
def test_a_damaged_record_is_made_again_from_the_checkpoint(compose_cell, damage):
    cell = compose_cell("norm=bn")
    expected = run_cell(cell)
    (cell.folder / "result.json").write_text(damage)
    assert not is_done(cell)
    assert collect(cell.folder).empty
    result = run_cell(cell)
    assert result.metrics == expected.metrics
    assert result.timing["samples_per_s"] == 0, "nothing was trained again"
    assert is_done(cell)
    assert not is_mixed(result.origins), "the checkpoint says what made it"


@pytest.mark.slow
def test_two_sweeps_at_once_in_one_folder_share_the_work(data_dir, tmp_path):
    words = command(data_dir, tmp_path, "-m", "model=mlp,residual_mlp", "norm=bn,ln,none", TWO_AT_A_TIME)
    both = [start(words, tmp_path) for _ in range(2)]
    for sweep in both:
        _, stderr = sweep.communicate(timeout=150)
        assert "Traceback" not in stderr
        assert sweep.returncode == 0 or "another command trains it" in stderr
    logs = [path.read_text() for path in tmp_path.rglob("train.log")]
    assert len(logs) == 6
    assert all(log.count("`Trainer.fit` stopped") == 1 for log in logs), "each cell was trained once"
    again = run(words, tmp_path)
    assert again.returncode == 0, again.stderr
    assert "6 of 6 cells done" in again.stdout
    (tmp_path / "alone").mkdir()
    alone = train(data_dir, tmp_path / "alone", "-m", "model=mlp,residual_mlp", "norm=bn,ln,none", TWO_AT_A_TIME)
    assert alone.returncode == 0, alone.stderr
    for folder in (tmp_path / "alone").rglob("result.json"):
        assert read(folder.parent).metrics == read(tmp_path / folder.parent.relative_to(tmp_path / "alone")).metrics


def test_a_claim_holds_for_one_process_until_it_ends(tmp_path):
    code = f"""
import sys
from pathlib import Path
from bn_experiments.records.lock import is_locked, locked
with locked(Path({str(tmp_path)!r})) as ours:
    print(ours, flush=True)
    sys.stdin.read()
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    assert is_locked(tmp_path)
    with locked(tmp_path) as ours:
        assert not ours
    holder.kill()
    holder.communicate()
    assert not is_locked(tmp_path)
    with locked(tmp_path) as ours:
        assert ours


@pytest.mark.slow
def test_processes_that_make_the_data_at_once_make_them_whole(tmp_path):
    code = f"from bn_experiments.data.sources import mnist1d; print(mnist1d({str(tmp_path)!r}).train_x.sum().item())"
    makers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    sums = {maker.communicate(timeout=100)[0] for maker in makers}
    assert len(sums) == 1
    assert re.fullmatch(r"-?[\d.]+\n", sums.pop())
    assert [path.name for path in (tmp_path / "mnist1d").iterdir()] == ["mnist1d.npz"]


@pytest.mark.parametrize("stacked", [True, False])
def test_a_replica_whose_loss_turns_nan_is_scored_at_chance_and_the_others_go_on(compose_cell, monkeypatch, stacked):
    keys = ["norm=bn", "replicas=10", "trainer.max_epochs=2", f"trainer.stack_replicas={stacked}", "optimizer=adam"]
    expected = run_cell(compose_cell(*keys, "name=whole"))
    original = build.replicas

    def poisoned(*arguments):
        replicas = original(*arguments)
        with torch.no_grad():
            for part in replicas.parts():
                if part.replicas in (3, slice(None)):
                    weight = next(part.module.parameters())
                    weight[3 if stacked else ...].view(-1)[0] = torch.nan
        return replicas

    monkeypatch.setattr(build, "replicas", poisoned)
    result = run_cell(compose_cell(*keys, "name=poisoned"))
    assert result.diverged == [i == 3 for i in range(10)]
    assert result.metrics["test/acc"][3] == 0.1
    for name, values in result.metrics.items():
        others = [value for i, value in enumerate(values) if i != 3]
        assert others == [value for i, value in enumerate(expected.metrics[name]) if i != 3]


def test_on_a_disk_without_the_right_to_write_a_run_is_refused_before_it_begins(data_dir, disk):
    folder = disk.folder
    disk.turn_read_only()
    done = train(data_dir, folder, "norm=bn")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "cannot be written (Read-only file system)" in line
    assert not list(folder.iterdir())
