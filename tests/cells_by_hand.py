"""Finished cells written by hand, for tests of what reads results."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from bn_experiments.records.results import Result

ORIGIN = {"code": {"norms.slot": "aaaa"}, "versions": {"torch": "2.15.0"}, "data": "dddd", "device": "cpu"}


def a_result(
    norm: str,
    metrics: dict[str, list[float | None]],
    *,
    overrides: list[str] | None = None,
    seeds: list[int] | None = None,
    diverged: list[bool] | None = None,
    config: dict[str, Any] | None = None,
    data: str = "mnist1d",
    model: str = "mlp",
    optimizer: str = "sgd",
    **more: Any,
) -> Result:
    """A finished result; its configuration has the options, what the overrides set, and then `config`."""
    count = len(next(iter(metrics.values())))
    options = {"data": data, "model": model, "norm": norm, "optimizer": optimizer}
    resolved: dict[str, Any] = {
        group: {"_target_": None if name == "none" else name} for group, name in options.items()
    }
    resolved |= {"trainer": {"max_epochs": 1}, "seed": 0, "replicas": count, "paths": {}}
    settings = {**dict(text.split("=", 1) for text in overrides or []), **(config or {})}
    for key, value in settings.items():
        *parents, leaf = key.split(".")
        node = resolved
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = yaml.safe_load(value) if isinstance(value, str) else value
    return Result(
        "done",
        {**options, "scheduler": "constant", "trainer": "default", "overrides": overrides or []},
        resolved,
        "0123",
        seeds or list(range(count)),
        metrics,
        diverged or [False] * count,
        timing={"setup_s": 1.0, "train_s": 59.0, "samples_per_s": 100.0},
        device="cpu: a processor, 1 threads",
        versions={"python": "3.11.7", "torch": "2.15.0"},
        git_commit="0123abc",
        made_by=more.pop("made_by", [ORIGIN]),
        **more,
    )


def write_cell(
    folder: Path,
    norm: str,
    metrics: dict[str, list[float | None]],
    curves: dict[str, list[list[float]]] | None = None,
    probes: dict[str, np.ndarray] | None = None,
    **of_the_result: Any,
) -> Path:
    """A cell's folder with its result, its curves by epoch or step (R, P), and its probes' arrays."""
    folder.mkdir(parents=True)
    a_result(norm, metrics, **of_the_result).write(folder)
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
