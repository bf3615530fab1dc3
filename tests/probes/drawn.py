"""Drawings in the report of what a probe measured, from cells written by hand."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from bn_experiments.claims.protocol import Protocol
from bn_experiments.figures.drawing import Drawing
from bn_experiments.report.contents import collect
from bn_experiments.report.drawings import drawings
from tests.cells_by_hand import write_cell

REPLICAS, EPOCHS = 6, 3
HOSTILE = "<script>alert('x')</script> & \"quoted\" | $\\frac{a}{b}$ _name_"
CONF = Path(__file__).parents[2] / "conf" / "probes"


def numbers(norm: str, columns: int) -> np.ndarray:
    """Numbers (REPLICAS, columns) below 1 that differ from arm to arm, the same at every call."""
    spread = np.random.default_rng(len(norm)).uniform(0.0, 0.05, (REPLICAS, columns))
    return spread + (0.8 if norm == "bn" else 0.6)


def draw(
    folder: Path,
    probe: str,
    arrays: Callable[[str], dict[str, Any]],
    protocol: Protocol | None = None,
    norms: Sequence[str] = ("bn", "none"),
) -> dict[str, Drawing]:
    """What the report draws of a probe of conf/probes/, by name.

    Args:
        folder: An empty folder.
        probe: Its name.
        arrays: A norm to the probe's arrays, their keys without the probe's name.
        protocol: The experiment, if it is one.
        norms: The norms of the cells.
    """
    target = OmegaConf.load(CONF / f"{probe}.yaml")._target_
    config = {"trainer": {"max_epochs": EPOCHS}, "probes": {probe: {"_target_": target}}}
    for norm in norms:
        metrics = {"test/acc": [0.5] * REPLICAS, "test/loss": [1.0] * REPLICAS}
        read = {f"{probe}/{key}": np.asarray(array) for key, array in arrays(norm).items()}
        write_cell(folder / f"mnist1d-mlp-{norm}-sgd", norm, metrics, probes=read, config=config)
    if protocol is not None:
        protocol.write(folder)
    (sweep,) = collect(folder)
    assert not sweep.skipped
    return {drawing.name: drawing for drawing in drawings(sweep.sections[0])}
