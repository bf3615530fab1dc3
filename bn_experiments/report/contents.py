"""Contents: what a report shows, gathered from the results of one sweep or of several."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bn_experiments.claims import published as comparisons
from bn_experiments.claims import verdicts
from bn_experiments.claims.protocol import FILE, Claim, Protocol, parse
from bn_experiments.claims.published import Comparison
from bn_experiments.claims.summary import BASELINE, CONTEXT, summarise
from bn_experiments.claims.verdicts import Verdict
from bn_experiments.figures.arms import Arm, looks
from bn_experiments.records import quantities as measurements
from bn_experiments.records import result as results
from bn_experiments.records import table
from bn_experiments.records.result import Result
from bn_experiments.refusal import Refusal
from bn_experiments.system.files import write_whole

DAMAGE = (AttributeError, EOFError, IndexError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Section:
    """Arms that are compared with each other.

    Args:
        context: What the arms have in common: groups and settings, as text.
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
        ValueError: There is no finished cell.
    """
    found = sorted({path.parents[1] for path in folder.rglob(f"*/{results.FILE}")})
    sweeps = [_sweep(each, folder) for each in found]
    sweeps = [sweep for sweep in sweeps if sweep.cells or sweep.skipped]
    if not any(sweep.cells for sweep in sweeps):
        raise Refusal(str(folder), "no finished cells", "a sweep's folder or a folder of sweeps", "train first")
    return sweeps


def _sweep(folder: Path, top: Path) -> SweepContents:
    finished: list[Path] = []
    skipped = []
    for cell in sorted(path for path in folder.iterdir() if path.is_dir()):
        if any((cell / name).exists() for name in (results.FILE, "train.log", ".hydra")):
            reason = _why_left_out(cell)
            finished += [] if reason else [cell]
            skipped += [f"{cell.name}: {reason}"] if reason else []
    protocol, lines = _protocol(folder)
    name = folder.name if folder == top else folder.relative_to(top).as_posix()
    shown = {cell: _result(cell) for cell in finished}
    sections = _of_experiment(protocol, folder, shown) if protocol else _of_grid(shown)
    newest = max(((cell / results.FILE).stat().st_mtime for cell in finished), default=0.0)
    return SweepContents(
        name or folder.resolve().name, protocol, sections, list(shown.values()), skipped + lines, newest
    )


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
        measurements.probes(cell)
        measurements.curves(cell)
    except measurements.Damaged as error:
        return f"damaged: its {error}"
    except measurements.NotMeasured:
        pass  # some cells have no curves, such as those that were not trained
    return None


def _result(cell: Path) -> Result:
    """The record without the probes' readings, which are drawn from a file of their own and would fill the memory."""
    result = results.read(cell)
    assert result is not None
    return replace(result, probes={})


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


def _of_experiment(protocol: Protocol, folder: Path, shown: Mapping[Path, Result]) -> list[Section]:
    cells = list(shown)
    judged = verdicts.judge(protocol, cells)
    if cells:
        write_whole(folder / verdicts.FILE, json.dumps([asdict(verdict) for verdict in judged], indent=1) + "\n")
    look = looks({name: str(selector.get("norm", name)) for name, selector in protocol.arms.items()})
    rows_of = _rows_of_arms(summarise(table.frame(cells))) if cells else {}
    sections = []
    for group in verdicts.groups(protocol, cells):
        arms = {
            name: Arm(name, group.arms[name], shown[group.arms[name]], look[name],
                      [entry for entry in protocol.published if entry.arm == name])
            for name in protocol.arms if name in group.arms
        }  # fmt: skip
        compared = [comparisons.compare(published, group) for published in protocol.published]
        own = [verdict for verdict in judged if verdict.context == group.context]
        sections.append(Section(group.context, arms, protocol.claims, own, compared, _summary(rows_of, arms)))
    return sections


def _of_grid(shown: Mapping[Path, Result]) -> list[Section]:
    if not shown:
        return []
    frame = table.frame(shown)
    rows_of = _rows_of_arms(summarise(frame))
    look = looks({norm: norm for norm in sorted(set(frame["norm"]), key=lambda norm: (norm == BASELINE, norm))})
    sections = []
    for (_, *context), rows in frame.groupby(CONTEXT, sort=False):
        folders = dict(sorted(zip(rows["norm"], map(Path, rows["folder"]), strict=True)))
        arms = {norm: Arm(norm, folders[norm], shown[folders[norm]], look[norm]) for norm in look if norm in folders}
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
