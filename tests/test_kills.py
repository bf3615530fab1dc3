"""Sweeps that are killed again and again, at random, and started again until they are done."""

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from bn_experiments.records.results import read
from tests.command_line import command, run, start
from tests.training.test_trainer import points_drawn

SIGNALS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
GRID = ["-m", "model=mlp,lenet", "norm=bn,ln,none", "scheduler=cosine", "optimizer=adam", "trainer.max_epochs=400"]
GRID += ["trainer.checkpoint_every_n_steps=1", "trainer.steps_per_execution=3", "hydra.launcher.n_jobs=2"]


def sweep_command(data_dir: str, output: Path, *more: str) -> list[str]:
    words = command(data_dir, output, *GRID, *more)
    words.remove("trainer.max_epochs=2")
    return words


def steps_saved(output: Path) -> dict[str, int]:
    """How many steps each cell's checkpoint holds."""
    saved = {}
    for file in output.rglob("*.ckpt"):
        callbacks = torch.load(file, weights_only=True)["callbacks"]
        (curves,) = [state for name, state in callbacks.items() if "Curves" in name]
        saved[file.parents[1].name] = len(curves["sizes"])
    return saved


def done(output: Path) -> dict[Path, int]:
    """When each cell's finished result was written."""
    found = {path: read(path.parent) for path in output.rglob("result.json")}
    return {path: path.stat().st_mtime_ns for path, result in found.items() if result and result.status == "done"}


def until_gone(session: int) -> None:
    """Waits until no process of the session is left: workers see that the sweep's process is gone."""
    deadline = time.monotonic() + 10
    while left := [pid for pid in psutil.pids() if _session(pid) == session]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid) if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else None
    except (ProcessLookupError, psutil.NoSuchProcess):
        return None


def kill_until_done(words: list[str], output: Path, draw: random.Random, kills: int) -> list[str]:
    """Starts the command, kills it at a random moment, and checks that nothing was lost, so many times."""
    seen = []
    while True:
        saved, finished = steps_saved(output), done(output)
        running = start(words, output)
        number = draw.choice(list(SIGNALS)) if len(seen) < kills else None
        try:
            stdout, stderr = running.communicate(timeout=draw.uniform(1, 14) if number else 300)
        except subprocess.TimeoutExpired:
            assert number, "without a kill it comes to its end"
            kill = draw.choice([os.kill, os.killpg])  # the group: the workers too, as from a terminal
            kill(running.pid, number)
            stdout, stderr = running.communicate(timeout=60)
            seen.append(number.name)
            ended = "cells done" in stdout  # what comes then is the interpreter's own end
            assert running.returncode in ((0, SIGNALS[number], -number) if ended else (SIGNALS[number],)), stderr
        else:
            assert running.returncode == 0, stderr
        assert "Traceback" not in stderr
        until_gone(running.pid)
        assert all(steps >= saved.get(cell, 0) for cell, steps in steps_saved(output).items())
        assert finished.items() <= done(output).items(), "what is done is not done again"
        if number is None:
            assert "6 of 6 cells done" in stdout
            return seen


def files(folder: Path) -> list[str]:
    """What a finished cell consists of, each file read to its end; of TensorBoard's names that of the kind."""
    pd.read_csv(folder / "metrics.csv")
    np.load(folder / "probes.npz").close()
    names = [path.name for path in folder.rglob("*") if path.is_file()]
    return sorted("events" if name.startswith("events.out.tfevents.") else name for name in names)


@pytest.mark.slow
def test_a_sweep_killed_twenty_times_ends_as_one_that_was_not(data_dir, tmp_path):
    output, expected = tmp_path / "killed", tmp_path / "expected"
    output.mkdir(), expected.mkdir()
    assert run(sweep_command(data_dir, expected), expected, timeout=400).returncode == 0
    seen = kill_until_done(sweep_command(data_dir, output), output, random.Random(0), kills=20)
    print(f"killed {len(seen)} times: {', '.join(seen)}")
    cells = sorted(path.parent.relative_to(expected) for path in expected.rglob("result.json"))
    assert len(cells) == 6
    for cell in cells:
        assert files(output / cell) == files(expected / cell)
        one, other = read(expected / cell), read(output / cell)
        assert (one.metrics, one.probes, one.diverged) == (other.metrics, other.probes, other.diverged)
        for file in ("metrics.csv", "probes.npz"):
            assert (expected / cell / file).read_bytes() == (output / cell / file).read_bytes()
        points = points_drawn(output / cell)
        assert len(set(points)) == len(points)
        assert points == points_drawn(expected / cell)
    log = "".join((output / cell / "train.log").read_text() for cell in cells)
    assert re.search("Restored all states from the checkpoint", log)
