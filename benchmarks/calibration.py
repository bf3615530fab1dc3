"""How often the test of a difference errs, by simulation: python -m benchmarks.calibration prints four tables.

Each draw is a set of n paired differences. Where their true mean is zero, "holds" is an error; its rate should stay at
.5% (one side of 1%) and may not exceed 5% for any distribution here. The last two tables are of a claim that is judged
after 10, 20, 40 and 80 replicas: how often it is decided, in either direction, and with how many replicas on average.
"""

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy import special

from bn_experiments.statistics.evidence import ROUNDING, assess
from bn_experiments.statistics.intervals import LEVEL
from bn_experiments.statistics.looks import first_decided
from bn_experiments.statistics.sizes import doubling

DRAWS = 40_000
REPLICAS = (6, 10, 20)
LOOKS = doubling(10, 80)
EFFECTS = (0, 0.3, 0.5, 0.8, 1.2)
Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]


def exponential(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Exponential differences of mean zero; their rare large values lie above."""
    return rng.exponential(size=shape) - 1


def lognormal(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Lognormal(0, .5) differences of mean zero; their rare large values lie above."""
    return rng.lognormal(0, 0.5, size=shape) - np.exp(0.125)


def one_bad_in_ten(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Normal differences about .1 with spread .01, one in ten of them lower by 1: the mean is zero."""
    return 0.1 + rng.normal(0, 0.01, size=shape) - (rng.random(shape) < 0.1)


CENTRED: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, size=shape),
    "Student's t, 3 degrees of freedom": lambda rng, shape: rng.standard_t(3, size=shape),
    "Laplace": lambda rng, shape: rng.laplace(size=shape),
    "exponential - 1": exponential,
    "1 - exponential": lambda rng, shape: -exponential(rng, shape),
    "lognormal(.5) - its mean": lognormal,
    "its mean - lognormal(.5)": lambda rng, shape: -lognormal(rng, shape),
    "one replica in ten fails": one_bad_in_ten,
}


def holding(draw: Draw, n: int, level: float, shift: float = 0.0) -> float:
    """The share of draws of n differences, each shifted, in which "above zero" holds alone at a level."""
    rng = np.random.default_rng(n)
    values = draw(rng, (DRAWS, n)) + shift
    return float(np.mean([assess(row, 0.0, np.inf, ROUNDING).p <= level for row in values]))


def p_at_looks(values: NDArray[np.float64], sizes: Sequence[int]) -> NDArray[np.float64]:
    """The p of Student's test, in both directions, of the null that the mean is zero, at each look.

    Shapes: values (D, N), D draws of N replicas, to (D, K), for the first `sizes` replicas each.
    """
    n = np.array(sizes)
    sums, squares = (np.cumsum(values**power, axis=1)[:, n - 1] for power in (1, 2))  # (D, K)
    deviation = np.sqrt((squares - sums**2 / n) / (n - 1))
    return 2 * special.stdtr(n - 1, -np.abs(sums / n) / (deviation / np.sqrt(n)))


class OverLooks(NamedTuple):
    """The share of draws that some look decides, their mean number of replicas, and two shares to compare with.

    `peeking` is the share that some look decides without a correction, `at_once` the share that one test of all
    replicas decides.
    """

    decided: float
    replicas: float
    peeking: float
    at_once: float


def over_looks(effect: float, level: float, draws: int = DRAWS) -> OverLooks:
    """Normal differences with this mean in standard deviations, judged at each look until one decides.

    Args:
        effect: The true mean.
        level: The level over all looks together.
        draws: The number of simulated experiments.
    """
    values = np.random.default_rng(LOOKS[-1]).normal(effect, 1, (draws, LOOKS[-1]))
    ps = p_at_looks(values, LOOKS)
    at = first_decided(ps, len(LOOKS), level)
    replicas = np.array(LOOKS)[at].mean()  # -1, where no look decides, is the last look
    shares = (at >= 0, (ps <= level).any(axis=1), ps[:, -1] <= level)
    decided, peeking, at_once = (float(share.mean()) for share in shares)
    return OverLooks(decided, float(replicas), peeking, at_once)


def main() -> None:
    """Prints the rates of false verdicts, the power, and what looks cost and save."""
    print(f"\n| differences of mean zero | {' | '.join(f'n = {n}' for n in REPLICAS)} | at 5%, n = 10 |")
    print("|---|" + "--:|" * (len(REPLICAS) + 1))
    for name, draw in track(CENTRED.items(), "calibration", console=None, disable=not sys.stdout.isatty()):
        rates = [holding(draw, n, LEVEL) for n in REPLICAS]
        print(f"| {name} | {' | '.join(f'{rate:.1%}' for rate in rates)} | {holding(draw, 10, 0.05):.1%} |", flush=True)
    print(f"\n| true mean / its standard error | {' | '.join(f'n = {n}' for n in REPLICAS)} |")
    print("|---|" + "--:|" * len(REPLICAS))
    for t in (3, 4, 5, 6):
        rates = [holding(CENTRED["normal"], n, LEVEL, t / n**0.5) for n in REPLICAS]
        print(f"| {t} | {' | '.join(f'{rate:.0%}' for rate in rates)} |", flush=True)
    for level in (0.05, LEVEL):
        print(f"\n| d, level {level:.0%} | decided | mean n | peeking | {LOOKS[-1]} at once |")
        print("|---|" + "--:|" * 4)
        for effect in EFFECTS:
            decided, replicas, peeking, at_once = over_looks(effect, level)
            print(f"| {effect} | {decided:.1%} | {replicas:.0f} | {peeking:.1%} | {at_once:.1%} |", flush=True)


if __name__ == "__main__":
    main()
