"""Probing: the callback that takes every probe's measurements when they are due."""

import copy
import io
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.utils.tensorboard import SummaryWriter

from bn_experiments.data.splits import Splits
from bn_experiments.probes.probe import Probe, Reading, Schedule
from bn_experiments.seeds import Stream
from bn_experiments.system import interruption
from bn_experiments.system.files import write_whole
from bn_experiments.training.replicas import Part, Replicas
from bn_experiments.training.snapshot import Snapshot

FILE = "probes.npz"


@dataclass
class Record:
    """A probe with its readings by epoch, in the order in which they were taken."""

    probe: Probe
    schedule: Schedule
    readings: dict[int, Reading] = field(default_factory=dict)


class Probing(Callback):
    """Takes the probes' readings, keeps them with the checkpoint, and shows them in TensorBoard.

    Measuring changes nothing of what is trained. A run that goes on from a checkpoint draws the readings that it
    brought along into its new event file, and takes none of them again, but those that a signal cut.

    Args:
        probes: The probes with their schedules, by name.
        writer: The writer of TensorBoard's event file.
    """

    def __init__(self, probes: Mapping[str, tuple[Probe, Schedule]], writer: SummaryWriter):
        self.records = {name: Record(probe, schedule) for name, (probe, schedule) in probes.items()}
        self.writer = writer
        self.epoch = 0  # the last one after which a reading could be due

    def state_dict(self) -> dict[str, Any]:
        """The readings, in the form that a checkpoint keeps."""
        return {
            name: {
                "epoch": self.epoch,
                "epochs": list(record.readings),
                "readings": [reading._asdict() for reading in record.readings.values()],
                "state": record.probe.state(),
            }
            for name, record in self.records.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over the readings of a checkpoint."""
        for name, record in self.records.items():
            self.epoch = state[name].get("epoch", 0)  # older versions saved none, and no checkpoint without a reading
            readings = [Reading(**reading) for reading in state[name]["readings"]]
            record.readings = dict(zip(state[name]["epochs"], readings, strict=True))
            if own := state[name].get("state"):
                record.probe.take_over(own)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws what a checkpoint brought along, and measures what it lacks, all of it where there is none."""
        splits = cast(Any, trainer).datamodule.splits
        for name, record in self.records.items():
            for epoch, reading in record.readings.items():
                record.probe.draw(self.writer, name, reading, splits, epoch)
        self._measure(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets the probes follow the steps."""
        parts: Sequence[Part] = cast(Any, pl_module).parts
        optimizers = iter(trainer.optimizers)
        of_parts = [list(islice(optimizers, len(part.networks))) for part in parts]
        for record in self.records.values():
            record.probe.follow(parts, of_parts)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tells the probes."""
        for record in self.records.values():
            record.probe.start_epoch(trainer.current_epoch + 1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the measurements that are due; those that a signal cuts are taken when the run goes on."""
        self.epoch = trainer.current_epoch + 1
        with suppress(interruption.Interrupted):  # `Checkpoints` comes after this one, saves, and ends the run
            self._measure(trainer, pl_module)

    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> None:
        splits: Splits = cast(Any, trainer).datamodule.splits
        epoch = self.epoch  # Lightning restores its own after on_fit_start
        for name, record in self.records.items():
            if epoch in record.readings or not record.schedule.is_due(epoch, cast(int, trainer.max_epochs)):
                continue
            trained = cast(Replicas, pl_module.replicas)
            replicas, before = copy.deepcopy(trained), Snapshot(trained)
            try:
                with Stream(record.probe.seeds[0], "probe", name, epoch).drawn():
                    reading = record.readings[epoch] = record.probe.measure(replicas, splits)
            finally:
                before.put_back()  # what a hook of the copy, which has the original in its closure, wrote there
            record.probe.draw(self.writer, name, reading, splits, epoch)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything measured, as `probes.npz` holds it.

        `<probe>/<quantity>` (T, R, ...) at the T epochs in `<probe>/epochs`; `<probe>/<axis>` labels the axis that
        follows the replicas'.
        """
        arrays: dict[str, np.ndarray] = {}
        for name, readings in self._measured().items():
            arrays[f"{name}/epochs"] = np.array(list(readings))
            axis, labels, quantities = next(iter(readings.values()))
            arrays[f"{name}/{axis}"] = np.array(labels)
            for quantity in quantities:
                values = torch.stack([reading.values[quantity] for reading in readings.values()])
                arrays[f"{name}/{quantity}"] = values.numpy()
        return arrays

    def numbers(self) -> dict[str, dict[str, dict[str, list[float | None]]]]:
        """The last reading of each probe: quantity, then label, then one number for each replica.

        A number that is not finite is None.
        """
        found: dict[str, dict[str, dict[str, list[float | None]]]] = {}
        for name, readings in self._measured().items():
            _, labels, quantities = list(readings.values())[-1]
            found[name] = {
                quantity: {
                    label: [number if math.isfinite(number) else None for number in numbers]
                    for label, numbers in zip(labels, values.T.tolist(), strict=True)
                }
                for quantity, values in quantities.items()
                if values.dim() == 2
            }
        return found

    def _measured(self) -> dict[str, dict[int, Reading]]:
        """The readings of the probes that measured anything; a probe may only draw."""
        found = {name: record.readings for name, record in self.records.items()}
        return {name: readings for name, readings in found.items() if any(each.values for each in readings.values())}

    def write(self, folder: Path) -> None:
        """Writes `probes.npz` (see `arrays`)."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **self.arrays())
        write_whole(folder / FILE, buffer.getvalue())
