"""Tables in the terminal: a number is never cut, and where a table is too wide its rows are written as blocks."""

from collections.abc import Sequence
from io import StringIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

MIXED = "\N{DAGGER}"  # beside what compares runs between which the code changed
MIXED_CODE = f" {MIXED}: the code changed between the runs that are compared."
LEAST_TEXT = 24  # characters to which the first column may be folded
GAP = 3  # characters between two columns
ASCII_HEAD = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)

Groups = Sequence[Sequence[Sequence[str]]]


def show(console: Console, title: str, headings: Sequence[str], groups: Groups) -> None:
    """Prints a table whose first column is text that may be folded, and whose other columns stay whole.

    Output that is no terminal has no width: a table in a file or a pipe is as wide as it needs to be. In a terminal
    that is too narrow, each row is a block of lines instead, a line for each column, or two.

    Args:
        console: The console.
        title: The title of the table.
        headings: The heading of each column.
        groups: The rows, a text for each column, in groups with a gap between them.
    """
    rows = [headings, *(row for rows in groups for row in rows)]
    widths = [max(cell_len(line) for row in rows for line in row[i].splitlines() or [""]) for i in range(len(headings))]
    others = sum(widths[1:]) + GAP * len(widths)
    console.print(title, style="italic", soft_wrap=not console.is_terminal)
    if not console.is_terminal:
        _print_table(console, headings, groups, widths, others + widths[0] + GAP)
    elif others + min(widths[0], LEAST_TEXT) <= console.width:
        widths[0] = min(widths[0], console.width - others)
        _print_table(console, headings, groups, widths, console.width)
    else:
        _print_blocks(console, headings, groups)


def _print_table(console: Console, headings: Sequence[str], groups: Groups, widths: Sequence[int], width: int) -> None:
    table = Table(box=ASCII_HEAD if console.options.ascii_only else box.SIMPLE_HEAD, pad_edge=False)
    for column, (heading, own) in enumerate(zip(headings, widths, strict=True)):
        is_number = any(row[column][:1] in tuple("+-0123456789") for rows in groups for row in rows)
        table.add_column(heading, justify="right" if is_number else "left", width=own, overflow="fold")
    for rows in groups:
        for row in rows:
            table.add_row(*row)
        table.add_section()
    text = StringIO()
    Console(file=text, width=width, markup=False, highlight=False).print(table)
    console.print("\n".join(line.rstrip() for line in text.getvalue().splitlines()), soft_wrap=True)


def _print_blocks(console: Console, headings: Sequence[str], groups: Groups) -> None:
    for row in (row for rows in groups for row in rows):
        console.print(row[0], style="bold", soft_wrap=True)
        for heading, text in zip(headings[1:], row[1:], strict=True):
            if text:
                fits = cell_len(f"  {heading}  {text}") <= console.width
                console.print(f"  {heading}  {text}" if fits else f"  {heading}\n    {text}", soft_wrap=True)
