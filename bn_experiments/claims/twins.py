"""Twins: cells that are the same and lie in two folders, of which one counts."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bn_experiments.claims.contexts import mark, shared
from bn_experiments.records import results
from bn_experiments.records.results import Result


class Twin(NamedTuple):
    """A cell that is left out, for another folder holds the same cell.

    Args:
        folder: The folder of the cell.
        kept: The folder of the same cell that counts.
        reason: The reason why this one does not count, as a clause.
    """

    folder: Path
    kept: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.folder.name}: the same cell as {self.kept.name}, {self.reason}; left out"


def distinct(cells: Mapping[Path, Result]) -> tuple[dict[Path, Result], list[Twin]]:
    """The cells, one of those that are the same, and the others of these.

    Two folders hold the same cell where a key was typed that has its default's value, or where a folder was copied.
    Those count first that were made by what made the newest record, then those with more seeds.

    Args:
        cells: The finished cells of a sweep, by folder.
    """
    alike: dict[str, list[Path]] = {}
    for folder, result in cells.items():
        alike.setdefault(mark(shared(folder, result, ())), []).append(folder)
    twins = []
    for folders in alike.values():
        newest = cells[max(folders, key=lambda folder: (results.written_ns(folder), folder.name))].origins
        others = {folder: cells[folder].origins != newest for folder in folders}
        kept = min(folders, key=lambda folder: (others[folder], -len(cells[folder].seeds), folder.name))
        for folder in sorted(set(folders) - {kept}):
            reason = "but made by other code, and older" if others[folder] else "which has as many seeds or more"
            twins.append(Twin(folder, kept, reason))
    left_out = {twin.folder for twin in twins}
    return {folder: result for folder, result in cells.items() if folder not in left_out}, twins
