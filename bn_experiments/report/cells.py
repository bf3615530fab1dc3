"""Cells: the whole results in a sweep's folder, and why other cells are left out."""

import zipfile
from dataclasses import replace
from pathlib import Path

from bn_experiments.records import quantities, results
from bn_experiments.records.results import Result

DAMAGE = (AttributeError, EOFError, IndexError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile)


def whole_cells(folder: Path) -> tuple[dict[Path, Result], list[str]]:
    """The results of a sweep's finished cells by folder, and one line for each cell that is left out."""
    whole: dict[Path, Result] = {}
    left_out = []
    for cell in sorted(path for path in folder.iterdir() if path.is_dir()):
        if any((cell / name).exists() for name in (results.FILE, "train.log", ".hydra")):
            if reason := _why_left_out(cell):
                left_out.append(f"{cell.name}: {reason}")
            else:
                whole[cell] = _result(cell)
    return whole, left_out


def _why_left_out(cell: Path) -> str | None:
    """Why a cell is left out; None where it is whole."""
    result = results.read(cell)
    if result is None:
        return "damaged: its result.json cannot be read" if (cell / results.FILE).exists() else "not finished"
    if result.status != "done":
        return f"{result.status}: {result.error}" if result.error else str(result.status)
    try:
        assert {"data", "model", "norm", "optimizer", "overrides"} <= result.cell.keys()
        lengths = {len(result.seeds), len(result.diverged), *map(len, result.metrics.values())}
        assert len(lengths) == 1
        assert sum(result.timing.values()) >= 0
        assert isinstance(result.config["trainer"]["max_epochs"], int)
    except (*DAMAGE, AssertionError):
        return "damaged: its result.json is not as a run writes it"
    try:
        quantities.probes(cell)
        quantities.curves(cell)
    except quantities.Damaged as error:
        return f"damaged: its {error}"
    except quantities.NotMeasured:
        pass  # some cells have no curves, such as those that were not trained
    return None


def _result(cell: Path) -> Result:
    """The record without the probes' readings, which are drawn from a file of their own and would fill the memory."""
    result = results.read(cell)
    assert result is not None
    return replace(result, probes={})
