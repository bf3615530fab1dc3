"""Progress: how far a run is, in a file beside its record while the run lasts, for whoever shows it."""

import json
import math
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from bn_experiments.system.files import write_whole

FILE = "progress.json"
STARTING, TRAINING, TESTING, TUNING = "starting", "training", "testing", "tuning"


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Args:
        stage: The stage of the run: starting, training, testing, or tuning with the numbers of the points.
        epoch: The number of the epoch that is trained, from 1; 0 before the first one.
        epochs: The number of epochs of the stage.
        step: The number of steps that were taken, those that a checkpoint brought included.
        steps: The number of steps of the stage.
        left_s: The seconds until the run ends, at the pace of this process; None where it has no pace yet.
        replicas: The number of replicas.
        diverged: The number of replicas whose loss is not finite; the three means leave them out.
        loss: The mean training loss of the last mini-batches.
        val_loss: The mean validation loss of the last epoch; None before the first one ends.
        val_acc: The mean validation accuracy of the last epoch, in [0, 1].
    """

    stage: str
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    left_s: float | None = None
    replicas: int = 0
    diverged: int = 0
    loss: float | None = None
    val_loss: float | None = None
    val_acc: float | None = None

    @property
    def is_tuning(self) -> bool:
        """Whether points are tried with seeds that are not judged."""
        return self.stage.startswith(TUNING)

    def write(self, folder: Path) -> None:
        """Writes `progress.json` into the folder of a run, whole or, where the folder takes no file, not at all."""
        lost = {key for key, value in asdict(self).items() if isinstance(value, float) and not math.isfinite(value)}
        numbers = asdict(self) | dict.fromkeys(lost)
        with suppress(OSError):
            write_whole(folder / FILE, json.dumps(numbers) + "\n", lasting=False)


def read(folder: Path) -> Progress | None:
    """How far the run in `folder` is; None if no file says so."""
    try:
        record = json.loads((folder / FILE).read_bytes())
        return Progress(**{field.name: record[field.name] for field in fields(Progress)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove(folder: Path) -> None:
    """Removes the file of a run that ended."""
    with suppress(OSError):
        (folder / FILE).unlink(missing_ok=True)
