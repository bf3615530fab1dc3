"""The protocol of an experiment: its arms, the numbers that were published of them, and its claims."""

import dataclasses
import inspect
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, TypeAdapter, ValidationError

from bn_experiments.claims.oracle import ORACLE_FORMS, PLACE_FORMS, unusable
from bn_experiments.imports import function_at
from bn_experiments.records.quantities import STRICT, Array, Quantity
from bn_experiments.refusal import Refusal, nearest, one_line, unknown_key
from bn_experiments.signatures import allowed
from bn_experiments.statistics.rules import RULES, Evidence
from bn_experiments.system.files import write_whole

FILE = "experiment.json"
CURVES = ("train/running_loss", "train/step_loss", "val/loss", "val/acc")
SIDES = ("left", "right", "other_left", "other_right")  # arguments of rules that a number fills for all replicas
ORACLES = ("oracle", "near", "right")  # arguments of rules that an oracle may be
# the rules whose estimate is in the unit of what is compared
IN_UNIT = ("difference", "interaction", "equivalence", "agreement", "slope", "slope_difference", "ordering")
BESIDE_RULE = ("claim", "rule", "smallest", "oracle")  # the keys of a claim that are no arguments of its rule
# what the arguments of rules may be that are no quantities
SETTINGS = {"above": "a number", "margin": "a number above 0", "log": "true or false", "over": PLACE_FORMS}
FINAL = ("train/running_loss", "val/loss", "val/acc", "test/loss", "test/acc")


@dataclass(frozen=True)
class Published(Quantity):
    """The published numbers of one run of an arm: a single number, or those of the first points of a curve."""

    __pydantic_config__ = STRICT

    arm: str
    values: Annotated[list[float], Field(min_length=1)] = field(default_factory=list)
    note: str | None = None


@dataclass(frozen=True)
class Claim:
    """A statement about the arms, with the rule that judges it and the rule's arguments, quantities and numbers.

    Args:
        claim: The statement.
        rule: The name of the rule, or the dotted path of a function.
        arguments: The arguments of the rule by name.
        smallest: The smallest effect of interest beyond the rule's bound, in the unit of the estimate; for it the
            replicas are counted that would decide the claim. The verdict does not depend on it.
        oracle: What theory says the quantity is: a number, a curve, or the dotted path of a function of the arm's
            configuration (see `claims.oracle`). It is the argument `oracle`, `near` or `right` of the rule.
    """

    claim: str
    rule: str
    arguments: dict[str, Any]
    smallest: float | None = None
    oracle: float | list[float] | str | None = None

    @property
    def quantities(self) -> dict[str, Quantity]:
        """The arguments that are measured, by name."""
        return {name: value for name, value in self.arguments.items() if isinstance(value, Quantity)}

    @property
    def is_of_accuracies(self) -> bool:
        """Whether its estimate is one of accuracies, a share of 1, which a reader sees in points."""
        is_in_their_unit = self.rule in IN_UNIT and not self.arguments.get("log")
        return is_in_their_unit and all(quantity.is_of_accuracies for quantity in self.quantities.values())

    def evidence(
        self, arrays: Mapping[str, Array], oracle: ArrayLike | None = None, places: ArrayLike | None = None
    ) -> Evidence:
        """The evidence of the claim's rule.

        Args:
            arrays: The quantities by name, (R,) or (R, P) each, at least one.
            oracle: The numbers of the oracle, where it has one.
            places: Where the points of the curves stand (P,), for a rule's argument `over`.

        Raises:
            ValueError: The rule does not take these arrays, or the numbers beside them.
        """
        rule = rule_of(self.rule)
        assert rule is not None
        replicas = len(next(iter(arrays.values())))
        numbers = {name: value for name, value in self.arguments.items() if name not in arrays}
        if oracle is not None and (name := oracle_argument(rule, self.arguments)):
            numbers[name] = oracle
        if places is not None:
            numbers["over"] = places
        return rule(
            **arrays,
            **{name: np.full(replicas, each) if name in SIDES else each for name, each in numbers.items()},
        )


@dataclass(frozen=True)
class Mistake:
    """A mistake in the published work, and the numbers that it changes."""

    __pydantic_config__ = STRICT

    what: str
    changes: str


@dataclass(frozen=True)
class Protocol:
    """The entry `experiment` of an experiment's file below `conf/experiment/`.

    Args:
        name: The name of the experiment.
        title: The title for the report.
        source: The source of the published numbers.
        arms: The keys and values that select the cells of each arm, by the arm's name.
        claims: The claims, which are judged together.
        published: The published numbers, which are compared with the measured ones.
        mistakes: The mistakes in the source.
        axes: The keys that the experiment's own grid sets.
        note: A remark on these results, such as that the data are not the protocol's.
        area: What the claims are about, such as signal, for an experiment of the atlas; None for any other.
        belief: What the field believes of them.
        traps: What makes them come out wrong.
    """

    __pydantic_config__ = STRICT

    name: str
    title: str
    source: str
    arms: Annotated[dict[str, dict[str, Any]], Field(min_length=1, description="names with keys and values")]
    claims: list[Claim]
    published: list[Published] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    axes: list[str] = field(default_factory=list)
    note: str | None = None
    area: str | None = None
    belief: str | None = None
    traps: list[str] = field(default_factory=list)

    @property
    def quantities(self) -> list[Quantity]:
        """The quantities of all published numbers and claims."""
        return [*self.published, *(quantity for claim in self.claims for quantity in claim.quantities.values())]

    def write(self, folder: Path) -> None:
        """Writes `experiment.json` into a sweep's folder, which marks it as a folder of this experiment."""
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / FILE, json.dumps(self.as_dict(), indent=1) + "\n")

    def as_dict(self) -> dict[str, Any]:
        """The protocol as plain values, which `parse` reads."""
        plain = asdict(self)
        for claim in plain["claims"]:
            claim.update(claim.pop("arguments"))
        return plain


def rule_of(name: Any) -> Callable[..., Evidence] | None:
    """The rule with a name of `statistics.rules`, or the function of one's own that a dotted path names.

    Args:
        name: The name or the path. None is returned where there is no such rule.
    """
    if not isinstance(name, str) or "." not in name:
        return RULES.get(name)
    return function_at(name)


def oracle_argument(rule: Callable[..., Evidence], given: Collection[str]) -> str | None:
    """The argument of a rule that an oracle is, one that must be given before others; None where all are given.

    >>> oracle_argument(RULES["slope"], ["values", "margin"]), oracle_argument(RULES["equivalence"], ["left", "margin"])
    ('near', 'right')
    """
    takes = inspect.signature(rule).parameters
    free = [name for name in ORACLES if name in takes and name not in given]
    return next((name for name in free if takes[name].default is inspect.Parameter.empty), next(iter(free), None))


def parse(config: Mapping[str, Any]) -> tuple[Protocol | None, list[Refusal]]:
    """The protocol that a config's `experiment` describes, or a refusal for each wrong entry."""
    plain = dict(config)
    refusals: list[Refusal] = []
    listed = config.get("claims") or []
    if not isinstance(listed, list):
        return None, [Refusal("experiment.claims", "wrong value", "a list of claims", "change it", value=listed)]
    claims = [_claim(i, claim, refusals) for i, claim in enumerate(listed)]
    plain["claims"] = [claim for claim in claims if claim is not None]
    try:
        protocol = TypeAdapter(Protocol).validate_python(plain)
    except ValidationError as error:
        return None, refusals + _refusals("experiment", Protocol, error)
    if refusals:
        return None, refusals
    refusals = [
        Refusal("experiment", f"{arm} is no arm", ", ".join(protocol.arms), "add it to experiment.arms")
        for quantity in protocol.quantities
        for arm in quantity.arms
        if arm not in protocol.arms
    ]
    return (None, list(dict.fromkeys(refusals))) if refusals else (protocol, [])


def unmeasured(protocol: Protocol, probes: Collection[str]) -> list[Refusal]:
    """A refusal for each quantity of the experiment that nothing measures.

    Args:
        protocol: The protocol of the experiment.
        probes: The names of all probes that exist. If the command leaves one out, there is no refusal: the claims that
            need it are not judged, and give the reason.
    """
    refusals = []
    for quantity in protocol.quantities:
        known: Collection[str] = CURVES if quantity.each else FINAL
        if quantity.moment != "end" and (quantity.each or quantity.metric in FINAL):
            got, allowed = f"{quantity.metric} has no moment {quantity.moment}", "a moment of what a probe measures"
            refusals.append(Refusal("experiment", got, allowed, "leave the moment out"))
            continue
        if quantity.metric in known or (not quantity.each and quantity.metric.partition("/")[0] in probes):
            continue
        known = [*known, *(f"{probe}/..." for probe in sorted(probes) if not quantity.each)]
        remedy = nearest(quantity.metric, known) or "change it"
        refusals.append(Refusal("experiment", f"nothing measures {quantity.metric}", ", ".join(known), remedy))
    return list(dict.fromkeys(refusals))


def _claim(i: int, claim: Any, refusals: list[Refusal]) -> Claim | None:
    """The claim, with its rule's arguments; None if it cannot be made. Each wrong entry adds to `refusals`."""
    key = f"experiment.claims[{i}]"
    if not isinstance(claim, Mapping) or not isinstance(claim.get("claim"), str):
        refusals.append(Refusal(key, "no claim", "claim, rule and the rule's arguments", "say what is claimed"))
        return None
    if (rule := rule_of(name := claim.get("rule"))) is None:
        allowed = f"{', '.join(RULES)}, or the dotted path of a function that gives Evidence"
        refusals.append(Refusal(f"{key}.rule", "no such rule", allowed, "choose one", value=name))
        return None
    arguments = {name: value for name, value in claim.items() if name not in BESIDE_RULE}
    smallest = claim.get("smallest")
    if smallest is not None and not (isinstance(smallest, int | float) and 0 < smallest < math.inf):
        allowed = "a number above 0, in the unit of the estimate"
        refusals.append(Refusal(f"{key}.smallest", "wrong value", allowed, "change it", value=smallest))
    parameters = inspect.signature(rule).parameters
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    given = list(arguments)
    if (oracle := claim.get("oracle")) is not None:
        if reason := unusable(oracle):
            refusals.append(Refusal(f"{key}.oracle", reason, ORACLE_FORMS, "change it", value=oracle))
        if (stands_for := oracle_argument(rule, arguments)) is None:
            allowed = f"a rule with one of {', '.join(ORACLES)} that is not given beside it"
            refusals.append(Refusal(f"{key}.oracle", f"{claim['rule']} has no place for it", allowed, "leave it out"))
            return None
        given.append(stands_for)
    if not set(needed) <= set(given) <= set(parameters):
        allowed = f"{', '.join(parameters)}, of which {', '.join(needed)} must be there"
        got = f"{claim['rule']} got {', '.join(given) or 'nothing'}"
        refusals.append(Refusal(key, got, allowed, _instead(given, needed, [*parameters, *BESIDE_RULE])))
        return None
    arguments = {name: arguments[name] for name in parameters if name in arguments}  # an oracle is of the first one
    for name, value in arguments.items():
        if isinstance(value, Mapping) and name not in SETTINGS:
            try:
                arguments[name] = TypeAdapter(Quantity).validate_python(dict(value))
            except ValidationError as error:
                refusals += _refusals(f"{key}.{name}", Quantity, error)
        elif not _is_setting(name, value):
            allowed = SETTINGS.get(name, "a quantity or a number")
            refusals.append(Refusal(f"{key}.{name}", "wrong value", allowed, "change it", value=value))
    found = Claim(claim["claim"], claim["rule"], arguments, smallest, oracle)
    if not any(refusal.key.startswith(f"{key}.") for refusal in refusals) and (reason := _objection(found)):
        got, _, allowed = reason.partition("; give ")
        allowed = f"{allowed}, for the rule {found.rule}" if allowed else f"what the rule {found.rule} takes"
        refusals.append(Refusal(key, got, allowed, "change it"))
    return found


def _is_setting(name: str, value: Any) -> bool:
    """Whether a value may be that of an argument which is no quantity; a rule refuses what only it knows."""
    if name == "over":
        return isinstance(value, str)
    return isinstance(value, int | float) and (name != "margin" or value > 0)


def _instead(given: Sequence[str], needed: Sequence[str], known: Sequence[str]) -> str:
    """What to do about arguments of which some are unknown or missing."""
    unknown = [name for name in given if name not in known]
    meant = [nearest(name, [each for each in known if each not in given]) for name in unknown]
    missing = [name for name in needed if name not in given]
    if near := next(filter(None, meant), None):
        return near
    return f"leave out {', '.join(unknown)}" if unknown else f"add {', '.join(missing)}"


def _objection(claim: Claim) -> str | None:
    """The error of the claim's rule on its arguments, tried on three replicas; None if there is no error."""
    if not claim.quantities:
        return "nothing of it is measured"
    if "over" in claim.arguments and any(len(quantity.arms) < 2 for quantity in claim.quantities.values()):
        return "over beside a curve of one arm; give a quantity of several arms, a point for each"
    known = [len(q.arms) if len(q.arms) > 1 else len(q.labels or ()) for q in claim.quantities.values()]
    known += [len(claim.oracle)] if isinstance(claim.oracle, list) else []
    points = next(filter(None, known), 3)
    oracle = 1.0 if isinstance(claim.oracle, str) else claim.oracle
    found: Any = None
    reason = None
    for may_be_curves in (True, False):  # a probe's quantity without a label may be a curve or one number
        shapes = {name: _is_curve(q) and (may_be_curves or _is_surely_curve(q)) for name, q in claim.quantities.items()}
        try:
            arrays = {name: np.ones((3, points) if it else 3) for name, it in shapes.items()}
            found = claim.evidence(arrays, oracle, np.arange(points) if "over" in claim.arguments else None)
            break
        except Exception as error:
            reason = reason or one_line(error)
    else:
        return reason
    if not isinstance(found, Evidence):
        return f"gives {type(found).__name__}, not Evidence"
    if claim.smallest is not None and found.region and np.isfinite(found.region).all():
        return f"smallest={claim.smallest:g} beside a margin, which is the smallest effect of interest"
    return None


def _is_surely_curve(quantity: Quantity) -> bool:
    """Whether a quantity is said to have several numbers for each replica."""
    return quantity.each is not None or quantity.labels is not None or len(quantity.arms) > 1


def _is_curve(quantity: Quantity) -> bool:
    """Whether a quantity has several numbers for each replica: a curve, or several or all labels of a probe."""
    if _is_surely_curve(quantity):
        return True
    return quantity.label is None and quantity.metric.partition("/")[0] not in ("train", "val", "test")


def _refusals(key: str, kind: type[Protocol | Quantity], error: ValidationError) -> list[Refusal]:
    """A refusal for each entry of a protocol or a quantity that is missing, unknown or wrong."""
    refusals: list[Refusal] = []
    for problem in error.errors(include_url=False):
        *parents, name = [part for part in problem["loc"] if isinstance(part, str)]
        at = key + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
        owner = {"published": Published, "mistakes": Mistake}.get(parents[0], kind) if parents else kind
        fields = {field.name: field.type for field in dataclasses.fields(owner)}
        if name not in fields:
            refusals.append(unknown_key(at, fields))
        elif problem["type"] == "missing":
            refusals.append(Refusal(at, "is missing", allowed(fields[name]), "set it in the experiment's file"))
        else:
            refusals.append(Refusal(at, "wrong value", allowed(fields[name]), "change it", value=problem["input"]))
    return list(dict.fromkeys(refusals))
