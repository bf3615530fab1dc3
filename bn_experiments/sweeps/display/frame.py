"""Frame: how a view of a sweep is laid out in a terminal of any width and height, with or without UTF-8."""

from datetime import timedelta

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.text import Text

from bn_experiments.records.progress import TESTING, Progress
from bn_experiments.sweeps.display.columns import (
    ASCII,
    GAP,
    UNICODE,
    Column,
    Entry,
    Signs,
    clipped,
    least,
    lines_in,
    others,
    table,
    width_of_first,
)
from bn_experiments.sweeps.display.watch import Ended, View

LEAST_BAR, MOST_BAR = 8, 24


class Frame:
    """A view as rich draws it, as wide and as high as the terminal is at that moment.

    The last line is empty: there the cursor stands, so that what is printed next begins a line, whatever ends the
    process.

    Args:
        view: The view.
    """

    def __init__(self, view: View):
        self.view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draws the view."""
        signs = ASCII if options.ascii_only else UNICODE
        yield Group(*laid_out(self.view, options.max_width, console.height, signs), Text())


def laid_out(view: View, width: int, height: int, signs: Signs) -> list[Text]:
    """The lines of a view: none is wider than the terminal, and there are at least two fewer than it has.

    Args:
        view: The view.
        width: The width of the terminal, in characters.
        height: The height of the terminal, in lines.
        signs: The characters that the terminal shows.
    """
    room = max(0, height - 3)  # beside the first line, the empty last one, and the one that the end of a display takes
    training, ended = _training(view, width, signs), _ended(view, width, signs)
    for_ended = min(lines_in(ended), max(room - lines_in(training), room // 3))
    lines = [_head(view, width), *clipped(training, room - for_ended, signs), *clipped(ended, for_ended, signs)]
    for line in lines:
        line.truncate(width)
    return lines


def _head(view: View, width: int) -> Text:
    failed = [f"{view.failed} failed"] if view.failed else []
    left = [] if view.left_s is None else [f"{clock(view.left_s)} left"]
    text = ", ".join([f"{view.done} of {view.cells} cells done", *failed, *(f"about {part}" for part in left)])
    short = ", ".join([f"{view.done}/{view.cells} done", *failed, *left])
    return Text(text if len(text) <= width else short, style="bold")


def clock(seconds: float) -> str:
    """A time in minutes and seconds, or with hours before them.

    >>> clock(70), clock(3670)
    ('01:10', '1:01:10')
    """
    return str(timedelta(seconds=round(seconds))).removeprefix("0:")


def _training(view: View, width: int, signs: Signs) -> list[Entry]:
    """The cells that are trained; where losses and accuracy leave no room for a name, they have a line of their own."""
    if not view.training:
        return []
    found = [own for _, own in view.training]
    names = Column("training", [_name_of_trained(name, own) for name, own in view.training])
    ends = [Column("epoch", [f"{own.epoch}/{own.epochs}" for own in found]), Column("   left", [*map(_left, found)])]
    numbers = [
        Column("train loss", [_number(own.loss, ".4f") for own in found]),
        Column("val loss", [_number(own.val_loss, ".4f") for own in found]),
        Column("val acc, %", [_number(own.val_acc, ".2f", 100) for own in found]),
    ]
    columns = [names, ends[0], *numbers, ends[1]]
    if least(columns) > width:
        columns = [names, *ends]
        first = width_of_first(columns, width)
        entries = [[line] for line in table(columns, first, signs)]
        for entry, texts in zip(entries[1:], zip(*(column.texts for column in numbers), strict=True), strict=True):
            text = "  ".join(f"{word} {text}" for word, text in zip(("loss", "val", "acc"), texts, strict=True) if text)
            entry.extend([Text(f"  {text}")] if text else [])
        return entries
    first = width_of_first(columns, width)
    size = min(MOST_BAR, width - first - others(columns) - GAP)
    if size >= LEAST_BAR:
        columns.insert(1, Column("", [_bar(own, size, signs) for own in found], "dim"))
    rows = table(columns, first, signs)
    for row in rows:
        row.highlight_words([signs.full], "not dim green")
    return [[row] for row in rows]


def _name_of_trained(name: str, found: Progress) -> str:
    beside = [found.stage] if found.is_tuning else []
    beside += [f"{found.diverged} diverged"] if found.diverged else []
    return ", ".join([name, *beside])


def _left(found: Progress) -> str:
    if found.stage == TESTING:
        return TESTING
    return "" if found.left_s is None else clock(found.left_s)


def _number(value: float | None, form: str, factor: float = 1) -> str:
    return "" if value is None else format(value * factor, form)


def _bar(found: Progress, size: int, signs: Signs) -> str:
    full = found.step * size // found.steps if found.steps else 0
    return signs.full * full + signs.empty * (size - full)


def _ended(view: View, width: int, signs: Signs) -> list[Entry]:
    """The cells that ended, each on a line; where the numbers leave no room for a name, the difference has its own."""
    if not view.ended:
        return []
    findings = [own.finding for own in view.ended]
    columns = [
        Column("done", [_name(own) for own in view.ended]),
        Column("test acc, % [99%]", [own.mean if own else "" for own in findings]),
        Column("n", [own.n if own else "" for own in findings]),
        Column(f"difference to {view.baseline} so far", [own.difference if own else "" for own in findings]),
    ]
    if least(columns) > width:
        columns.pop(2)
    difference = columns.pop() if least(columns) > width else None
    name = width_of_first(columns, width)
    entries = [[line] for line in table(columns, name, signs)]
    if difference:
        for entry, text in zip(entries, (difference.heading, *difference.texts), strict=True):
            entry.extend([Text(text.rjust(name + others(columns)), entry[0].style)] if text else [])
    for entry, own in zip(entries[1:], view.ended, strict=True):
        if own.outcome:
            entry[:] = [Text(f"{own.name}  {own.outcome}", "red")]
    entries[0].insert(0, Text())
    return entries


def _name(own: Ended) -> str:
    return own.name + (own.finding.beside if own.finding else "")
