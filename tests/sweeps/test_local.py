from types import SimpleNamespace

import joblib
import psutil
import pytest
import torch

from bn_experiments.config import objects
from bn_experiments.data.sources import Source
from bn_experiments.sweeps.display.live import Lines
from bn_experiments.sweeps.launchers import local
from bn_experiments.sweeps.launchers.local import MEMORY_BYTES, LocalLauncher, _gpu, at_a_time, data_bytes

GB = 10**9


@pytest.fixture
def machine(monkeypatch):
    """Makes this a machine of so many cores and so much free memory, on which a data set takes a GB an example."""

    def made(cores: int, memory_gb: float) -> None:
        monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=memory_gb * GB))
        monkeypatch.setattr(local, "data_bytes", lambda cell: GB * cell.config["data"]["train_examples"])

    return made


@pytest.fixture
def cells_of(compose_cell):
    def cells(count: int, *overrides: str) -> list:
        cell = compose_cell("data.train_examples=1", *overrides)
        return [cell.of_seeds([seed], cell.folder) for seed in range(count)]

    return cells


@pytest.mark.parametrize(
    ("cores", "cells", "memory_gb", "threads", "at_once"),
    [
        (1, 4, 100, 1, 1),
        (2, 4, 100, 1, 2),
        (8, 3, 100, 1, 3),  # no more than cells
        (8, 9, 100, 1, 8),  # no more than cores
        (8, 9, 100, 3, 2),  # a core a thread
        (8, 9, 11, 1, 4),  # no more than memory, at 2.5 GB each
        (8, 9, 2, 1, 1),  # never below one
        (2, 9, 100, 3, 1),
    ],
)
def test_as_many_cells_are_trained_at_a_time_as_there_are_cores_cells_and_memory_for(
    cells_of, machine, cores, cells, memory_gb, threads, at_once
):
    machine(cores, memory_gb)
    count, why = at_a_time(cells_of(cells, f"trainer.threads={threads}"))
    assert count == at_once
    numbers = [int(word) for word in why.replace(";", "").split() if word.isdigit()]
    assert numbers == [threads, cores, int(memory_gb * GB / (MEMORY_BYTES + GB))], why


def test_the_cell_that_needs_most_decides_how_many_are_trained_at_a_time(cells_of, compose_cell, machine):
    machine(8, 30)
    small = cells_of(8)
    assert at_a_time(small)[0] == 8
    assert at_a_time([*small, compose_cell("data.train_examples=6")])[0] == int(30 / 7.5)
    assert at_a_time([*small, compose_cell("data.train_examples=1", "trainer.threads=4")])[0] == 2


@pytest.mark.parametrize("accelerators", [["gpu"], ["gpu", "gpu"], ["cpu", "gpu"], ["cpu", "cpu", "mps"]], ids=str)
def test_a_cell_has_a_gpu_to_itself(cells_of, machine, accelerators, monkeypatch):
    machine(8, 100)
    cells = [cell for name in accelerators for cell in cells_of(1, f"trainer.accelerator={name}")]
    assert at_a_time(cells) == (1, "each has a device to itself")
    for devices, at_once in {2: min(2, len(cells)), 1: 1, 8: len(cells)}.items():
        monkeypatch.setattr(torch.cuda, "device_count", lambda devices=devices: devices)
        assert at_a_time(cells)[0] == at_once


def test_the_launcher_tells_how_many_cells_it_trains_at_a_time_and_counts_those_to_train(cells_of, machine, capsys):
    machine(4, 100)
    launcher = LocalLauncher(n_jobs=None)
    launcher.display = Lines(cells=6, to_train=6)
    cells = cells_of(6)
    for to_train, told in {
        6: "training 6 of 6 cells, 4 at a time (1 thread each, on 4 cores; memory for 40)\n",
        2: "training 2 of 6 cells, 2 at a time (1 thread each, on 4 cores; memory for 40)\n",
    }.items():
        assert launcher._at_a_time(dict(enumerate(cells[:to_train]))) == min(to_train, 4)
        assert capsys.readouterr().out == told


@pytest.mark.parametrize(
    ("visible", "count", "seen"),
    [(None, 2, ["0", "1", "0", "1"]), ("3,5,7", 3, ["3", "5", "7", "3"]), (None, 0, [None] * 4)],
)
def test_workers_take_turns_on_the_gpus_that_the_sweep_sees(monkeypatch, visible, count, seen):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [_gpu(place) for place in range(4)] == seen


def test_the_bytes_of_the_data_are_those_of_all_examples_as_they_are_stored(compose_cell, monkeypatch):
    y, classes = torch.zeros(7, dtype=torch.int64), ("a",)
    images, signals = torch.zeros(7, 3, 4, 4, dtype=torch.uint8), torch.zeros(7, 1, 40)
    for x, size in ((images, 48), (signals, 40 * 4)):
        source = Source(x, y, x[:2], y[:2], classes)
        monkeypatch.setattr(objects, "source", lambda config, source=source: source)
        assert data_bytes(compose_cell("data.train_examples=1")) == (7 + 2) * size
