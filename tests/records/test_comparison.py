"""Comparison records: how a folder is compared, which its cells know too where the record is lost."""

import pytest

from bn_experiments.records import comparison
from tests.cells_by_hand import write_cell


def test_looks_are_known_from_the_cells_where_their_record_is_lost(tmp_path):
    assert comparison.looks_in(tmp_path) == ()
    write_cell(tmp_path / "a", "bn", {"test/acc": [0.5] * 6})
    assert comparison.looks_in(tmp_path) == (), "a cell without looks"
    write_cell(tmp_path / "b", "none", {"test/acc": [0.5] * 6}, looks=[6, 12])
    assert comparison.looks_in(tmp_path) == (6, 12)
    write_cell(tmp_path / "a" / "seeds=6-11", "bn", {"test/acc": [0.5] * 6}, looks=[6, 12, 24])
    assert comparison.looks_in(tmp_path) == (6, 12, 24), "of runs of further seeds too, the most numerous"
    comparison.write(tmp_path, "ln", [6, 24])
    assert comparison.looks_in(tmp_path) == (6, 24), "the record of the folder comes first"
    assert comparison.baseline_in(tmp_path) == "ln"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"looks": 3}', '{"looks": ["a"]}', '{"baseline": 1'])
def test_a_damaged_record_says_nothing(tmp_path, text):
    (tmp_path / comparison.FILE).write_text(text)
    assert comparison.looks_in(tmp_path) == ()
