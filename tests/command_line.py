"""The command line as a user types it, with a small budget."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = ["trainer.max_epochs=2", "replicas=6", "data.train_examples=500", "trainer.accelerator=cpu"]
# two cells at a time, in processes that may use more threads than a cell should
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "LOKY_MAX_CPU_COUNT": "2", "OMP_NUM_THREADS": "2"}
ONE_AT_A_TIME = "hydra.launcher.n_jobs=1"  # quicker, where the subject is another


def command(data_dir: str, output: Path, *arguments: str) -> list[str]:
    where = [f"paths.data_dir={data_dir}", f"paths.output_dir={output}"]
    return [sys.executable, str(ROOT / "train.py"), *arguments, *where, *SMALL]


def train(data_dir: str, output: Path, *arguments: str) -> subprocess.CompletedProcess:
    return run(command(data_dir, output, *arguments), output)


def run(words: list[str], folder: Path, timeout: float = 120) -> subprocess.CompletedProcess:
    return subprocess.run(
        words, capture_output=True, text=True, env=ENVIRONMENT, timeout=timeout, cwd=folder, check=False
    )


def start(words: list[str], folder: Path) -> subprocess.Popen:
    """A process that leads a group of its own, as a terminal's commands do."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        words, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT, cwd=folder, start_new_session=True
    )


def until(holds: Callable[[], object], running: subprocess.Popen) -> None:
    """Waits for something that a process brings about."""
    deadline = time.monotonic() + 100
    while not holds():
        assert time.monotonic() < deadline
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)
