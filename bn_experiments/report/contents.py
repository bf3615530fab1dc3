"""Contents: what a report shows, gathered from the results of one sweep or of several."""

import json
import zipfile
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bn_experiments.claims import verdicts
from bn_experiments.claims.protocol import FILE, Claim, Protocol, parse
from bn_experiments.claims.published import Comparison, compare
from bn_experiments.claims.summary import BASELINE, CONTEXT, summarise
from bn_experiments.claims.verdicts import Verdict
from bn_experiments.figures.arms import Arm, looks
from bn_experiments.records import quantities, results, table
from bn_experiments.records.results import Result
from bn_experiments.refusal import Refusal
from bn_experiments.system.files import write_whole

DAMAGE = (AttributeError, EOFError, IndexError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile)
Rows = dict[Hashable, dict[Hashable, Any]]  # the rows of `summary.summarise` for one cell, by metric


@dataclass(frozen=True)
class Section:
    """Arms that are compared with each other.

    Args:
        context: What the arms have in common: options and settings, as text.
        arms: The arms of an experiment, or the norms of a grid, by name.
        claims: The claims of the experiment; a grid has none.
        verdicts: The verdicts on the experiment's claims; a grid has none.
        comparisons: The published numbers beside the measured ones.
        summary: The rows of each arm in the sweep's summary, by the arm's name.
    """

    context: str
    arms: dict[str, Arm]
    claims: list[Claim]
    verdicts: list[Verdict]
    comparisons: list[Comparison]
    summary: dict[str, Rows]

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
    """Every sweep at or below a folder, experiments first; the claims are judged anew, and `verdicts.json` written.

    Raises:
        Refusal: There is no finished cell.
    """
    found = sorted({path.parents[1] for path in folder.rglob(f"*/{results.FILE}")})
    sweeps = [_sweep(each, folder) for each in found]
    sweeps = [sweep for sweep in sweeps if sweep.cells or sweep.skipped]
    if not any(sweep.cells for sweep in sweeps):
        raise Refusal(str(folder), "no finished cells", "a sweep's folder or a folder of sweeps", "train first")
    return sorted(sweeps, key=lambda sweep: (sweep.protocol is None, sweep.name))


def _sweep(folder: Path, top: Path) -> SweepContents:
    name = folder.absolute().name if folder == top else folder.relative_to(top).as_posix()
    cells, skipped = _whole_cells(folder)
    protocol, lines = _protocol(folder)
    sections = []
    if cells:
        rows = summarise(table.frame(cells)).groupby([*CONTEXT[1:], "arm"], sort=False)
        rows_of = {key: own.set_index("metric").to_dict("index") for key, own in rows}
        sections = _of_experiment(protocol, folder, cells, rows_of) if protocol else _of_grid(cells, rows_of)
    newest = max(((cell / results.FILE).stat().st_mtime for cell in cells), default=0.0)
    return SweepContents(name, protocol, sections, list(cells.values()), skipped + lines, newest)


def _whole_cells(folder: Path) -> tuple[dict[Path, Result], list[str]]:
    """The results of a sweep's finished cells by folder, and one line for each cell that is left out."""
    whole: dict[Path, Result] = {}
    left_out = []
    for cell in sorted(path for path in folder.iterdir() if path.is_dir()):
        if any((cell / name).exists() for name in (results.FILE, "train.log", ".hydra")):
            found = _whole(cell)
            if isinstance(found, str):
                left_out.append(f"{cell.name}: {found}")
            else:
                whole[cell] = replace(found, probes={})  # they are drawn from a file of their own, and fill the memory
    return whole, left_out


def _whole(cell: Path) -> Result | str:
    """The result of a cell, or why the cell is left out."""
    result = results.read(cell)
    if result is None:
        return "damaged: its result.json cannot be read" if (cell / results.FILE).exists() else "not finished"
    if result.status != "done":
        return f"{result.status}: {result.error}" if result.error else str(result.status)
    try:
        assert {"data", "model", "norm", "optimizer", "overrides"} <= result.cell.keys()
        lengths = {len(result.seeds), len(result.diverged), *map(len, result.metrics.values())}
        assert len(lengths) == 1
        assert result.seeds
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
    return result


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


def _key(result: Result) -> tuple[str, str, str, str, str]:
    """What tells a cell from the others of its sweep: data, model, optimizer, settings and norm."""
    cell = result.cell
    return cell["data"], cell["model"], cell["optimizer"], " ".join(cell["overrides"]), cell["norm"]


def _of_experiment(
    protocol: Protocol, folder: Path, cells: Mapping[Path, Result], rows_of: Mapping[Any, Rows]
) -> list[Section]:
    judged = verdicts.judge(protocol, cells)
    write_whole(folder / verdicts.FILE, json.dumps([asdict(verdict) for verdict in judged], indent=1) + "\n")
    look = looks({name: str(selector.get("norm", name)) for name, selector in protocol.arms.items()})
    sections = []
    for matched in verdicts.matched_arms(protocol, cells):
        arms = {}
        for name in protocol.arms:
            if cell := matched.arms.get(name):
                published = [entry for entry in protocol.published if entry.arm == name]
                arms[name] = Arm(name, cell, cells[cell], look[name], published)
        compared = [compare(published, matched) for published in protocol.published]
        own = [verdict for verdict in judged if verdict.context == matched.context]
        summary = {name: rows_of[_key(arm.result)] for name, arm in arms.items()}
        sections.append(Section(matched.context, arms, protocol.claims, own, compared, summary))
    return sections


def _of_grid(cells: Mapping[Path, Result], rows_of: Mapping[Any, Rows]) -> list[Section]:
    norms = {result.cell["norm"] for result in cells.values()}
    look = looks({norm: norm for norm in sorted(norms, key=lambda norm: (norm == BASELINE, norm))})
    grouped: dict[tuple[str, ...], dict[str, Path]] = {}
    for folder, result in cells.items():
        *context, norm = _key(result)
        grouped.setdefault(tuple(context), {})[norm] = folder
    sections = []
    for (data, model, optimizer, settings), folders in grouped.items():
        arms = {norm: Arm(norm, folders[norm], cells[folders[norm]], look[norm]) for norm in look if norm in folders}
        text = f"data={data} model={model} optimizer={optimizer} {settings}".strip()
        summary = {norm: rows_of[_key(arm.result)] for norm, arm in arms.items()}
        sections.append(Section(text, arms, [], [], [], summary))
    return sections
