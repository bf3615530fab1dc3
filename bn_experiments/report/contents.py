"""Contents: what a report shows, gathered from the results of one sweep or of several."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bn_experiments.claims import verdicts
from bn_experiments.claims.protocol import FILE, Claim, Protocol, parse
from bn_experiments.claims.published import Comparison, compare
from bn_experiments.claims.summary import BASELINE, CONTEXT, summarise
from bn_experiments.claims.verdicts import Verdict
from bn_experiments.figures.arms import Arm, looks
from bn_experiments.records import results, table
from bn_experiments.records.results import Result
from bn_experiments.refusal import Refusal
from bn_experiments.report.cells import DAMAGE, whole_cells
from bn_experiments.system.files import write_whole


@dataclass(frozen=True)
class Section:
    """Arms that are compared with each other.

    Args:
        context: What the arms have in common: options and settings, as text.
        arms: The arms of an experiment, or the norms of a grid, by name.
        claims: The claims of the experiment; a grid has none.
        verdicts: The verdicts on the experiment's claims; a grid has none.
        comparisons: The published numbers beside the measured ones.
        summary: One dict for each arm: arm, diverged, and for each metric the row of `summary.summarise`.
    """

    context: str
    arms: dict[str, Arm]
    claims: list[Claim]
    verdicts: list[Verdict]
    comparisons: list[Comparison]
    summary: list[dict[str, Any]]

    @property
    def is_trained(self) -> bool:
        """Whether any network took a step; else all is measured at initialization."""
        return any(arm.result.config["trainer"]["max_epochs"] != 0 for arm in self.arms.values())

    @property
    def is_of_images(self) -> bool:
        """Whether the data came from a folder of images."""
        return any(arm.result.cell["data"] == "image_folder" for arm in self.arms.values())


@dataclass(frozen=True)
class SweepContents:
    """What the report shows of a sweep, which is one folder of cells.

    Args:
        name: The name of the folder, relative to the report's.
        protocol: The protocol of its experiment; a grid has none.
        sections: The sections, one for each context.
        cells: The finished results.
        skipped: One line for each cell or protocol that is left out, with the reason.
        newest: When the last result was written, in seconds since 1970.
    """

    name: str
    protocol: Protocol | None
    sections: list[Section]
    cells: list[Result]
    skipped: list[str]
    newest: float

    @property
    def title(self) -> str:
        """The title of the experiment, or the name of a grid's folder."""
        return self.protocol.title if self.protocol else self.name

    @property
    def minutes(self) -> float:
        """The minutes that the cells took, one after another."""
        return sum(cell.timing.get("setup_s", 0) + cell.timing.get("train_s", 0) for cell in self.cells) / 60


def collect(folder: Path) -> list[SweepContents]:
    """Every sweep at or below a folder, by name; the claims are judged anew, and `verdicts.json` written.

    Raises:
        Refusal: There is no finished cell.
    """
    found = sorted({path.parents[1] for path in folder.rglob(f"*/{results.FILE}")})
    sweeps = [_sweep(each, folder) for each in found]
    sweeps = [sweep for sweep in sweeps if sweep.cells or sweep.skipped]
    if not any(sweep.cells for sweep in sweeps):
        raise Refusal(str(folder), "no finished cells", "a sweep's folder or a folder of sweeps", "train first")
    return sweeps


def _sweep(folder: Path, top: Path) -> SweepContents:
    cells, skipped = whole_cells(folder)
    protocol, lines = _protocol(folder)
    name = folder.name if folder == top else folder.relative_to(top).as_posix()
    sections = _of_experiment(protocol, folder, cells) if protocol else _of_grid(cells)
    newest = max(((cell / results.FILE).stat().st_mtime for cell in cells), default=0.0)
    return SweepContents(
        name or folder.resolve().name, protocol, sections, list(cells.values()), skipped + lines, newest
    )


def _protocol(folder: Path) -> tuple[Protocol | None, list[str]]:
    """The protocol in the sweep's folder, if there is one, and what is wrong with it."""
    file = folder / FILE
    if not file.exists():
        return None, []
    try:
        protocol, lines = parse(json.loads(file.read_text()))
    except DAMAGE:
        return None, [f"{file.name}: damaged; the cells are shown as a grid"]
    return protocol, [f"{file.name}: {line}" for line in lines]


def _of_experiment(protocol: Protocol, folder: Path, cells: Mapping[Path, Result]) -> list[Section]:
    judged = verdicts.judge(protocol, list(cells))
    if cells:
        write_whole(folder / verdicts.FILE, json.dumps([asdict(verdict) for verdict in judged], indent=1) + "\n")
    look = looks({name: str(selector.get("norm", name)) for name, selector in protocol.arms.items()})
    rows_of = _rows_of_arms(summarise(table.frame(cells))) if cells else {}
    sections = []
    for matched in verdicts.matched_arms(protocol, list(cells)):
        arms = {
            name: Arm(name, matched.arms[name], cells[matched.arms[name]], look[name],
                      [entry for entry in protocol.published if entry.arm == name])
            for name in protocol.arms if name in matched.arms
        }  # fmt: skip
        compared = [compare(published, matched) for published in protocol.published]
        own = [verdict for verdict in judged if verdict.context == matched.context]
        sections.append(Section(matched.context, arms, protocol.claims, own, compared, _summary(rows_of, arms)))
    return sections


def _of_grid(cells: Mapping[Path, Result]) -> list[Section]:
    if not cells:
        return []
    frame = table.frame(cells)
    rows_of = _rows_of_arms(summarise(frame))
    look = looks({norm: norm for norm in sorted(set(frame["norm"]), key=lambda norm: (norm == BASELINE, norm))})
    sections = []
    for (_, *context), rows in frame.groupby(CONTEXT, sort=False):
        folders = dict(sorted(zip(rows["norm"], map(Path, rows["folder"]), strict=True)))
        arms = {norm: Arm(norm, folders[norm], cells[folders[norm]], look[norm]) for norm in look if norm in folders}
        text = " ".join([f"{k}={v}" for k, v in zip(CONTEXT[1:4], context, strict=False)] + [str(context[3])]).strip()
        sections.append(Section(text, arms, [], [], [], _summary(rows_of, arms)))
    return sections


ARM = ["data", "model", "optimizer", "settings", "arm"]  # with the metric, these tell the rows of a summary apart


def _rows_of_arms(table: pd.DataFrame) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in table.to_dict("records"):
        named = {str(key): value for key, value in row.items()}
        rows.setdefault(tuple(named[key] for key in ARM), []).append(named)
    return rows


def _summary(rows_of: dict[tuple[str, ...], list[dict[str, Any]]], arms: dict[str, Arm]) -> list[dict[str, Any]]:
    """Each arm's rows of the summary, by metric."""
    found = []
    for arm in arms.values():
        cell = arm.result.cell
        own = rows_of[(cell["data"], cell["model"], cell["optimizer"], " ".join(cell["overrides"]), cell["norm"])]
        rows = {row["metric"]: row for row in own}
        found.append({"arm": arm.name, "diverged": sum(arm.result.diverged), "rows": rows})
    return found
