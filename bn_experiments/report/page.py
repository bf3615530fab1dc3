"""The page: the contents and their figures as one HTML file that needs nothing else, or as Markdown without figures."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bn_experiments.claims import swept_tables
from bn_experiments.claims.contexts import ALL
from bn_experiments.claims.oracle import numbers
from bn_experiments.claims.tables import MIXED
from bn_experiments.figures.arms import loss_unit
from bn_experiments.figures.drawing import Drawing
from bn_experiments.records.quantities import NotMeasured
from bn_experiments.refusal import Refusal
from bn_experiments.report import comparisons, words
from bn_experiments.report.comparisons import METRICS
from bn_experiments.report.contents import Section, SweepContents
from bn_experiments.report.curves import MOST_REPLICAS, curves
from bn_experiments.report.drawings import drawings
from bn_experiments.report.embedding import csv_uri, svg_uri
from bn_experiments.report.published import compared
from bn_experiments.report.swept import blocks
from bn_experiments.report.vega import runtime
from bn_experiments.system.files import write_whole

HTML, MARKDOWN, ATLAS = "report.html.jinja", "report.md.jinja", "atlas.md.jinja"
MOST_ILLUSTRATED = 12  # settings of a sweep whose figures its page holds; with those of a large grid it would not open
# what a browser lets the page do: it loads nothing, whatever it holds; Vega compiles what its charts compute
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "base-uri 'none'; form-action 'none'"
)


def html(sweeps: Sequence[SweepContents], draw: Callable[[Section], list[Drawing]] = drawings) -> str:
    """The page as HTML, the same for the same results.

    Args:
        sweeps: The sweeps.
        draw: The function that draws a section.
    """
    return _render(
        HTML,
        sweeps,
        counts=counts(sweeps),
        trained=any(section.is_trained for sweep in sweeps for section in sweep.sections),
        parts=parts,
        comparisons=comparisons,
        drawings=draw,
        blocks=blocks,
        curves=curves,
        most_replicas=MOST_REPLICAS,
        runtime=runtime,
        svg_uri=svg_uri,
        csv_uri=csv_uri,
        policy=POLICY,
    )


def markdown(sweeps: Sequence[SweepContents]) -> str:
    """The experiments among the sweeps that are not of the atlas as Markdown, without a path of this machine.

    Raises:
        Refusal: None of them is an experiment.
    """
    sweeps = [sweep for sweep in sweeps if sweep.protocol and sweep.cells and not sweep.protocol.area]
    if not sweeps:
        remedy = "train one first"
        raise Refusal("the folder", "no experiment is among the sweeps", "folders with an experiment.json", remedy)
    return _render(MARKDOWN, sweeps) + "\n"


def atlas(sweeps: Sequence[SweepContents], folder: Path) -> str:
    """The experiments of the atlas among the sweeps as Markdown, with their figures in a folder beside it.

    Args:
        sweeps: The sweeps.
        folder: Where the figures are written, as SVG; the page names them by the folder's name and their own.

    Raises:
        Refusal: None of them is an experiment of the atlas.
    """
    chosen = [(sweep, sweep.protocol) for sweep in sweeps if sweep.protocol and sweep.cells and sweep.protocol.area]
    if not chosen:
        allowed = "folders with an experiment.json that has an area"
        raise Refusal("the folder", "no experiment of the atlas is among the sweeps", allowed, "train one first")
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, list[tuple[str, Drawing]]] = {sweep.name: [] for sweep, _ in chosen}
    for sweep, protocol in chosen:
        for drawing in (each for section in sweep.sections for each in drawings(section)):
            own = figures[sweep.name]
            name = f"{protocol.name}_{len(own) + 1}.svg"
            write_whole(folder / name, drawing.svg)
            own.append((f"{folder.name}/{name}", drawing))
    return _render(ATLAS, [sweep for sweep, _ in chosen], figures=figures, theory_of=theory_of) + "\n"


def theory_of(statement: str, section: Section) -> str:
    """What the oracle of a claim says of a section's arms, in short: its number, or the ends of a curve."""
    claim = next(each for each in section.claims if each.claim == statement)
    quantity = next(iter(claim.quantities.values()))
    if claim.oracle is None or not {*quantity.arms} <= section.arms.keys():
        return words.DASH
    cells = [(section.arms[arm].folder, section.arms[arm].result) for arm in quantity.arms]
    try:
        found = [f"{number:.4g}" for number in numbers(claim.oracle, quantity, cells).flat]
    except NotMeasured as error:
        return str(error)
    return f"{found[0]} to {found[-1]}" if len(set(found)) > 1 else found[0]


def _render(template: str, sweeps: Sequence[SweepContents], **more: Any) -> str:
    """A template of this folder, filled in."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=template == HTML,  # Markdown has the filter md
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["md"] = words.as_markdown
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.get_template(template).render(
        sweeps=sweeps,
        date=newest(sweeps),
        machines=machines(sweeps),
        all_pairs=ALL,
        mixed=MIXED,
        words=words,
        swept_tables=swept_tables,
        compared=compared,
        summarised=summarised,
        **more,
    )


def newest(sweeps: Sequence[SweepContents]) -> str:
    """The day of the newest result, in UTC."""
    day = datetime.fromtimestamp(max(sweep.newest for sweep in sweeps), UTC)
    return f"{day.day} {day:%B %Y}"


def parts(sweep: SweepContents) -> list[tuple[Section, bool]]:
    """The sections that have a part of the page, for published numbers or figures, and whether they have figures."""
    found = [(section, i < MOST_ILLUSTRATED) for i, section in enumerate(sweep.sections)]
    return [(section, illustrated) for section, illustrated in found if illustrated or section.comparisons]


def counts(sweeps: Sequence[SweepContents]) -> dict[str, int]:
    """Sweeps, cells, networks, and how many claims got which verdict."""
    sections = [section for sweep in sweeps for section in sweep.sections]
    verdicts: list[str] = [verdict.verdict for section in sections for verdict in section.verdicts]
    return {
        "experiment": sum(sweep.protocol is not None for sweep in sweeps),
        "grid": sum(sweep.protocol is None for sweep in sweeps),
        "cell": sum(len(sweep.cells) for sweep in sweeps),
        "network": sum(len(cell.seeds) for sweep in sweeps for cell in sweep.cells),
        "claim": len(verdicts),
        **{word: verdicts.count(word) for word in words.SYMBOLS},
    }


def machines(sweeps: Sequence[SweepContents]) -> dict[str, list[str]]:
    """The machines, versions and commits that the results come from, and what was done in another way, each once."""
    cells = [cell for sweep in sweeps for cell in sweep.cells]
    sections = [section for sweep in sweeps for section in sweep.sections]
    arms = {arm.result.config_hash: arm.name for section in sections for arm in section.arms.values()}
    arm_of = [arms.get(cell.config_hash, cell.cell["norm"]) for cell in cells]
    found = {
        "machine": [cell.device or "unknown" for cell in cells],
        "versions": [", ".join(f"{name} {version}" for name, version in cell.versions.items()) for cell in cells],
        "commit": [cell.git_commit or "none: outside a checkout" for cell in cells],
        "notes": [
            f"{note} ({cell.cell['model']}, {arm})"
            for cell, arm in zip(cells, arm_of, strict=True)
            for note in cell.notes
        ],
    }
    return {name: sorted(set(values)) for name, values in found.items() if values}


def summarised(section: Section) -> dict[str, list[dict[str, str]]]:
    """The summary's numbers as text: a row for each arm that has the metric, by the metric's heading."""
    found = {}
    units = {"test/acc": "%", "test/loss": loss_unit(section.arms.values())}
    for metric, (named, factor, digits) in METRICS.items():
        heading = ", ".join(filter(None, (named, units[metric])))
        found[heading] = [
            {
                "arm": " at ".join(filter(None, (name, row["tuned"]))) + MIXED * row["mixed_code"],
                "diverged": str(row["diverged"] or ""),
                "mean": words.with_interval([row[k] for k in ("mean", "low", "high")], factor, digits),
                "difference": words.difference(row, factor, digits),
                "baseline": "" if pd.isna(row["baseline"]) else row["baseline"],
                "p": words.p_value(row["p"]),
                "detectable": words.with_interval([row["detectable"], math.nan, math.nan], factor, digits),
                "n": str(row["n"]),
            }
            for name, rows in section.summary.items()
            for row in rows.get(metric, [])
        ]
    return {heading: rows for heading, rows in found.items() if rows}
