"""Commands: whole processes, timed from outside."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib

ROOT = Path(__file__).resolve().parents[1]
MAIN_JOB = ["-m", "model=mlp,lenet", "norm=bn,none"]
# tells when a result is written and when a training step begins, then does what train.py does
BETWEEN = """
import runpy, sys, time
from bn_experiments.training import module
from bn_experiments.records import results
write, step = results.Result.write, module.Classification.training_step
def writing(self, folder):
    write(self, folder)
    print("written", time.monotonic(), file=sys.stderr)
def stepping(self, block, index):
    print("step", time.monotonic(), file=sys.stderr)
    return step(self, block, index)
results.Result.write, module.Classification.training_step = writing, stepping
runpy.run_path("train.py", run_name="__main__")
"""


def measured(rounds: int) -> dict[str, Any]:
    """Seconds of each command, in turn."""
    cores = joblib.cpu_count()
    found: dict[str, Any] = {}
    for _ in range(rounds):
        for name, seconds in {
            "--help": timed(["--help"]),
            "--cfg job": timed(["--cfg", "job"]),
            "main job": main_job([]),
            f"main job, one process of {cores} threads": main_job(
                ["hydra.launcher.n_jobs=1", f"trainer.threads={cores}"]
            ),
            "main job, one process of one thread": main_job(["hydra.launcher.n_jobs=1"]),
            "between two jobs": between_two_jobs(),
        }.items():
            found.setdefault(name, []).append(seconds)
    return found


def timed(arguments: Sequence[str]) -> float:
    """Seconds of train.py with these arguments."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "train.py", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main_job(overrides: Sequence[str]) -> dict[str, float]:
    """Seconds of the whole main job, and of its training: from the first cell's start to the last one's end."""
    with TemporaryDirectory() as folder:
        whole = timed([*MAIN_JOB, f"paths.output_dir={folder}", *overrides])
        starts = [file.stat().st_mtime for file in Path(folder).rglob("hparams.yaml")]
        ends = [file.stat().st_mtime for file in Path(folder).rglob("result.json")]
    return {"whole": whole, "training": max(ends) - min(starts)}


def between_two_jobs() -> float:
    """Seconds from a cell's result to the first step of the next, in one process."""
    with TemporaryDirectory() as folder:
        arguments = [
            "-m",
            "norm=bn,none",
            "trainer.max_epochs=1",
            "hydra.launcher.n_jobs=1",
            f"paths.output_dir={folder}",
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        told = subprocess.run(
            [sys.executable, "-c", BETWEEN, *arguments],
            cwd=ROOT,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
    moments = [line.split() for line in told.stderr.splitlines() if line.startswith(("written", "step"))]
    first = next(i for i, (what, _) in enumerate(moments) if what == "written")
    return float(moments[first + 1][1]) - float(moments[first][1])
