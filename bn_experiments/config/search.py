"""Search: the points of a space that are tried where it is too large to try all of them; Optuna proposes them."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from bn_experiments.config import space
from bn_experiments.config.objects import Config
from bn_experiments.config.space import Point, Range
from bn_experiments.refusal import Refusal

MOST_ASKED = 10  # times a point, until one comes that was not tried
AT_ONCE = 8  # points that are proposed at once, and so trained as one stack; a fixed number, as it decides on points


def proposed(config: Config, tried: Sequence[Point], accuracies: Sequence[float]) -> list[Point]:
    """The points to try next; none where all were tried, or as many as `tune.trials` says.

    Without `tune.trials` they are all points of the space, at once. With it, Optuna proposes some at a time, from what
    came out so far: with `tune.sampler=tpe` by the tree-structured Parzen estimator, which replaces points that have no
    result yet by bad ones; with `random` at random. The first ones are the same in every arm, and all of them the same
    whenever they are asked for: a function of what was tried alone.

    Args:
        config: The configuration of a tuned cell.
        tried: The points that were tried, in their order.
        accuracies: The mean validation accuracy of each.

    Raises:
        Refusal: Optuna is not installed.

    Source: Bergstra et al. 2011, Algorithms for hyper-parameter optimization; Akiba et al. 2019, arXiv:1907.10902.
    """
    trials = space.trials_of(config)
    if trials is None:
        return [] if tried else space.points(config)
    count = min(AT_ONCE, trials - len(tried))
    if count < 1:
        return []
    optuna = _optuna()
    of_key = space.space_of(config)
    distributions = {key: _distribution(values) for key, values in of_key.items()}
    study = optuna.create_study(direction="maximize", sampler=_sampler(config, seed=len(tried)))
    for point, accuracy in zip(tried, accuracies, strict=True):
        params = {key: _as_param(value, of_key[key]) for key, value in point.items()}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=accuracy))
    found: dict[str, Point] = {}
    there = {repr(point) for point in tried}
    for _ in range(MOST_ASKED * count):
        trial = study.ask(distributions)
        point = {key: _as_value(trial.params[key], values) for key, values in of_key.items()}
        if repr(point) not in there:
            found[repr(point)] = point
        if len(found) == count:
            break
    if len(found) < count:  # of few points most were tried
        left = (point for point in space.points_of(of_key) if repr(point) not in there | found.keys())
        found |= {repr(point): point for point in itertools.islice(left, count - len(found))}
    return [*found.values()]


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        remedy = "install it with: pip install optuna; or try all points of a grid, without tune.trials"
        raise Refusal("tune.trials", "optuna is not installed", "optuna 4 or later", remedy) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _sampler(config: Config, seed: int) -> Any:
    samplers = _optuna().samplers
    if config["tune"].get("sampler", space.SAMPLER) == "random":
        return samplers.RandomSampler(seed=seed)
    return samplers.TPESampler(seed=seed, constant_liar=True)


def _distribution(values: space.Values) -> Any:
    """What Optuna draws for a key: a number of a range, or the place of a value in a list."""
    distributions = _optuna().distributions
    if isinstance(values, Range):
        if values.whole:
            return distributions.IntDistribution(values.low, values.high, log=True)
        return distributions.FloatDistribution(values.low, values.high, log=True)
    if space.are_numbers(values):
        return distributions.IntDistribution(0, len(values) - 1)  # they are in order
    return distributions.CategoricalDistribution(range(len(values)))


def _as_value(param: Any, values: space.Values) -> Any:
    """The value of the key for what Optuna drew; a number of a range is rounded, as a person would type it."""
    if not isinstance(values, Range):
        return values[param]
    return param if values.whole else min(max(space.rounded(param), values.low), values.high)


def _as_param(value: Any, values: space.Values) -> Any:
    return value if isinstance(values, Range) else [*map(repr, values)].index(repr(value))


def edges(config: Config, tried: Sequence[Point], point: Point) -> dict[str, str]:
    """Which numbers of a point lie at an end of what could be tried: `low` or `high` by key.

    Of a list these are the smallest and the largest, of a range its outermost tenths, on a logarithmic axis.
    """
    found = space.edges(tried, point)
    for key, values in space.space_of(config).items():
        if isinstance(values, Range):
            found.pop(key, None)
            at = math.log(point[key] / values.low) / math.log(values.high / values.low)
            found |= {key: "low"} if at < 0.1 else {key: "high"} if at > 0.9 else {}
    return found
