"""Verdicts: the claims of an experiment, judged on its cells."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table

from bn_experiments.claims.protocol import Claim, Protocol, is_of
from bn_experiments.records import results
from bn_experiments.records.quantities import Array, NotMeasured, Quantity, measured
from bn_experiments.statistics import rules
from bn_experiments.system.files import write_whole

FILE = "verdicts.json"
LEAST_REPLICAS = 6  # fewer do not show their distribution; with five, Wilcoxon's test cannot reach p = .05


@dataclass(frozen=True)
class Verdict:
    """The outcome of a claim, with the evidence for it.

    Args:
        experiment: The name of the experiment.
        context: The settings that the cells share, such as the data set and those of the command, as text.
        claim: The statement.
        rule: The name of the rule that judges the claim (see `statistics.rules`).
        verdict: The outcome, or not judged if an arm or a measurement is missing.
        estimate: The mean of the rule's statistic over replicas; None if there is none.
        low: The lower end of the 95% interval of the mean.
        high: The upper end of the 95% interval of the mean.
        n: The number of replicas.
        p: The p after Holm's correction over the claims that are judged together.
        at: The index of the point that decides, for the rule ordering.
        reason: The reason why the claim was not judged; None if it was.
    """

    experiment: str
    context: str
    claim: str
    rule: str
    verdict: rules.Outcome | Literal["not judged"]
    estimate: float | None
    low: float | None
    high: float | None
    n: int
    p: float | None
    at: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class MatchedArms:
    """Cells that differ in their arms alone.

    Args:
        context: The settings that the cells share beyond the protocol, as text.
        family: The part of the context that the protocol's own grid does not vary. Holm's correction goes over all
            claims of a family.
        arms: The folder of each arm's cell, by the arm's name.
    """

    context: str
    family: str
    arms: dict[str, Path]


def matched_arms(protocol: Protocol, folders: Iterable[Path]) -> list[MatchedArms]:
    """The finished cells of an experiment, those that differ in their arms alone together."""
    keys = {key for selector in protocol.arms.values() for key in selector}
    found: dict[tuple[str, str], dict[str, Path]] = {}
    for folder in folders:
        result = results.read(folder)
        if result is None or result.status != "done":
            continue
        groups = {group: f"{group}={result.cell[group]}" for group in ("data", "model", "optimizer")}
        overrides = {text.partition("=")[0]: text for text in result.cell["overrides"]}
        swept = [text for key, text in (groups | overrides).items() if key in protocol.axes and key not in keys]
        options = [text for key, text in groups.items() if key not in protocol.axes and key not in keys]
        given = [text for key, text in overrides.items() if key not in protocol.axes and key not in keys]
        arms = found.setdefault((" ".join([*options, *swept, *given]), " ".join([*options, *given])), {})
        for arm, selector in protocol.arms.items():
            if is_of(selector, result.cell, result.config):
                arms.setdefault(arm, folder)
    return [MatchedArms(context, family, arms) for (context, family), arms in found.items()]


def judge(protocol: Protocol, folders: Iterable[Path]) -> list[Verdict]:
    """The verdict on each claim for each set of matched arms; Holm's correction goes over all claims of a family."""
    by_family: dict[str, list[MatchedArms]] = {}
    for matched in matched_arms(protocol, folders):
        by_family.setdefault(matched.family, []).append(matched)
    found = []
    for family in by_family.values():
        pairs = [(matched, claim) for matched in family for claim in protocol.claims]
        evidence = [_evidence(matched, claim) for matched, claim in pairs]
        judged = iter(rules.decide([e for e in evidence if isinstance(e, rules.Evidence)]))
        for (matched, claim), each in zip(pairs, evidence, strict=True):
            common = (protocol.name, matched.context, claim.claim, claim.rule)
            if isinstance(each, str):
                found.append(Verdict(*common, "not judged", None, None, None, 0, None, reason=each))
                continue
            word, p = next(judged)
            if each.n < LEAST_REPLICAS:
                word = "inconclusive"
            estimate, low, high = map(_finite, (each.estimate, each.low, each.high))
            found.append(Verdict(*common, word, estimate, low, high, each.n, _finite(p), each.at))
    return found


def _finite(number: float) -> float | None:
    """The number, or None in place of NaN, which JSON does not have."""
    return number if math.isfinite(number) else None


def _evidence(matched: MatchedArms, claim: Claim) -> rules.Evidence | str:
    """The evidence of the claim's rule, or the reason why there is none."""
    try:
        return claim.evidence(_paired(matched, claim.quantities))
    except ValueError as error:
        return str(error)


def _paired(matched: MatchedArms, quantities: Mapping[str, Quantity]) -> dict[str, Array]:
    """The quantities (R,) or (R, P) by name, for the R seeds that all their arms have."""
    arrays, seeds = {}, {}
    for name, quantity in quantities.items():
        if quantity.arm not in matched.arms:
            raise NotMeasured(f"arm {quantity.arm} was not trained")
        folder = matched.arms[quantity.arm]
        result = results.read(folder)
        assert result is not None
        arrays[name], seeds[name] = measured(folder, quantity), result.seeds
    shared = sorted(set.intersection(*map(set, seeds.values())))
    if not shared:
        raise NotMeasured("the arms have no seed in common")
    return {name: array[[seeds[name].index(seed) for seed in shared]] for name, array in arrays.items()}


def write(protocol: Protocol, folder: Path) -> list[Verdict]:
    """Judges the claims on all cells of a sweep's folder, and writes `verdicts.json` there."""
    verdicts = judge(protocol, cells_in(folder))
    write_whole(folder / FILE, json.dumps([asdict(verdict) for verdict in verdicts], indent=1) + "\n")
    return verdicts


def cells_in(folder: Path) -> list[Path]:
    """The folders of the cells, which lie directly in a sweep's folder."""
    return sorted(path.parent for path in folder.glob(f"*/{results.FILE}"))


def show(verdicts: Iterable[Verdict], console: Console) -> None:
    """Prints the verdicts, in a table for each experiment and context."""
    by_context: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_context.setdefault(f"{verdict.experiment}: {verdict.context}", []).append(verdict)
    for title, rows in by_context.items():
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("claim", "verdict", "estimate", "n", "p"):
            table.add_column(heading, justify="right" if heading in ("n", "p") else "left")
        for row in rows:
            p = "" if row.p is None else f"{row.p:.2g}"
            table.add_row(row.claim, row.verdict, row.reason or estimate(row), str(row.n), p)
        console.print(table)
    console.print(EXPLANATION, style="dim")


EXPLANATION = (
    "Estimates are means over n paired replicas with their 95% intervals. p is Student's, or Hall's where replicas are "
    "so skewed that it is larger, after Holm's correction over the claims. A claim fails only where its interval "
    "excludes the effect; below six replicas all are inconclusive."
)


def estimate(verdict: Verdict) -> str:
    """The estimate of a verdict with its interval, to four significant digits."""
    if verdict.estimate is None:
        return ""
    if verdict.low is None or verdict.high is None:
        return f"{verdict.estimate:+.4g}"
    return f"{verdict.estimate:+.4g} [{verdict.low:+.4g}, {verdict.high:+.4g}]"
