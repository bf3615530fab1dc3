"""Finished cells written by hand, for tests of what reads results."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bn_experiments.records.results import Result


def write_cell(
    folder: Path,
    norm: str,
    metrics: dict[str, list[float]],
    curves: dict[str, list[list[float]]] | None = None,
    probes: dict[str, np.ndarray] | None = None,
    overrides: list[str] | None = None,
    seeds: list[int] | None = None,
    diverged: list[bool] | None = None,
    config: dict[str, Any] | None = None,
    data: str = "mnist1d",
) -> Path:
    """A cell's folder with its result, its curves by epoch or step (R, P), and its probes' arrays."""
    count = len(next(iter(metrics.values())))
    folder.mkdir(parents=True)
    cell = {"data": data, "model": "mlp", "norm": norm, "optimizer": "sgd", "scheduler": "constant"}
    Result(
        "done",
        {**cell, "trainer": "default", "overrides": overrides or []},
        config or {},
        folder.name,
        seeds or list(range(count)),
        metrics,
        diverged or [False] * count,
        timing={"setup_s": 1.0, "train_s": 59.0, "samples_per_s": 100.0},
        device="cpu: a processor, 1 threads",
        versions={"python": "3.11.7", "torch": "2.15.0"},
        git_commit="0123abc",
    ).write(folder)
    rows = [
        {"step": point + 1, "epoch": point + 1, "replica": replica, "name": name, "value": value}
        for name, values in (curves or {}).items()
        for replica, curve in enumerate(values)
        for point, value in enumerate(curve)
    ]
    pd.DataFrame(rows, columns=["step", "epoch", "replica", "name", "value"]).to_csv(
        folder / "metrics.csv", index=False
    )
    np.savez(folder / "probes.npz", **(probes or {}))
    return folder
