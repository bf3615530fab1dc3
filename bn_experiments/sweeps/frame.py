"""Frame: how a view of a sweep is laid out in a terminal of any width and height, with or without UTF-8."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.text import Text

from bn_experiments.records.progress import TESTING, Progress
from bn_experiments.sweeps.watch import Ended, View

GAP = 2  # characters between two columns
LEAST_NAME = 16  # characters to which a name is cut
LEAST_BAR, MOST_BAR = 8, 24
BAR = "bar"
DROPPED = (BAR, "train loss", "val loss", "val acc, %")  # the columns that a narrow terminal lacks, in this order

Entry = list[Text]  # the lines of a row


class Signs(NamedTuple):
    """The characters that a terminal shows: for what is left out, and for the full and the empty part of a bar."""

    dots: str
    full: str
    empty: str


UNICODE = Signs("\N{HORIZONTAL ELLIPSIS}", "\N{BOX DRAWINGS HEAVY HORIZONTAL}", "\N{BOX DRAWINGS LIGHT HORIZONTAL}")
ASCII = Signs("..", "#", "-")


class Column(NamedTuple):
    """A column of a table.

    Args:
        heading: The heading.
        texts: A text for each row.
        style: The style of the texts.
    """

    heading: str
    texts: Sequence[str]
    style: str = ""

    @property
    def width(self) -> int:
        """The width of the widest text."""
        return LEAST_BAR if self.heading == BAR else max(map(cell_len, (self.heading, *self.texts)))


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
    for_ended = min(_height(ended), max(room - _height(training), room // 3))
    lines = [_head(view), *_clipped(training, room - for_ended, signs), *_clipped(ended, for_ended, signs)]
    for line in lines:
        line.truncate(width)
    return lines


def _head(view: View) -> Text:
    parts = [f"{view.done} of {view.cells} cells done"]
    parts += [f"{view.failed} failed"] if view.failed else []
    parts += [f"about {clock(view.left_s)} left"] if view.left_s is not None else []
    return Text(", ".join(parts), style="bold")


def clock(seconds: float) -> str:
    """A time in minutes and seconds, or with hours before them.

    >>> clock(70), clock(3670)
    ('01:10', '1:01:10')
    """
    return str(timedelta(seconds=round(seconds))).removeprefix("0:")


def _training(view: View, width: int, signs: Signs) -> list[Entry]:
    if not view.training:
        return []
    found = [own for _, own in view.training]
    columns = [
        Column("training", [f"{name}, {own.stage}" if own.is_tuning else name for name, own in view.training]),
        Column(BAR, [""] * len(found), "green"),
        Column("epoch", [f"{own.epoch}/{own.epochs}" for own in found]),
        Column("train loss", [_number(own.loss, ".4f") for own in found]),
        Column("val loss", [_number(own.val_loss, ".4f") for own in found]),
        Column("val acc, %", [_number(own.val_acc, ".2f", 100) for own in found]),
        Column("   left", [_left(own) for own in found]),
    ]
    dropped = list(DROPPED)
    while dropped and _least(columns) > width:
        columns = [column for column in columns if column.heading != dropped[0]]
        dropped.pop(0)
    own = _width_of_first(columns, width)
    if BAR in dropped:
        size = min(MOST_BAR, LEAST_BAR + max(0, width - own - _others(columns)))
        columns[1] = Column("", [_bar(each, size, signs) for each in found], "green")
    return [[line] for line in _table(columns, own, signs)]


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
    if _least(columns) > width:
        columns.pop(2)
    difference = columns.pop() if _least(columns) > width else None
    name = _width_of_first(columns, width)
    entries = [[line] for line in _table(columns, name, signs)]
    if difference:
        for entry, text in zip(entries, (difference.heading, *difference.texts), strict=True):
            entry.extend([Text(text.rjust(name + _others(columns)), entry[0].style)] if text else [])
    for entry, own in zip(entries[1:], view.ended, strict=True):
        if own.outcome:
            entry[:] = [Text(f"{own.name}  {own.outcome}", "red")]
    entries[0].insert(0, Text())
    return entries


def _name(own: Ended) -> str:
    return own.name + (own.finding.beside if own.finding else "")


def _others(columns: Sequence[Column]) -> int:
    return sum(GAP + column.width for column in columns[1:])


def _least(columns: Sequence[Column]) -> int:
    """The least width of a table, in which the first column is cut."""
    return _others(columns) + min(LEAST_NAME, columns[0].width)


def _width_of_first(columns: Sequence[Column], width: int) -> int:
    return max(1, min(columns[0].width, width - _others(columns)))


def _table(columns: Sequence[Column], first: int, signs: Signs) -> list[Text]:
    """The heading and the rows of a table: texts of the first column to the left, the others to the right."""
    lines = [Text(style="dim"), *(Text() for _ in columns[0].texts)]
    for column in columns:
        for i, (line, text) in enumerate(zip(lines, (column.heading, *column.texts), strict=True)):
            padded = cut(text, first, signs.dots) if column is columns[0] else " " * GAP + text.rjust(column.width)
            line.append(padded, column.style if i else "")
    return lines


def cut(text: str, width: int, dots: str) -> str:
    """A text of exactly this width, without its middle where it is too wide.

    >>> cut("residual_mlp none", 10, ".."), cut("mlp", 5, "..")
    ('resi..none', 'mlp  ')
    """
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    kept = max(0, width - len(dots))
    return set_cell_size(text, kept - kept // 2) + dots + text[len(text) - kept // 2 :]


def _height(entries: Sequence[Entry]) -> int:
    return sum(map(len, entries))


def _clipped(entries: Sequence[Entry], room: int, signs: Signs) -> list[Text]:
    """The lines of as many rows as there is room for, the heading first, and how many more there are."""
    if _height(entries) <= room:
        return [line for entry in entries for line in entry]
    lines: list[Text] = []
    for i, entry in enumerate(entries):
        if len(lines) + len(entry) > room - 1:
            return [*lines, Text(f"{signs.dots} {len(entries) - max(1, i)} more", "dim")] if room > 0 else []
        lines += entry
    return lines
