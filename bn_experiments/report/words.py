"""Words: quantities, numbers and settings as a reader is shown them."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from bn_experiments.claims import estimates, verdicts
from bn_experiments.claims.contexts import texts_of
from bn_experiments.claims.protocol import Published
from bn_experiments.claims.published import Comparison
from bn_experiments.claims.verdicts import Verdict
from bn_experiments.figures.arms import Arm
from bn_experiments.records import quantities
from bn_experiments.statistics.decisions import Outcome

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
QUANTITIES = {
    "train/running_loss": "running training loss",
    "train/step_loss": "training loss of each step",
    "val/loss": "validation loss",
    "val/acc": "validation accuracy",
    "test/loss": "test loss",
    "test/acc": "test accuracy",
}
SYMBOLS: dict[Outcome | Literal["not judged"], str] = {
    "holds": "✓",
    "fails": "✗",
    "inconclusive": "~",
    "not judged": DASH,
}
IMAGES = "The data came from a folder of images, not from the data set's own files."


def covers(config: Mapping[str, Any]) -> str:
    """What differs between the replicas of a cell, which is what its intervals cover, and what does not.

    >>> data = {"shuffle": True, "batch_size": 64, "split_seed": 0}
    >>> covers({"data": data, "trainer": {"max_epochs": 20}})[:84]
    'Intervals cover what differs between replicas: initial weights, order of batches. Th'
    """
    data, trained = config.get("data", {}), config["trainer"]["max_epochs"] != 0
    drawn = ["initial weights"]
    drawn += ["order of batches"] if trained and data.get("shuffle") and data.get("batch_size") != "full" else []
    drawn += ["augmentation"] if trained and config.get("augmentation") else []
    if data.get("split_seed") == "replica":
        drawn += ["split of the data (and the data, where they are generated)"]
        shared = "A published test set is the same for all."
    else:
        shared = "The data and their split are the same for all; with data.split_seed=replica they are not."
    return f"Intervals cover what differs between replicas: {', '.join(drawn)}. {shared}"


def quantity(published: Published, named: Mapping[str, str]) -> str:
    """What was published, in words.

    Args:
        published: The published numbers.
        named: The probes' quantities in words, by name.

    >>> quantity(Published("bn", "train/running_loss", each="epoch"), {})
    'running training loss by epoch'
    >>> quantity(Published("bn", "signal/size", label="input"), {"signal/size": "size of the signal"})
    'size of the signal, input'
    """
    text = {**QUANTITIES, **named}.get(published.metric, published.metric)
    if published.each == "epoch":
        text += " by epoch"
    elif published.each:
        text += f", means of {published.each}"
    if published.label:
        text += f", {published.label}"
    return text + (" at the start" if published.moment == "start" else "")


def axis(comparison: Comparison, arms: dict[str, Arm]) -> tuple[str, list[str]]:
    """What the points of a published curve are, and the name of each."""
    published, count = comparison.published, len(comparison.mean)
    if published.each:
        size = 1 if published.each == "epoch" else int(published.each.split()[0])
        return published.each.split()[-1].rstrip("s"), [str(size * (i + 1)) for i in range(count)]
    probe = published.metric.partition("/")[0]
    arrays = quantities.probes(arms[published.arm].folder)
    keys = [key for key, array in arrays.items() if key.startswith(f"{probe}/") and array.dtype.kind == "U"]
    heading, labels = "point", [published.metric]
    if keys:
        heading, labels = keys[0].partition("/")[2], quantities.axis_labels(arrays, probe)
    if published.label is not None:
        labels = [published.label]
    return heading, (published.labels or labels)[:count]


def as_published(values: Sequence[float]) -> list[str]:
    """Published numbers with all the digits that they have.

    >>> as_published([0.5, 0.125]), as_published([967.0, 1126.0])
    (['0.500', '0.125'], ['967', '1126'])
    """
    texts = [f"{value:.10f}".rstrip("0").rstrip(".") for value in values]
    digits = max((len(text.partition(".")[2]) for text in texts), default=0)
    return [f"{value:.{digits}f}" for value in values]


def decimals(values: Iterable[float]) -> int:
    """The decimals that give the largest of the values four digits, at most six.

    >>> decimals([0.29, 0.02]), decimals([1.5]), decimals([1128.0]), decimals([])
    (4, 3, 0, 4)
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0:
        return 4
    return min(6, max(0, 3 - math.floor(math.log10(largest))))


def between(low: float, high: float, digits: int, sign: str = "") -> str:
    """An interval; a dash where there is none.

    >>> between(0.25, 0.5, 2)
    '[0.25, 0.50]'
    """
    return DASH if math.isnan(low) else f"[{number(low, digits, sign)}, {number(high, digits, sign)}]"


def statistic(verdict: Verdict) -> str:
    """What the estimate of a verdict is, in words."""
    return estimates.statistic(verdict.rule, verdict.at, verdict.over).replace(" - ", f" {MINUS} ")


def estimate(verdict: Verdict) -> str:
    """The estimate as the terminal shows it, with a true minus sign; a dash where there is none."""
    return verdicts.estimate(verdict).replace("-", MINUS) or DASH


def difference(row: Mapping[Any, Any], factor: float, digits: int) -> str:
    """The difference of an arm to its baseline, or why there is none; nothing for the baseline itself.

    Args:
        row: A row of `summary.summarise`.
        factor: The factor of the numbers, 100 for per cent.
        digits: The decimals.
    """
    if row["at_chance"]:
        return "at chance"
    if isinstance(row["baseline"], str) and math.isnan(row["difference"]):
        return "not judged"
    found = [row[key] for key in ("difference", "difference_low", "difference_high")]
    return with_interval(found, factor, digits, sign="+")


def ordinal(number: int) -> str:
    """A place in a row.

    >>> [ordinal(i) for i in (1, 2, 3, 4, 11, 22)]
    ['1st', '2nd', '3rd', '4th', '11th', '22nd']
    """
    return f"{number}{'th' if number % 100 in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def p_value(p: float | None) -> str:
    """A p-value with two digits; nothing where there is none."""
    return "" if p is None or math.isnan(p) else f"{p:.2g}"


def portable(context: str) -> list[str]:
    """The settings of a context that hold on every machine: those without an absolute path.

    >>> portable("data.root=data/x data.root='/x' data.root=~/x a=[C:/x]")
    ['data.root=data/x']
    """
    path = re.compile(r"(^|[\s'\"\[({,:=])(/|~|\\|[A-Za-z]:[\\/])")
    return [text for text in texts_of(context) if not path.search(text.partition("=")[2])]


def as_markdown(text: str) -> str:
    r"""Text on one line that Markdown takes as it is, in a table too.

    >>> as_markdown("a|b <i> x_1*")
    'a\\|b &lt;i&gt; x\\_1\\*'
    """
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"[\\`*_|\[\]]", r"\\\g<0>", text)


def one_of(count: int, noun: str) -> str:
    """A count with its noun.

    >>> one_of(1, "cell"), one_of(2, "cell")
    ('1 cell', '2 cells')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def number(value: float, digits: int, sign: str = "") -> str:
    """A number with so many decimals, or with an exponent where it is huge.

    >>> number(0.5, 1, "+"), number(-0.5, 2) == MINUS + "0.50", number(1e30, 2)
    ('+0.5', True, '1e+30')
    """
    text = f"{value:{sign}.{digits}f}" if abs(value) < 1e7 else f"{value:{sign}.4g}"
    return text.replace("-", MINUS)


def with_interval(estimate: Sequence[float], factor: float, digits: int, sign: str = "") -> str:
    """A mean with its interval, where it has one; nothing for NaN.

    >>> with_interval([0.5, 0.25, 0.75], 100, 1), with_interval([float("nan")] * 3, 1, 1)
    ('50.0 [25.0, 75.0]', '')
    """
    mean, low, high = (factor * value for value in estimate)
    if math.isnan(mean):
        return ""
    text = number(mean, digits, sign)
    return text if math.isnan(low) else f"{text} {between(low, high, digits, sign)}"
