"""What would decide an inconclusive claim: the replicas, their minutes, and the words."""

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

from bn_experiments.claims.enough import Enough
from bn_experiments.claims.protocol import parse
from bn_experiments.claims.verdicts import judge, line, show, write
from bn_experiments.records.results import done_below
from bn_experiments.statistics.intervals import LEVEL
from bn_experiments.statistics.power import replicas_for_difference, replicas_for_equivalence, upper_limit
from tests.cells_by_hand import write_cell

NONE = np.linspace(0.5, 0.6, 10)
DIFFERENCES = np.array([0.0, 0.03, -0.02, 0.04, 0.01, -0.01, 0.05, 0.0, 0.02, -0.03])
SD = upper_limit(DIFFERENCES.std(ddof=1), 10)
SIDES = {"left": {"arm": "bn", "metric": "test/acc"}, "right": {"arm": "none", "metric": "test/acc"}}
HIGHER = {"claim": "bn is higher", "rule": "difference", **SIDES}
SAME = {"claim": "both are the same", "rule": "equivalence", **SIDES, "margin": 0.015}


@pytest.fixture
def sweep(tmp_path):
    write_cell(tmp_path / "bn", "bn", {"test/acc": (NONE + DIFFERENCES).tolist()})  # ten replicas in 59 seconds
    write_cell(tmp_path / "none", "none", {"test/acc": NONE.tolist()})
    return tmp_path


def protocol(*claims):
    arms = {"bn": {"norm": "bn"}, "none": {"norm": "none"}}
    plain = {"name": "small", "title": "A small one", "source": "nobody", "arms": arms, "published": []}
    found, refusals = parse({**plain, "claims": list(claims)})
    assert refusals == []
    return found


def judged(sweep, *claims):
    return judge(protocol(*claims), done_below(sweep))


def test_an_open_claim_says_how_many_replicas_decide_the_smallest_effect_and_in_how_many_minutes(sweep):
    (found,) = judged(sweep, {**HIGHER, "smallest": 0.01})
    replicas = replicas_for_difference(0.01 / SD, LEVEL)
    assert (found.verdict, found.enough.replicas, found.enough.is_observed) == ("inconclusive", replicas, False)
    minutes = 2 * 5.9 * (replicas - 10) / 60  # two cells, 5.9 seconds for each further replica
    assert found.enough.minutes == pytest.approx(minutes)
    text = f"about {replicas} replicas would decide it, {math.ceil(minutes)} minutes: replicas={replicas}"
    assert line(found) == f"bn is higher: inconclusive; {text}"


def test_an_equivalence_is_counted_for_its_margin(sweep):
    (found,) = judged(sweep, SAME)
    assert found.enough.replicas == replicas_for_equivalence(0.015 / SD, LEVEL)
    assert (found.enough.effect, found.enough.is_observed) == (0.015, False)


def test_without_a_smallest_effect_it_is_the_observed_one_and_the_line_says_so(sweep):
    (found,) = judged(sweep, HIGHER)
    assert found.enough.replicas == replicas_for_difference(DIFFERENCES.mean() / SD, LEVEL)
    assert "would decide it if the observed effect is the true one, " in line(found)


def test_among_several_claims_each_is_counted_at_the_least_favourable_of_holms_levels(sweep):
    alone, among = judged(sweep, SAME)[0].enough, judged(sweep, HIGHER, SAME, {**HIGHER, "above": -1.0})
    assert among[1].enough.level == LEVEL / 3
    assert among[1].enough.replicas == replicas_for_equivalence(0.015 / SD, LEVEL / 3) > alone.replicas
    assert (among[2].verdict, among[2].enough) == ("holds", None)


def test_more_than_a_thousand_replicas_are_not_counted(sweep):
    (found,) = judged(sweep, {**HIGHER, "smallest": 0.0001})
    assert (found.enough.replicas, found.enough.minutes) == (None, None)
    assert line(found) == "bn is higher: inconclusive; more than 1000 replicas would decide it"


def test_cells_that_have_more_seeds_in_all_than_in_common_lack_fewer(tmp_path):
    write_cell(tmp_path / "bn", "bn", {"test/acc": (NONE + DIFFERENCES).tolist()})
    write_cell(tmp_path / "none", "none", {"test/acc": [*NONE, 0.5, 0.6]}, seeds=list(range(12)))
    (found,) = judged(tmp_path, {**HIGHER, "smallest": 0.01})
    more = found.enough.replicas
    assert found.enough.minutes == pytest.approx(((more - 10) * 59 / 10 + (more - 12) * 59 / 12) / 60)


def test_few_replicas_are_told_how_many_more(tmp_path):
    write_cell(tmp_path / "bn", "bn", {"test/acc": [0.90, 0.92, 0.91]})
    write_cell(tmp_path / "none", "none", {"test/acc": [0.80, 0.83, 0.81]})
    (found,) = judged(tmp_path, {**HIGHER, "smallest": 0.05})
    assert line(found).startswith(
        "bn is higher: inconclusive (fewer than 6 replicas); about 6 replicas would decide it"
    )


@pytest.mark.parametrize("values", [[0.9], [0.9] * 5])
def test_one_replica_and_replicas_without_spread_say_nothing(tmp_path, values):
    write_cell(tmp_path / "bn", "bn", {"test/acc": values})
    write_cell(tmp_path / "none", "none", {"test/acc": [0.8] * len(values)})
    (found,) = judged(tmp_path, {**HIGHER, "smallest": 0.05})
    assert (found.verdict, found.enough) == ("inconclusive", None)


def test_it_stands_in_the_file_and_in_the_terminal(sweep):
    found = judged(sweep, {**HIGHER, "smallest": 0.01}, {**HIGHER, "claim": "held", "above": -1.0})
    write(found, sweep)
    first, second = json.loads((sweep / "verdicts.json").read_text())
    assert set(first["enough"]) == {"replicas", "effect", "is_observed", "level", "minutes", "anew"}
    assert (first["enough"]["replicas"], second["enough"]) == (found[0].enough.replicas, None)
    console = Console(width=200, record=True, file=io.StringIO())
    show(found, console)
    assert line(found[0]) in console.export_text()
    assert "held:" not in console.export_text()


def test_minutes_are_whole_and_at_least_one():
    known = Enough(34, 0.01, False, 0.01, 3.2)
    assert str(known) == "about 34 replicas would decide it, 4 minutes: replicas=34"
    assert str(Enough(34, 0.01, False, 0.01, 0.1)) == "about 34 replicas would decide it, 1 minute: replicas=34"
    assert str(Enough(34, 0.01, False, 0.01)) == "about 34 replicas would decide it"


def test_the_smallest_effect_survives_writing(sweep):
    made = protocol({**HIGHER, "smallest": 0.01})
    made.write(sweep)
    assert parse(json.loads((sweep / "experiment.json").read_text()))[0] == made
