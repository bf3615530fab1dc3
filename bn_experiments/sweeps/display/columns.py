"""Columns: tables of a display, which fit a terminal because the first column is cut and the last rows are counted."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

GAP = 2  # characters between two columns
LEAST_NAME = 16  # characters to which a text of the first column is cut

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
        return max(map(cell_len, (self.heading, *self.texts)))


def others(columns: Sequence[Column]) -> int:
    """The width of the columns beside the first."""
    return sum(GAP + column.width for column in columns[1:])


def least(columns: Sequence[Column]) -> int:
    """The least width of a table, in which the first column is cut."""
    return others(columns) + min(LEAST_NAME, columns[0].width)


def width_of_first(columns: Sequence[Column], width: int) -> int:
    """The width that is left for the first column, at most that of its texts."""
    return max(1, min(columns[0].width, width - others(columns)))


def table(columns: Sequence[Column], first: int, signs: Signs) -> list[Text]:
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


def lines_in(entries: Sequence[Entry]) -> int:
    """The number of lines of some rows."""
    return sum(map(len, entries))


def clipped(entries: Sequence[Entry], room: int, signs: Signs) -> list[Text]:
    """The lines of as many rows as there is room for, the heading first, and how many more there are."""
    if lines_in(entries) <= room:
        return [line for entry in entries for line in entry]
    lines: list[Text] = []
    for i, entry in enumerate(entries):
        if len(lines) + len(entry) > room - 1:
            return [*lines, Text(f"{signs.dots} {len(entries) - max(1, i)} more", "dim")] if room > 0 else []
        lines += entry
    return lines
