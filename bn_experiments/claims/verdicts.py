"""Verdicts: the claims of an experiment, judged on its cells."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from bn_experiments.claims import estimates, tables, tuned
from bn_experiments.claims.contexts import Context, of_experiment
from bn_experiments.claims.enough import Enough, enough
from bn_experiments.claims.oracle import numbers, places
from bn_experiments.claims.protocol import Claim, Protocol
from bn_experiments.claims.tables import MIXED, MIXED_CODE
from bn_experiments.records import results
from bn_experiments.records.origin import is_mixed
from bn_experiments.records.quantities import Array, NotMeasured, Quantity, measured
from bn_experiments.records.results import Result
from bn_experiments.statistics.decisions import Outcome, outcome_of
from bn_experiments.statistics.evidence import Evidence
from bn_experiments.statistics.intervals import LEAST_REPLICAS, LEVEL, widened
from bn_experiments.statistics.looks import Stop, stops
from bn_experiments.system.files import write_whole

FILE = "verdicts.json"


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
        low: The lower end of the 99% interval of the mean.
        high: The upper end of the 99% interval of the mean.
        n: The number of pairs of replicas.
        p: The p of the outcome, after Holm's correction over the claims that are judged together.
        at: The index of the point that decides a claim about curves, the least certain one.
        reason: The reason why the claim was not judged; None if it was.
        note: Why the outcome is not that of the claim alone; None if it is.
        edges: Which arms were tuned to the edge of what was tried, and what to widen.
        mixed_code: Whether the code changed between the runs that are compared.
        enough: What would decide an inconclusive claim; None if it is decided, or nothing says what would.
        is_of_accuracies: Whether the estimate is one of accuracies: here a share of 1, which a reader sees in points.
        over: What slopes are taken against, where it is not the number of the point.
    """

    experiment: str
    context: str
    claim: str
    rule: str
    verdict: Outcome | Literal["not judged"]
    estimate: float | None
    low: float | None
    high: float | None
    n: int
    p: float | None
    at: int | None = None
    reason: str | None = None
    note: str | None = None
    edges: tuple[str, ...] = ()
    mixed_code: bool = False
    enough: Enough | None = None
    is_of_accuracies: bool = False
    over: str | None = None


def judge(protocol: Protocol, cells: Mapping[Path, Result], looks: Sequence[int] = ()) -> list[Verdict]:
    """The verdict on each claim in each context; Holm's correction goes over all of them, which are one family.

    Args:
        protocol: The protocol.
        cells: The finished cells of its sweep, by folder.
        looks: The numbers of replicas at which the claims are judged, one after another, until they are decided; none:
            all replicas at once.
    """
    pairs = list(_claims_once(protocol, cells))
    named = [(protocol.name, context.name, claim.claim, claim.rule) for context, claim in pairs]
    evidence = [_evidence(context, claim, looks) for context, claim in pairs]
    found = []
    judged = decided(named, evidence, [claim.smallest for _, claim in pairs], looks)
    for (context, claim), verdict in zip(pairs, judged, strict=True):
        arms = {arm for quantity in claim.quantities.values() for arm in quantity.arms}
        own = {arm: cells[folder] for arm, folder in context.arms.items() if arm in arms}
        used = list({context.arms[arm]: result for arm, result in own.items()}.values())
        edges = tuple(clause for arm, result in own.items() for clause in tuned.at_edges(arm, result.tuned))
        mixed = verdict.reason is None and is_mixed(origin for result in used for origin in result.origins)
        more = verdict.enough and verdict.enough.timed(used)
        described = replace(verdict, is_of_accuracies=claim.is_of_accuracies, over=claim.arguments.get("over"))
        found.append(replace(described, edges=edges, mixed_code=mixed, enough=more))
    return found


def undecided(protocol: Protocol, cells: Mapping[Path, Result], looks: Sequence[int]) -> set[Path]:
    """The folders of the cells of the claims that are inconclusive at the looks so far (see `judge`)."""
    judged = zip(_claims_once(protocol, cells), judge(protocol, cells, looks), strict=True)
    open_ones = [(context, claim) for (context, claim), verdict in judged if verdict.verdict == "inconclusive"]
    return {context.arms[arm] for context, claim in open_ones for one in claim.quantities.values() for arm in one.arms}


def decided(
    named: Sequence[tuple[str, str, str, str]],
    evidence: Sequence[Sequence[Evidence | str]],
    smallest: Sequence[float | None],
    looks: Sequence[int] = (),
) -> list[Verdict]:
    """The verdicts on the claims of one family, after Holm's correction.

    What would decide an inconclusive one is counted at the least favourable of Holm's levels, 1% over the number of
    claims that have a p.

    Args:
        named: The experiment, context, statement and rule of each claim.
        evidence: The evidence of each claim at each look so far; at the end the reason why there is none from there on,
            if there is one.
        smallest: The smallest effect of interest of each claim.
        looks: The numbers of replicas at all looks; none: one look, at all replicas.
    """
    tested = [[at for at in each if isinstance(at, Evidence)] for each in evidence]
    count, first = max(1, len(looks)), min(looks, default=0)
    level = LEVEL / count / max(1, sum(math.isfinite(each[-1].p) for each in tested if each))
    early = (math.nan, math.nan)  # p of replicas that are fewer than at the first look
    reached = stops([[(at.p, at.p_against) if at.n >= first else early for at in each] for each in tested], count)
    found = []
    for common, each, usable, effect, stop in zip(named, evidence, tested, smallest, reached, strict=True):
        if isinstance(each[-1], str) and stop.outcome == "inconclusive":
            found.append(Verdict(*common, "not judged", None, None, None, 0, None, reason=each[-1]))
            continue
        last = usable[stop.look]
        word, note = _word(last, stop, looks)
        more = enough(last, level, effect) if word == "inconclusive" and last.n >= first else None
        more = replace(more, anew=bool(looks)) if more else None
        ends = widened(last.low, last.high, last.n, LEVEL / count)
        estimate, low, high, p = map(_finite, (last.estimate, *ends, stop.p))
        found.append(Verdict(*common, word, estimate, low, high, last.n, p, last.at, note=note, enough=more))
    return found


def _word(last: Evidence, stop: Stop, looks: Sequence[int]) -> tuple[Outcome, str | None]:
    """The outcome of a claim by the evidence of the look where it stands, and a note on it."""
    if last.n < LEAST_REPLICAS:
        return "inconclusive", f"fewer than {LEAST_REPLICAS} replicas"
    if looks and last.n < looks[0]:
        return "inconclusive", f"before the first look, at {looks[0]} replicas"
    count = max(1, len(looks))
    alone = outcome_of(count * last.p, count * last.p_against)
    notes = [f"{alone} alone"] if alone != stop.outcome else []
    notes += [f"at look {stop.look + 1} of {count}"] if looks else []
    return stop.outcome, ", ".join(notes) or None


def _claims_once(protocol: Protocol, cells: Mapping[Path, Result]) -> Iterator[tuple[Context, Claim]]:
    """Each claim in each context, but for a claim on cells on which it stands in an earlier context."""
    seen = set()
    for context in of_experiment(protocol, cells):
        for i, claim in enumerate(protocol.claims):
            used = tuple(context.arms.get(arm) for quantity in claim.quantities.values() for arm in quantity.arms)
            if (i, used) not in seen or None in used:
                yield context, claim
            seen.add((i, used))


def _finite(number: float) -> float | None:
    """The number, or None in place of NaN, which JSON does not have."""
    return number if math.isfinite(number) else None


def _evidence(context: Context, claim: Claim, looks: Sequence[int]) -> list[Evidence | str]:
    """The evidence of the claim's rule at each look so far; at the end the reason why there is none from there on.

    What a later replica lacks says nothing about a look before it.
    """
    found: list[Evidence | str] = []
    for size in looks or (None,):
        try:
            arrays, is_there = _paired(context, claim.quantities, size)
            if not is_there and found:
                break
            found.append(claim.evidence(arrays, oracle_of(claim, context), _places(claim, context)))
        except ValueError as error:
            found.append(str(error))
            break
        if not is_there:
            break
    return found


def _paired(context: Context, quantities: Mapping[str, Quantity], size: int | None) -> tuple[dict[str, Array], bool]:
    """The quantities (R,) or (R, P) by name, for the R seeds that all their arms have, and whether `size` are there.

    Args:
        context: The context.
        quantities: The quantities by name.
        size: How many of these seeds are taken, the first ones; None: all.

    Raises:
        NotMeasured: An arm or a quantity is missing, or a replica diverged and has no such quantity.
    """
    found: dict[str, list[tuple[list[int], Array]]] = {}
    diverged, skill = set(), []
    for name, quantity in quantities.items():
        for folder, result in _cells(context, quantity):
            values = measured(folder, quantity)
            found.setdefault(name, []).append((result.seeds, values))
            chance = result.chance.get(quantity.metric) if quantity.is_accuracy else None
            skill.append(chance is None or bool((values > chance).any()))
            lost = ~np.isfinite(values).reshape(len(result.seeds), -1).all(1) & np.array(result.diverged)
            diverged |= {seed for seed, is_lost in zip(result.seeds, lost, strict=True) if is_lost}
    shared = sorted(set.intersection(*(set(seeds) for of_arms in found.values() for seeds, _ in of_arms)))
    is_there = size is None or size <= len(shared)
    shared = shared[:size]
    if not shared:
        raise NotMeasured("the arms have no seed in common")
    if lost_pairs := diverged.intersection(shared):
        raise NotMeasured(f"{len(lost_pairs)} of {len(shared)} replicas diverged, which have no such number")
    if not any(skill):
        raise NotMeasured("every arm is at chance")
    arrays = {}
    for name, of_arms in found.items():
        own = [values[[seeds.index(seed) for seed in shared]] for seeds, values in of_arms]
        if len(own) > 1 and any(values.ndim > 1 for values in own):
            raise NotMeasured(f"{quantities[name].metric} of several arms has several numbers each; name a label")
        arrays[name] = own[0] if len(own) == 1 else np.stack(own, axis=1)
    return arrays, is_there


def oracle_of(claim: Claim, context: Context) -> Array | None:
    """The numbers of a claim's oracle, if it has one, in the configurations of its first quantity's arms.

    Raises:
        NotMeasured: An arm is missing, or the oracle has no number.
    """
    if claim.oracle is None:
        return None
    quantity = next(iter(claim.quantities.values()))
    return numbers(claim.oracle, quantity, _cells(context, quantity))


def _places(claim: Claim, context: Context) -> Array | None:
    """Where the points of a claim's curves stand, which is the same for all of them, if it says so.

    Raises:
        NotMeasured: An arm is missing, or the curves have their points at different places.
    """
    if (over := claim.arguments.get("over")) is None:
        return None
    first, *others = [places(over, [result for _, result in _cells(context, q)]) for q in claim.quantities.values()]
    if not all(np.array_equal(first, other) for other in others):
        raise NotMeasured(f"the curves have other points of {over}")
    return first


def _cells(context: Context, quantity: Quantity) -> list[tuple[Path, Result]]:
    """The folder and the result of each arm of a quantity."""
    found = []
    for arm in quantity.arms:
        if arm not in context.arms:
            raise NotMeasured(context.absent[arm])
        result = results.read(context.arms[arm])
        assert result is not None
        found.append((context.arms[arm], result))
    return found


def write(verdicts: Sequence[Verdict], folder: Path) -> None:
    """Writes `verdicts.json` into a sweep's folder."""
    write_whole(folder / FILE, json.dumps([asdict(verdict) for verdict in verdicts], indent=1) + "\n")


def show(verdicts: Iterable[Verdict], console: Console) -> None:
    """Prints the verdicts, in a table for each experiment and context."""
    by_context: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_context.setdefault(f"{verdict.experiment}: {verdict.context}", []).append(verdict)
    headings = ("claim", "verdict", "estimate", "n", "p")
    for title, rows in by_context.items():
        texts = [
            (
                row.claim + (MIXED if row.mixed_code else "") + ("" if row.reason else f"\n  {statistic(row)}"),
                f"{row.verdict} ({row.note})" if row.note else row.verdict,
                row.reason or estimate(row),
                str(row.n),
                "" if row.p is None else f"{row.p:.2g}",
            )
            for row in rows
        ]
        tables.show(console, title, headings, [texts])
        for row in rows:
            if row.enough or row.edges:
                console.print(line(row), soft_wrap=not console.is_terminal)
    mixed = any(row.mixed_code for rows in by_context.values() for row in rows)
    console.print(EXPLANATION + MIXED_CODE * mixed, style="dim", soft_wrap=not console.is_terminal)


EXPLANATION = (
    "Estimates are means over n paired replicas with their 99% intervals (Student's t). A claim holds where its "
    "interval lies in the region that it names, and fails where no point of it does, at p <= .01 after Holm's "
    "correction over all claims that are judged together; below six replicas all are inconclusive. What would decide "
    "a claim is counted for 80% power."
)


def line(verdict: Verdict) -> str:
    """The verdict on one line: its claim, its word with the note, and what would decide it."""
    text = f"{verdict.claim}: {verdict.verdict}" + (f" ({verdict.note})" if verdict.note else "")
    return "; ".join([text, *([str(verdict.enough)] if verdict.enough else []), *verdict.edges])


def statistic(verdict: Verdict) -> str:
    """What the estimate of a verdict is, in words."""
    return estimates.statistic(verdict.rule, verdict.at, verdict.over)


def estimate(verdict: Verdict) -> str:
    """The estimate of a verdict with its interval, to four significant digits; one of accuracies in points.

    >>> from functools import partial
    >>> of = partial(Verdict, "", "", "", "difference", "holds", 0.01, 0.005, 0.015, 6, 0.001)
    >>> estimate(of()), estimate(of(is_of_accuracies=True))
    ('+0.01 [+0.005, +0.015]', '+1 points [+0.5, +1.5]')
    """
    if verdict.estimate is None:
        return ""
    factor, unit = (100, " points") if verdict.is_of_accuracies else (1, "")
    text = f"{factor * verdict.estimate:+.4g}{unit}"
    if verdict.low is None or verdict.high is None:
        return text
    return f"{text} [{factor * verdict.low:+.4g}, {factor * verdict.high:+.4g}]"
