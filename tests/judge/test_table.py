import math

import pytest

from bn_experiments.judge.table import read
from bn_experiments.refusal import Refusal

WIDE = """arm,seed,acc,loss
bn,0,0.9,0.1
none,0,0.8,0.2
bn,1,0.91,0.11
none,1,0.81,0.21
"""
LONG = """arm,seed,metric,value
bn,0,acc,0.9
bn,0,loss,0.1
none,0,acc,0.8
none,0,loss,0.2
bn,1,acc,0.91
none,1,acc,0.81
bn,1,loss,0.11
none,1,loss,0.21
"""
WANDB = """"Name","State","Notes","User","Tags","Created","Runtime","Sweep","norm","seed","acc","loss"
"a-1","finished","-","ada","","2026-03-02T10:01:00.000Z","41","","bn","0","0.9","0.1"
"b-2","finished","-","ada","","2026-03-02T10:01:00.000Z","41","","none","0","0.8","0.2"
"c-3","crashed","-","ada","","2026-03-02T10:01:00.000Z","11","","bn","1","",""
"d-4","finished","-","ada","","2026-03-02T10:01:00.000Z","41","","bn","1","0.91","0.11"
"e-5","running","-","ada","","2026-03-02T10:01:00.000Z","11","","none","2","0.1","2.3"
"f-6","finished","-","ada","","2026-03-02T10:01:00.000Z","41","","none","1","0.81","0.21"
"""
MLFLOW = """,run_id,experiment_id,status,metrics.acc,metrics.loss,params.seed,params.norm,tags.mlflow.runName
0,aa,1,FINISHED,0.9,0.1,0,bn,a-1
1,bb,1,FINISHED,0.8,0.2,0,none,b-2
2,cc,1,FAILED,,,1,bn,c-3
3,dd,1,FINISHED,0.91,0.11,1,bn,d-4
4,ee,1,FINISHED,0.81,0.21,1,none,e-5
"""
NUMBERS = {
    "acc": {"bn": {0: 0.9, 1: 0.91}, "none": {0: 0.8, 1: 0.81}},
    "loss": {"bn": {0: 0.1, 1: 0.11}, "none": {0: 0.2, 1: 0.21}},
}


@pytest.fixture
def table(tmp_path):
    """Reads a text as a CSV file."""

    def made(text, metrics=("acc", "loss"), **columns):
        file = tmp_path / "runs.csv"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(file, metrics, **columns)

    return made


def refused(table, text, metrics=("acc",), **columns):
    with pytest.raises(Refusal) as found:
        table(text, metrics, **columns)
    assert "\n" not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize("text", [WIDE, LONG, WANDB, MLFLOW, "\ufeff" + WIDE.replace(",", " , ")])
def test_a_wide_table_a_long_one_and_those_of_wandb_and_mlflow_give_the_same_numbers(table, text):
    assert table(text).numbers == NUMBERS


def test_runs_that_are_not_finished_are_named_and_left_out(table):
    assert table(WANDB).left_out == ["not finished, left out: c-3 (crashed), e-5 (running)"]
    assert table(MLFLOW).left_out == ["not finished, left out: c-3 (failed)"]
    assert table(WIDE).left_out == []
    api = "state,name,arm,seed,acc\nfinished,a,bn,0,1\nfinished,b,none,0,2\nkilled,c,none,1,3\n"
    assert table(api, ["acc"]).left_out == ["not finished, left out: c (killed)"]


def test_a_column_called_state_that_holds_something_else_is_left_alone(table):
    text = "state,arm,seed,acc\nTexas,bn,0,1\nOhio,none,0,2\n"
    assert table(text, ["acc"]).numbers == {"acc": {"bn": {0: 1.0}, "none": {0: 2.0}}}


def test_an_arm_that_lacks_a_seed_is_named(table):
    assert table(WIDE + "bn,2,0.9,0.1\nbn,3,0.9,0.1\n").left_out == [
        "arm none has no finished run of seed 2, 3, of which there is then no pair"
    ]


def test_all_metrics_are_those_of_a_long_table_or_those_that_mlflow_marks(table):
    assert table(LONG, ()).numbers == table(MLFLOW, ()).numbers == NUMBERS
    assert refused(table, WIDE, ()).startswith("--metric: no metric is named; allowed: arm, seed, acc, loss; ")


def test_columns_may_have_any_name_also_with_mlflows_prefix(table):
    text = WIDE.replace("arm,seed", "method,run no")
    assert table(text, arm="method", seed="run no").numbers == NUMBERS
    text = MLFLOW.replace("params.norm", "params.layer").replace("params.seed", "params.s")
    assert table(text, arm="layer", seed="params.s").numbers == NUMBERS
    assert table(MLFLOW, ["metrics.acc"]).numbers == {"metrics.acc": NUMBERS["acc"]}


def test_seeds_are_numbers_however_they_are_written_or_else_text(table):
    text = WIDE.replace(",0,", ",0.0,").replace("none,1,", "none,01,")
    assert table(text).numbers == NUMBERS
    assert set(table(WIDE.replace(",0,", ",a,")).numbers["acc"]["bn"]) == {"a", "1"}


@pytest.mark.parametrize("text", ["", "nan", "NaN", "None", "null"])
def test_a_run_without_a_number_has_none(table, text):
    assert math.isnan(table(WIDE.replace("0.91", text)).numbers["acc"]["bn"][1])


def test_a_row_that_ends_early_has_no_numbers(table):
    assert math.isnan(table(WIDE + "bn,2\n").numbers["acc"]["bn"][2])


def test_a_number_that_is_not_finite_is_none_and_others_are_read_as_python_writes_them(table):
    found = table(WIDE.replace("0.91", "-Infinity").replace("0.9,", "9e-1,")).numbers["acc"]["bn"]
    assert found[0] == 0.9
    assert math.isnan(found[1])


def test_a_state_that_no_tool_has_is_not_finished(table):
    assert table(WANDB.replace("running", "lost")).left_out == ["not finished, left out: c-3 (crashed), e-5 (lost)"]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (WIDE + "bn,1,0.5,0.5\n", "row 5: arm bn has seed 1 twice; allowed: one run for each arm and seed; delete one"),
        (WIDE + "bn,1.0,0.5,0.5\n", "row 5: arm bn has seed 1 twice"),
        (LONG + "bn,1,acc,0.5\n", "row 9: arm bn has seed 1 twice"),
        (WIDE.replace("0.91", "91%"), "row 3, acc='91%': is no number; allowed: a number, or nothing where the run"),
        (WIDE.replace("bn,1", ",1"), "row 3, arm: is empty; allowed: a name in every row; "),
        (WIDE.replace("bn,1", "bn,"), "row 3, seed: is empty"),
        (LONG.replace("bn,1,acc", "bn,1,"), "row 5, metric: is empty"),
        (WIDE.replace("arm", "algo"), "--arm=arm: no such column; allowed: algo, seed, acc, loss; "),
        (
            WIDE.replace("seed", "seeds"),
            "--seed=seed: no such column; allowed: arm, seeds, acc, loss; did you mean seeds?",
        ),
        (WIDE.replace("acc", "accuracy"), "--metric=acc: no such column; allowed: arm, seed, accuracy, loss; "),
        (LONG.replace(",acc,", ",accu,"), "--metric=acc: no such metric; allowed: accu, loss; did you mean accu?"),
        (MLFLOW.replace("FINISHED", "RUNNING"), "status: no run is finished; allowed: finished; "),
    ],
)
def test_what_is_wrong_in_a_table_is_said_in_one_line(table, text, start):
    assert refused(table, text).startswith(start)


def test_one_arm_is_no_comparison(table):
    text = "".join(line for line in WIDE.splitlines(keepends=True) if "none" not in line)
    assert refused(table, text) == "arm: has one arm, bn; allowed: two or more arms; add runs of another"


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("arm,seed,acc\n", "has no rows below its first line"),
        (WIDE + "bn,2,0.9,0.1,7\n", "is no CSV"),
        (WIDE + 'bn,2,"0.9\n', "is no CSV"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe,\n\xff", "is no CSV"),
    ],
)
def test_a_file_that_is_no_table_is_refused(table, text, got):
    line = refused(table, text)
    assert f": {got}; allowed: a CSV file, its columns separated by commas and named in the first line; " in line
    assert "runs.csv" in line


def test_a_file_that_is_not_there_is_refused(tmp_path):
    for path, reason in ((tmp_path / "no.csv", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(Refusal, match=f"cannot be read \\({reason}\\)"):
            read(path, ["acc"])
