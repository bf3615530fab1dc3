"""The space of a tuned arm: the values that are tried of some keys, the same in every arm of a grid."""

import copy
import inspect
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError

from bn_experiments.config import objects
from bn_experiments.config.objects import Config
from bn_experiments.data.batches import Batching
from bn_experiments.records.identity import digest, flat, is_number, settings
from bn_experiments.refusal import Refusal

SEED = 1000  # of the first tuning replica; the replicas that are judged have seeds from 0
REPLICAS = 10  # of each point, where `tune.replicas` says nothing
Sampler = Literal["tpe", "random"]
SAMPLER: Sampler = "tpe"
OF_TUNING = ("replicas", "trials", "sampler")  # the keys of `tune` that name no tuned key
DIGITS = 4  # to which the values of a range are rounded, so that a person can type them
RANGE = re.compile(r"\s*(?P<low>[^:_]+?)\s*(?<!\.)\.\.(?!\.)\s*(?P<high>[^:_]+?)\s*(:\s*(?P<count>\d+)\s*)?")
FORMS = "low..high:count, as 1e-3..10:9, or a list, as [0.01,0.1,1]; with tune.trials also low..high"
TUNABLE = {"optimizer", "scheduler", "norm", "model", "loss", "init", "data.batch_size"}
TUNABLE |= {"trainer.gradient_clip_norm", "trainer.adaptive_clip_factor"}
# Keys that leave the network's program as it is: the optimizers, and what the first values of parameters are
ACT_ON_VALUES = re.compile(r"optimizer\.(?!_target_)|scheduler\.(?!_target_|interval)|norm\.scale_init$")
OF_OUR_NORMS = ("norm.alpha", "norm.shift")  # which another one may hold as plain numbers

Point = Mapping[str, Any]  # the value of each tuned key


class Range(NamedTuple):
    """All numbers from the lower to the higher one, which a search draws from on a logarithmic axis."""

    low: float
    high: float
    whole: bool


Values = list[Any] | Range


def is_tuned(config: Config) -> bool:
    """Whether any key is tuned."""
    return bool(space_of(config))


def space_of(config: Config) -> dict[str, Values]:
    """What can be tried of each tuned key; empty where nothing is tuned.

    Raises:
        Refusal: It is not written in one of the forms, or is a whole range where every point is to be tried.
    """
    tried = {key: text for key, text in flat(config.get("tune") or {}).items() if key not in OF_TUNING}
    found = {key: values_of(key, text, whole=_takes_whole_numbers(config, key, text)) for key, text in tried.items()}
    for key, values in found.items():
        if isinstance(values, Range) and trials_of(config) is None:
            got, remedy = "says not how many values", f"write {tried[key]}:9, or add tune.trials=32 to search"
            raise Refusal(f"tune.{key}", got, FORMS, remedy, value=tried[key])
    return found


def values_of(key: str, text: Any, *, whole: bool = False) -> Values:
    """What a text, or a list, stands for: values, each once and in ascending order where they are numbers, or a range.

    low..high:count stands for `count` values in geometric steps, rounded to four significant digits.

    Args:
        key: The tuned key, for the refusals.
        text: What the configuration has.
        whole: Whether the key takes whole numbers, to which the values of a range are rounded.

    Raises:
        Refusal: It stands for none, or for one alone.

    >>> values_of("optimizer.lr", "1e-3..10:5"), values_of("optimizer.lr", [1, 0.5])
    ([0.001, 0.01, 0.1, 1.0, 10.0], [0.5, 1])
    >>> values_of("optimizer.lr", "1e-3..10")
    Range(low=0.001, high=10.0, whole=False)
    """
    if isinstance(text, str) and (found := RANGE.fullmatch(text)):
        return _from_low_to_high(key, text, found, whole)
    if not isinstance(text, list) or len(set(map(repr, text))) < 2:
        raise Refusal(f"tune.{key}", "are not several values", FORMS, "write it so", value=text)
    once = list({repr(value): value for value in text}.values())
    return sorted(once) if are_numbers(once) else once


def _takes_whole_numbers(config: Config, key: str, text: Any) -> bool:
    """Whether a key takes whole numbers and no others, by what its class says; else by how a range is written.

    What the command gives the key beside its range has no part in it, since that says nothing of the arm.
    """
    group, _, name = key.partition(".")
    if group == "trainer":
        return False
    parameter = None
    with suppress(Exception):  # of a class that cannot be imported, or has no such argument
        if group == "norm":
            owner: Any = objects.slot(config).import_target(dim=1)
        else:
            owner = Batching if group == "data" else objects.target(config, group)
        parameter = inspect.signature(owner, eval_str=True).parameters[name]
    if parameter is None or parameter.annotation is parameter.empty:
        return isinstance(text, str) and bool(re.match(r"\s*\d+\s*\.\.\s*\d+\s*(:|$)", text))
    takes = TypeAdapter(parameter.annotation, config=ConfigDict(arbitrary_types_allowed=True))
    return _is_taken(takes, 2) and not any(_is_taken(takes, value) for value in (0.5, 1.5))


def _is_taken(takes: "TypeAdapter[Any]", value: float) -> bool:
    try:
        takes.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether all of the values are numbers, which have an order."""
    return all(map(is_number, values))


def rounded(value: float) -> float:
    """A number with so few digits that a person can type it."""
    return float(f"{value:.{DIGITS}g}")


def _from_low_to_high(key: str, text: str, found: re.Match[str], whole: bool) -> Values:
    allowed = "two numbers above zero, the first the smaller, and two different values or more"
    refusal = Refusal(f"tune.{key}", "is no range", allowed, f"write it as {FORMS}", value=text)
    try:
        low, high = float(found["low"]), float(found["high"])
    except ValueError:
        raise refusal from None
    if not 0 < low < high < float("inf"):
        raise refusal
    if found["count"] is None:
        if whole and (low != int(low) or high != int(high)):
            raise refusal
        return Range(int(low), int(high), True) if whole else Range(low, high, False)
    steps = int(found["count"]) - 1
    exact = [low * (high / low) ** (i / steps) for i in range(steps + 1)] if steps else []
    values: list[Any] = [round(value) if whole else rounded(value) for value in exact]
    if len(set(values)) < max(steps + 1, 2):
        raise refusal
    return values


def replicas_of(config: Config) -> int:
    """The number of replicas that each point is tried with."""
    return int(config["tune"].get("replicas", REPLICAS))


def trials_of(config: Config) -> int | None:
    """How many points are tried of each arm; None where all of them are."""
    return (config.get("tune") or {}).get("trials")


def points(config: Config) -> list[Point]:
    """Every combination of the values that are tried; of those that give the same numbers, as without a norm, one."""
    made = [*points_of(space_of(config))]
    return list({mark(config, point): point for point in reversed(made)}.values())[::-1]


def points_of(space: Mapping[str, Values]) -> Iterator[Point]:
    """Every combination of values; of a range its ends alone."""
    values_of_keys = itertools.product(*_ends(space).values())
    return (dict(zip(space, values, strict=True)) for values in values_of_keys)


def _ends(space: Mapping[str, Values]) -> dict[str, list[Any]]:
    """The values of each key; of a range its ends."""
    return {key: [own.low, own.high] if isinstance(own, Range) else own for key, own in space.items()}


def samples(config: Config) -> list[Point]:
    """The points that are looked at before anything trains: all, or in a search each value, and the ends of a range."""
    if trials_of(config) is None:
        return points(config)
    ends = _ends(space_of(config))
    first = {key: values[0] for key, values in ends.items()}
    return [first, *({**first, key: value} for key, values in ends.items() for value in values[1:])]


def mark(config: Config, point: Point) -> str:
    """The digest of what decides the numbers at a point."""
    return digest(settings(at(config, point)))


def at(config: Config, point: Point) -> dict[str, Any]:
    """The configuration at a point: its keys have the values of the point, and nothing is tuned."""
    changed = {**copy.deepcopy(dict(config)), "tune": {}}
    for key, value in point.items():
        *groups, name = key.split(".")
        node = changed
        for group in groups:
            node = node[group]
        node[name] = value
    return changed


def edges(tried: Sequence[Point], point: Point) -> dict[str, str]:
    """Which numbers of a point are the smallest or the largest that were tried: `low` or `high` by key.

    >>> edges([{"optimizer.lr": 0.1, "init": "own"}, {"optimizer.lr": 1, "init": "own"}], {"optimizer.lr": 1})
    {'optimizer.lr': 'high'}
    """
    found: dict[str, str] = {}
    for key in point:
        values = [each[key] for each in tried]
        if all(type(value) in (int, float) for value in values) and min(values) < max(values):
            found |= {key: "low"} if point[key] == min(values) else {}
            found |= {key: "high"} if point[key] == max(values) else {}
    return found


def packs(config: Config, tried: Sequence[Point], at_once: int) -> list[list[Point]]:
    """Points in groups that can be trained as one stack, each with at most so many replicas.

    Args:
        config: The configuration of a tuned cell.
        tried: The points.
        at_once: The most replicas in a stack; one point is trained at once in any case.
    """
    by_program: dict[str, list[Point]] = {}
    for point in tried:
        program = digest({key: value for key, value in point.items() if not _acts_on_values(key, config)})
        by_program.setdefault(program, []).append(point)
    size = max(1, at_once // replicas_of(config))
    return [alike[i : i + size] for alike in by_program.values() for i in range(0, len(alike), size)]


def _acts_on_values(key: str, config: Config) -> bool:
    is_ours = str(config["norm"]["_target_"]).startswith("bn_experiments.")
    return bool(ACT_ON_VALUES.match(key)) or (key in OF_OUR_NORMS and is_ours)


def named(point: Point) -> str:
    """The name of a point, of which TensorBoard makes that of its curves.

    >>> named({"optimizer.lr": 0.1, "norm.scale_init": "ones"})
    'optimizer.lr=0.1,norm.scale_init=ones'
    """
    return ",".join(f"{key}={value}" for key, value in point.items()).replace("/", "_")
