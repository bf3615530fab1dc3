"""A refusal is one line with four fields, wherever it goes."""

import pickle
from pathlib import Path

from bn_experiments.refusal import Refusal, unknown_key

REFUSED = Refusal("data.batch_size", "leaves a batch of one", "two or more", "change it", value=64)


def test_its_text_is_one_line_with_key_value_and_fields_in_order():
    assert str(REFUSED) == "data.batch_size=64: leaves a batch of one; allowed: two or more; change it"
    assert str(Refusal("a\nb", "c\x1b[0m", "d", "e")) == "a b: c [0m; allowed: d; e"


def test_it_comes_out_of_another_process_as_it_went_in():
    again = pickle.loads(pickle.dumps(REFUSED))
    assert again == REFUSED
    assert (again.key, again.got, again.allowed, again.remedy) == (
        "data.batch_size=64",
        "leaves a batch of one",
        "two or more",
        "change it",
    )
    assert len({again, REFUSED}) == 1


def test_a_value_that_has_no_json_is_shown_too():
    assert str(Refusal("paths.output_dir", "x", "y", "z", value=Path("/a b"))).startswith("paths.output_dir=/a b: ")
    assert str(Refusal("norm.eps", "x", "y", "z", value=float("nan"))).startswith("norm.eps=nan: ")
    assert str(Refusal("seed", "x", "y", "z", value=None)).startswith("seed=null: ")


def test_a_note_stands_behind_the_remedy_and_leaves_the_refusal_alone():
    assert str(REFUSED.noting("2 of 4 cells")).endswith("; change it (2 of 4 cells)")
    assert str(REFUSED).endswith("; change it")


def test_a_key_that_is_nearly_right_is_suggested():
    assert unknown_key("model.hiden", ["model.hidden", "model.dropout"]).remedy == "did you mean model.hidden?"
    assert unknown_key("model.xyz", ["model.hidden"]).remedy == "leave it out"
