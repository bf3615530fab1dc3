"""The rows of a CSV file, and which of them are finished runs."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bn_experiments.refusal import Refusal

STATES = ("State", "state", "status")  # columns that may hold the state of a run: of W&B, of its API, of MLflow
FINISHED = "finished"
UNFINISHED = ("failed", "crashed", "killed", "running", "pending", "scheduled", "preempting", "preempted")
NAMES = ("Name", "name", "tags.mlflow.runName", "run_id")  # columns with the name of a run
MOST_NAMED = 20  # runs or columns in a line

Rows = dict[int, dict[str, str]]  # the text of each column, by the number of the row below the first line


def read_rows(file: Path) -> Rows:
    """The rows of a file, of which there is at least one.

    Raises:
        Refusal: The file cannot be read, is empty, or is no CSV.
    """
    allowed = "a CSV file, its columns separated by commas and named in the first line"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row is longer than the first line
            table = pd.read_csv(file, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")
    except OSError as error:
        raise Refusal(str(file), f"cannot be read ({error.strerror})", allowed, "correct the path") from None
    except pd.errors.EmptyDataError:
        raise Refusal(str(file), "is empty", allowed, "export it again") from None
    except (ValueError, pd.errors.ParserWarning):  # of text that is no UTF-8, and of rows of different lengths
        raise Refusal(str(file), "is no CSV", allowed, "export it again") from None
    if table.empty:
        raise Refusal(str(file), "has no rows below its first line", allowed, "export it again")
    records = [{str(name).strip(): str(text).strip() for name, text in row.items()} for row in table.to_dict("records")]
    return dict(enumerate(records, start=1))


def finished(rows: Rows) -> tuple[Rows, list[str]]:
    """The rows of finished runs, all if no column holds states, and a line that names the others if there are any.

    A column holds states if it has the name of such a column, and some run is finished or all cells are other states of
    Weights & Biases or MLflow.

    Raises:
        Refusal: No run is finished.
    """
    columns = rows[1].keys()
    for column in STATES:
        states = {number: row.get(column, "").lower() for number, row in rows.items()}
        if FINISHED in states.values() or set(states.values()) <= set(UNFINISHED):
            break
    else:
        return rows, []
    done = {number: row for number, row in rows.items() if states[number] == FINISHED}
    if not done:
        raise Refusal(column, "no run is finished", FINISHED, "wait, or export the finished runs")
    name = next((name for name in NAMES if name in columns), None)
    others = [f"{rows[i][name] if name else f'row {i}'} ({state})" for i, state in states.items() if state != FINISHED]
    return done, [f"not finished, left out: {listed(list(dict.fromkeys(others)))}"] if others else []


def listed(names: Sequence[str]) -> str:
    """Names in a line, not more than can be read."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
