"""What no cell can measure, and oracles that fail, are told before anything trains."""

import pytest

from bn_experiments.claims.before import unanswered, unreadable
from bn_experiments.claims.oracle import unusable
from bn_experiments.claims.protocol import parse
from bn_experiments.imports import function_at
from bn_experiments.run import run
from tests.probes.runs import npz

GROWTH = "bn_experiments.probes.gradient_growth_oracles"


def fails(config) -> float:
    return config["no such key"]


def text(config) -> str:
    return "text"


def protocol(quantity: dict, oracle=0.0):
    claim = {"claim": "c", "rule": "agreement", "values": {"arm": "bn", **quantity}, "oracle": oracle, "margin": 0.1}
    block = {"name": "n", "title": "t", "source": "s", "arms": {"bn": {"norm": "bn"}}, "claims": [claim]}
    found, wrong = parse(block)
    assert wrong == []
    return found


def cells_of(compose_cell, *overrides: str):
    cell = compose_cell("norm=bn", "probes=[gradient_growth]", *overrides)
    return [(cell.choices, cell.config)]


@pytest.mark.parametrize(
    ("metric", "moment", "typed", "said"),
    [
        (
            "gradient_growth/rat",
            "start",
            [],
            "no quantity rat; allowed: gradient_growth/squared_norm, gradient_growth/",
        ),
        ("gradient_growth/rate", "start", [], None),
        ("moments/eval_variance", "start", [], "no probe of it measures moments/eval_variance; allowed: gradient_gr"),
        ("moments/eval_variance", "start", ["probes"], None),
        ("gradient_growth/rate", "late", [], "no moment late with trainer.max_epochs=0; allowed: start or end"),
        ("gradient_growth/rate", "spread", [], "no moment spread with trainer.max_epochs=0"),
    ],
)
def test_a_quantity_that_no_reading_will_have_is_refused(compose_cell, metric, moment, typed, said):
    cells = cells_of(compose_cell, "trainer.max_epochs=0")
    found = [str(one) for one in unreadable(protocol({"metric": metric, "moment": moment}), cells, typed)]
    assert len(found) == (said is not None)
    assert all(said in line for line in found)
    if metric.endswith("/rat"):
        assert found[0].endswith("did you mean gradient_growth/rate?")


def test_an_oracle_that_fails_is_refused_and_one_that_does_not_cover_an_arm_is_told(compose_cell):
    quantity = {"metric": "gradient_growth/rate", "moment": "start"}
    cells = cells_of(compose_cell)
    for name, said in (("fails", "raises KeyError in line"), ("text", "it gives str, no numbers")):
        (refusal,), lines = unanswered(protocol(quantity, f"{__name__}.{name}"), cells)
        assert said in str(refusal)
        assert lines == []
    refusals, (line,) = unanswered(protocol(quantity, f"{GROWTH}.gradient_growth"), cells)
    assert refusals == []
    assert "data._target_=bn_experiments.data.sources.mnist1d: theory has no number for it" in line


def test_a_path_that_names_no_function_is_told_by_its_missing_part():
    assert unusable(f"{GROWTH}.gradient_growth") is None
    assert "there is no function gradient_grow in" in str(unusable(f"{GROWTH}.gradient_grow"))
    assert "did you mean gradient_growth?" in str(unusable(f"{GROWTH}.gradient_grow"))
    assert "its module bn_experiments.no cannot be imported" in str(unusable("bn_experiments.no.f"))


@pytest.mark.parametrize("model", ["mlp", "rnn", "residual_mlp"])
def test_probes_name_all_their_quantities(compose_cell, model):
    names = "activations,classes,directions,example_weighted,gradient_growth,gradients,modes,moments,population,"
    names += "running_statistics,weight_rotation,weight_scale"
    keys = {"mlp": names, "rnn": "through_time", "residual_mlp": "variance_by_depth"}[model]
    cell = compose_cell(f"model={model}", f"probes=[{keys}]", "trainer.max_epochs=1")
    run(cell)
    arrays = npz(cell)
    for probe, options in cell.config["probes"].items():
        there = {
            key.partition("/")[2] for key in arrays if key.startswith(f"{probe}/") and arrays[key].dtype.kind != "U"
        }
        assert there - {"epochs"} == set(function_at(options["_target_"]).quantities), probe
