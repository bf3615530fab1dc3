import io

import pytest
from rich.console import Console

from bn_experiments.claims.tables import show

HEADINGS = ("model", "arm", "mean", "n", "difference to none", "p")
ROWS = [
    [
        "mlp data.train_examples=4000",
        "bn placement=post",
        "65.68 [64.89, 66.47]",
        "10",
        "+4.60 [+3.66, +5.54]",
        "1.5e-06",
    ],
    ["lenet", "none (2 diverged)", "61.08 [60.25, 61.91]", "10", "", ""],
]


def printed(width, *, terminal):
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, markup=False)
    show(console, "a title that is rather long, so that it does not fit into a narrow terminal", HEADINGS, [ROWS])
    return console.file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
def test_no_number_is_cut_and_no_column_vanishes_at_any_width(width, terminal):
    text = printed(width, terminal=terminal)
    for row in ROWS:
        assert all(part in text for column in row[1:] for part in column.split() if column)
    assert all(heading in text for heading in HEADINGS[1:])


@pytest.mark.parametrize("width", [20, 80])
def test_in_a_file_or_a_pipe_each_row_is_one_line(width):
    lines = printed(width, terminal=False).splitlines()
    for row in ROWS:
        assert any(all(column in line for column in row) for line in lines)


def test_in_a_narrow_terminal_no_number_is_parted_by_the_end_of_a_line():
    lines = printed(32, terminal=True).splitlines()
    assert lines[lines.index("  difference to none") + 1] == "    +4.60 [+3.66, +5.54]"
    assert max(len(line) for line in lines if "data.train_examples" not in line) <= 32


def test_a_terminal_without_utf_8_gets_ascii_alone(tmp_path):
    for encoding, border in (("ascii", "-"), ("utf-8", "\N{BOX DRAWINGS LIGHT HORIZONTAL}")):
        with (tmp_path / encoding).open("w", encoding=encoding) as file:
            show(Console(file=file, width=130, force_terminal=True, color_system=None), "title", HEADINGS, [ROWS])
        assert border * 20 in (tmp_path / encoding).read_text(encoding=encoding)


def test_in_a_wide_terminal_lines_fit_and_in_a_narrow_one_each_column_has_its_line():
    assert max(map(len, printed(130, terminal=True).splitlines())) <= 130
    narrow = printed(50, terminal=True).splitlines()
    assert "  difference to none  +4.60 [+3.66, +5.54]" in narrow
    assert "  n  10" in narrow
