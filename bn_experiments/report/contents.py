"""Contents: what a report shows, gathered from the results of one sweep or of several."""

import json
import zipfile
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bn_experiments.claims import tuned, verdicts
from bn_experiments.claims.contexts import ALL, Context, apart, of_experiment, of_grid
from bn_experiments.claims.protocol import FILE, Claim, Protocol, parse
from bn_experiments.claims.published import Comparison, compare
from bn_experiments.claims.summary import summarise
from bn_experiments.claims.swept import Swept, changes, swept
from bn_experiments.claims.twins import distinct
from bn_experiments.claims.verdicts import Verdict
from bn_experiments.figures.arms import Arm, looks
from bn_experiments.records import quantities, results
from bn_experiments.records.comparison import baseline_in, looks_in
from bn_experiments.records.identity import BASELINE
from bn_experiments.records.results import Result
from bn_experiments.refusal import Refusal
from bn_experiments.report import words

DAMAGE = (AttributeError, EOFError, IndexError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile)
Rows = dict[str, list[dict[Hashable, Any]]]  # the rows of `summary.summarise` for one cell, by metric


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
    def edges(self) -> list[str]:
        """A clause for each arm that was tuned to the edge of what was tried."""
        return [clause for name, arm in self.arms.items() for clause in tuned.at_edges(name, arm.result.tuned)]

    @property
    def is_trained(self) -> bool:
        """Whether any network took a step; else all is measured at initialization."""
        return any(arm.result.config["trainer"]["max_epochs"] != 0 for arm in self.arms.values())

    @property
    def covers(self) -> list[str]:
        """What the intervals of its arms cover, each answer once."""
        return list(dict.fromkeys(words.covers(arm.result.config) for arm in self.arms.values()))

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
        compared: The finished results by folder, with those of which a file cannot be drawn.
        summary: The comparisons of the arms, as in `summary.csv`.
        skipped: One line, with the reason, for each cell or protocol that is left out, and for arms without a baseline.
        baseline: The name of the baseline arm, or all.
        looks: The numbers of replicas at which differences and claims are judged, where there are several.
        swept: The numbers that a grid varies.
        changes: What becomes of each arm from the smallest of their values to the others (see `swept.changes`).
        newest: When the last result was written, in seconds since 1970.
    """

    name: str
    protocol: Protocol | None
    sections: list[Section]
    cells: list[Result]
    compared: dict[Path, Result]
    summary: pd.DataFrame
    skipped: list[str]
    baseline: str
    looks: tuple[int, ...]
    swept: list[Swept]
    changes: pd.DataFrame
    newest: float

    @property
    def title(self) -> str:
        """The title of the experiment, or the name of a grid's folder."""
        return self.protocol.title if self.protocol else self.name

    @property
    def covers(self) -> list[str]:
        """What the intervals of its arms cover, each answer once."""
        return list(dict.fromkeys(text for section in self.sections for text in section.covers))

    @property
    def minutes(self) -> float:
        """The minutes that the cells took, one after another."""
        return sum(cell.timing.get("setup_s", 0) + cell.timing.get("train_s", 0) for cell in self.cells) / 60


def collect(folder: Path) -> list[SweepContents]:
    """Every sweep at or below a folder, experiments first; the claims are judged anew, and `verdicts.json` written.

    Raises:
        Refusal: There is no finished cell.
    """
    found = sorted({cell.parent for cell in results.cells_below(folder) if cell != folder})
    sweeps = [_sweep(each, folder) for each in found]
    sweeps = [sweep for sweep in sweeps if sweep.cells or sweep.skipped]
    if not any(sweep.cells for sweep in sweeps):
        got, remedy = _nothing(folder, [line for sweep in sweeps for line in sweep.skipped])
        raise Refusal(str(folder), got, "a sweep's folder or a folder of sweeps", remedy)
    return sorted(sweeps, key=lambda sweep: (sweep.protocol is None, sweep.name))


def _nothing(folder: Path, skipped: Sequence[str]) -> tuple[str, str]:
    """Why there is nothing to show of a folder, and what to do."""
    if not folder.is_dir():
        return "is no folder", "change it, or train first"
    if (folder / results.FILE).exists():
        return "is the folder of one cell", f"give the folder that holds it, {folder.absolute().parent}"
    if skipped:
        more = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        return f"no finished cells ({skipped[0]}{more})", "start the same command again, which goes on from there"
    return "no finished cells", "train first"


def _sweep(folder: Path, top: Path) -> SweepContents:
    name = folder.absolute().name if folder == top else folder.relative_to(top).as_posix()
    cells, skipped = _whole_cells(folder)
    protocol, lines = _protocol(folder)
    cells, twins = distinct(cells)
    unreadable = {cell: reason for cell in cells if (reason := _unreadable(cell))}
    skipped += [f"{cell.name}: damaged: its {reason}" for cell, reason in unreadable.items()]
    shown = {cell: result for cell, result in cells.items() if cell not in unreadable}
    grid = of_grid(cells)
    (baseline, no_arm), looks = _baseline(folder, grid), looks_in(folder)
    summary = summarise(cells, baseline, looks)
    rows_of: dict[str, Rows] = {}
    for row in summary.to_dict("records"):
        rows_of.setdefault(row["folder"], {}).setdefault(row["metric"], []).append(row)
    contexts = of_experiment(protocol, cells) if protocol else grid
    drawn = [_without(unreadable, context) for context in contexts]
    sections = _of_experiment(protocol, folder, cells, drawn, rows_of) if protocol else _of_grid(cells, drawn, rows_of)
    lines += [*map(str, twins), *([] if protocol else [*no_arm, *apart(contexts, baseline)])]
    numbers = [] if protocol else swept(drawn)
    return SweepContents(
        name,
        protocol,
        sections,
        cells=list(shown.values()),
        compared=cells,
        summary=summary,
        skipped=skipped + lines,
        baseline=baseline,
        looks=looks,
        swept=numbers,
        changes=changes(numbers, cells, baseline, looks),
        newest=max(map(results.written_ns, shown), default=0) / 1e9,
    )


def _baseline(folder: Path, contexts: Sequence[Context]) -> tuple[str, list[str]]:
    """The baseline arm of a sweep, the first one where no arm has the name that is recorded, and then a line on it."""
    recorded = baseline_in(folder)
    names = list(dict.fromkeys(name for context in contexts for name in context.arms))
    if recorded in (ALL, *names) or not names:
        return recorded, []
    line = f"the baseline {recorded}, for no arm here has this name; the arms are beside {names[0]}"
    return names[0], [line]


def _whole_cells(folder: Path) -> tuple[dict[Path, Result], list[str]]:
    """The results of a sweep's finished cells by folder, and one line for each cell that is left out."""
    whole: dict[Path, Result] = {}
    left_out = []
    for cell in sorted(path for path in folder.iterdir() if path.is_dir()):
        if results.further(cell) or any((cell / name).exists() for name in (results.FILE, "train.log", ".hydra")):
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
    return result


def _unreadable(cell: Path) -> str | None:
    """Why a file of a finished cell cannot be drawn; the verdicts on what it should hold give the same reason."""
    try:
        quantities.probes(cell)
        quantities.curves(cell)
    except quantities.Damaged as error:
        return str(error)
    except quantities.NotMeasured:
        pass  # some cells have no curves, such as those that were not trained
    return None


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


def _without(unreadable: Mapping[Path, str], context: Context) -> Context:
    """A context without the cells of which a file cannot be read, and the reason in their place."""
    arms = {arm: cell for arm, cell in context.arms.items() if cell not in unreadable}
    absent = {arm: unreadable[cell] for arm, cell in context.arms.items() if cell in unreadable}
    return replace(context, arms=arms, absent=context.absent | absent)


def _of_experiment(
    protocol: Protocol,
    folder: Path,
    cells: Mapping[Path, Result],
    contexts: Sequence[Context],
    rows_of: Mapping[str, Rows],
) -> list[Section]:
    judged = verdicts.judge(protocol, cells, looks_in(folder))
    verdicts.write(judged, folder)
    look = looks({name: str(selector.get("norm", name)) for name, selector in protocol.arms.items()})
    sections = []
    for context in contexts:
        arms = {}
        for name in protocol.arms:
            if cell := context.arms.get(name):
                published = [entry for entry in protocol.published if entry.arm == name]
                arms[name] = Arm(name, cell, cells[cell], look[name], published)
        compared = [compare(published, context) for published in protocol.published]
        own = [verdict for verdict in judged if verdict.context == context.name]
        summary = {name: rows_of[arm.folder.name] for name, arm in arms.items()}
        sections.append(Section(context.name, arms, protocol.claims, own, compared, summary))
    return sections


def _of_grid(cells: Mapping[Path, Result], contexts: Sequence[Context], rows_of: Mapping[str, Rows]) -> list[Section]:
    names = sorted({name for context in contexts for name in context.arms}, key=lambda name: (name == BASELINE, name))
    look = looks({name: name for name in names})
    sections = []
    for context in contexts:
        arms = {
            name: Arm(name, context.arms[name], cells[context.arms[name]], look[name])
            for name in names
            if name in context.arms
        }
        summary = {name: rows_of[arm.folder.name] for name, arm in arms.items()}
        if arms:
            sections.append(Section(context.name, arms, [], [], [], summary))
    return sections
