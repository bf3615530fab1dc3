"""How often the test of a difference errs, by simulation: python -m benchmarks.calibration prints two tables.

Each draw is a set of n paired differences. Where their true mean is zero, "holds" is an error; its rate should stay at
.5% (one side of 1%) and may not exceed 5% for any distribution here.
"""

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from bn_experiments.statistics.evidence import ROUNDING, assess
from bn_experiments.statistics.intervals import LEVEL

DRAWS = 40_000
REPLICAS = (6, 10, 20)
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


def main() -> None:
    """Prints the rates of false verdicts, and the power."""
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


if __name__ == "__main__":
    main()
