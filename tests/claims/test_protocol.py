import copy
import functools
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Transformer
from omegaconf import OmegaConf

from bn_experiments.claims.arms import unmatched
from bn_experiments.claims.protocol import CURVES, FINAL, Claim, Protocol, parse, unmeasured
from bn_experiments.records.quantities import Quantity
from bn_experiments.statistics.evidence import assess

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted((CONF / "experiment").glob("*/*.yaml"))  # those of the project, not one of your own
FULL_NAMES = {file.stem: file.relative_to(CONF / "experiment").with_suffix("").as_posix() for file in FILES}

BLOCK = {
    "name": "small",
    "title": "A small one",
    "source": "nobody",
    "arms": {"bn": {"norm": "bn"}, "none": {"norm": "none"}},
    "published": [{"arm": "bn", "metric": "test/acc", "values": [0.9]}],
    "claims": [
        {
            "claim": "bn is better",
            "rule": "difference",
            "left": {"arm": "bn", "metric": "test/acc"},
            "right": {"arm": "none", "metric": "test/acc"},
        }
    ],
}


def changed(path: str, value) -> dict:
    """The block with one entry changed; "claims.0.rule" is a path."""
    block = copy.deepcopy(BLOCK)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    node = block
    for part in parents:
        node = node[part]
    node[last] = value
    return block


@functools.cache
def composed(experiment: str, *overrides: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [f"experiment={FULL_NAMES[experiment]}", *overrides], return_hydra_config=True)


def test_a_block_becomes_arms_published_numbers_and_claims_with_their_rules_arguments():
    protocol, refusals = parse(BLOCK)
    assert refusals == []
    assert isinstance(protocol, Protocol)
    (claim,) = protocol.claims
    assert isinstance(claim, Claim)
    assert claim.quantities == {"left": Quantity("bn", "test/acc"), "right": Quantity("none", "test/acc")}
    assert protocol.published[0].values == [0.9]


def test_published_numbers_may_be_left_out():
    protocol, refusals = parse({key: value for key, value in BLOCK.items() if key != "published"})
    assert (refusals, protocol.published) == ([], [])


@pytest.mark.parametrize(
    ("metric", "more", "is_one"),
    [
        ("test/acc", {}, True),
        ("mine/eval_mode_acc", {"label": "test", "minus": "train"}, True),
        ("test/loss", {}, False),
        ("mine/mean_of_acc", {"label": "a"}, True),
        ("mine/accuracy", {"label": "a"}, False),
    ],
)
def test_an_estimate_of_accuracies_is_known_as_one_unless_it_is_of_logarithms(metric, more, is_one):
    sides = {side: {"arm": arm, "metric": metric, **more} for side, arm in (("left", "bn"), ("right", "none"))}
    block = changed("claims.0", {"claim": "c", "rule": "difference", **sides})
    assert parse(block)[0].claims[0].is_of_accuracies is is_one
    block["claims"][0]["log"] = True
    assert not parse(block)[0].claims[0].is_of_accuracies


@pytest.mark.parametrize("experiment", FULL_NAMES)
def test_what_is_written_beside_the_results_reads_back_as_the_same(experiment):
    body = OmegaConf.to_container(composed(experiment).experiment, resolve=True)
    protocol, refusals = parse({"name": experiment, "axes": ["norm"], **body})
    assert refusals == []
    assert parse(protocol.as_dict()) == (protocol, [])


@pytest.mark.parametrize(
    ("path", "value", "start", "allowed"),
    [
        ("claims.0.rule", "diference", "experiment.claims[0].rule=diference", "difference, interaction, equivalence"),
        ("claims.0", 3, "experiment.claims[0]: no claim", "claim, rule"),
        ("claims.0.margin", 0.1, "experiment.claims[0]: difference got claim", "left, right, above"),
        ("claims.0.smallest", 0, "experiment.claims[0].smallest=0: wrong value", "a number above 0"),
        ("claims.0.smallest", "big", "experiment.claims[0].smallest=big: wrong value", "in the unit of the estimate"),
        ("claims.0.above", "small", "experiment.claims[0].above=small: wrong value", "a number"),
        ("claims.0.right", None, "experiment.claims[0].right=null", "a number"),
        ("claims.0.left.arm", "gn", "experiment: gn is no arm", "bn, none"),
        ("claims.0.left.each", "epochs", "experiment.claims[0].left.each=epochs", "epoch"),
        ("claims.0.left.metrik", "x", "experiment.claims[0].left.metrik: no such key", "metric"),
        ("claims", 3, "experiment.claims=3", "a list of claims"),
        ("claims.0.left", 0.5, "experiment.claims[0]: ", "change it"),
        ("claims.0.left.each", "epoch", "experiment.claims[0]: difference: arrays of shape", "the rule difference"),
        ("published.0.values", "many", "experiment.published[0].values=many", "a list of 1 or more numbers"),
        ("published.0.values", [], "experiment.published[0].values=[]", "a list of 1 or more numbers"),
        ("arms", {}, "experiment.arms={}", "names with keys"),
        ("titel", "x", "experiment.titel: no such key", "title"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_key_and_remedy(path, value, start, allowed):
    block = changed(path, value)
    if value == 0.5:  # both sides are numbers
        block["claims"][0]["right"] = 0.5
    if path == "claims.0.margin":
        start = "experiment.claims[0]: difference got left, right, margin"
    protocol, refusals = parse(block)
    assert protocol is None
    (line,) = map(str, refusals)
    assert line.startswith(start), line
    assert allowed in line.partition("; allowed: ")[2], line
    assert "\n" not in line


AGREES = {"claim": "c", "rule": "agreement", "values": {"arm": "bn", "metric": "test/acc"}, "oracle": 0.5}
SLOPE = {"claim": "c", "rule": "slope", "values": {"arm": ["bn", "none"], "metric": "test/acc"}, "above": 0}


@pytest.mark.parametrize(
    ("claim", "line"),
    [
        ({**AGREES, "margin": "small"}, ".margin=small: wrong value; allowed: a number above 0; change it"),
        ({**AGREES, "margin": -0.1}, ".margin=-0.1: wrong value; allowed: a number above 0; change it"),
        (
            {**AGREES, "margn": 0.2},
            ": agreement got values, margn, oracle; allowed: values, oracle, margin, log, of which values, oracle, "
            "margin must be there; did you mean margin?",
        ),
        (
            AGREES,
            ": agreement got values, oracle; allowed: values, oracle, margin, log, of which values, oracle, margin "
            "must be there; add margin",
        ),
        ({**AGREES, "log": "yes", "margin": 1}, ".log=yes: wrong value; allowed: true or false; change it"),
        (
            {**SLOPE, "near": 1},
            ": slope: above=0, near=1, margin=None; allowed: above, or near and margin, for the rule slope; change it",
        ),
        (
            {**SLOPE, "over": 2},
            ".over=2: wrong value; allowed: a key whose value is a number in each arm, such as model.depth, or "
            "log(model.depth); change it",
        ),
        (
            {**SLOPE, "values": {"arm": "bn", "metric": "val/acc", "each": "epoch"}, "over": "model.depth"},
            ": over beside a curve of one arm; allowed: a quantity of several arms, a point for each, for the rule "
            "slope; change it",
        ),
    ],
)
def test_wrong_arguments_of_a_rule_are_told_once_with_what_they_may_be(claim, line):
    (refusal,) = parse(changed("claims.0", claim))[1]
    assert str(refusal) == "experiment.claims[0]" + line


def test_a_smallest_effect_beside_a_margin_is_refused():
    block = changed("claims.0.rule", "equivalence")
    block["claims"][0] |= {"margin": 0.1, "smallest": 0.05}
    (refusal,) = parse(block)[1]
    assert str(refusal).startswith("experiment.claims[0]: smallest=0.05 beside a margin, which is the smallest effect")


def median_difference(left, right):
    """A rule of one's own, on medians: arms that are equal in every replica give p = 1."""
    sample = np.asarray(left) - np.asarray(right)
    return assess(sample - sample.mean() + np.median(sample), 0.0, np.inf, 0.0)


def no_evidence(left, right):
    return 0.5


def test_a_rule_of_ones_own_judges_by_its_dotted_path():
    protocol, refusals = parse(changed("claims.0.rule", f"{__name__}.median_difference"))
    assert refusals == []
    sample = np.array([1.0, 2.0, 3.0, 10.0])
    found = protocol.claims[0].evidence({"left": sample, "right": np.zeros(4)})
    assert found.estimate == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("no_evidence", "experiment.claims[0]: gives float, not Evidence"),
        ("nothing", "experiment.claims[0].rule=tests.claims.test_protocol.nothing: no such rule"),
    ],
)
def test_what_is_no_rule_is_refused(rule, line):
    (refusal,) = parse(changed("claims.0.rule", f"{__name__}.{rule}"))[1]
    assert str(refusal).startswith(line)


def test_a_block_without_a_title_is_refused():
    block = copy.deepcopy(BLOCK)
    del block["title"]
    (refusal,) = parse(block)[1]
    assert refusal.key == "experiment.title"


def values_of(key: str, values: str) -> list:
    """The values of an axis, as Hydra reads them."""
    (override,) = OverridesParser.create().parse_overrides([f"{key}={values}"])
    return [*override.sweep_iterator(Transformer.identity)] if override.is_sweep_override() else [override.value()]


@pytest.mark.parametrize("experiment", FULL_NAMES)
def test_every_arm_of_an_experiment_is_a_cell_of_its_grid(experiment):
    config = composed(experiment)
    arms = OmegaConf.to_container(config.experiment.arms)
    axes = {key: values_of(key, str(values)) for key, values in config.hydra.sweeper.params.items()}
    for selector in arms.values():
        assert set(selector) <= set(axes), "an arm is told by the axes of the grid"
        for key, value in selector.items():
            assert value in axes[key]


@pytest.mark.parametrize("experiment", FULL_NAMES)
def test_an_experiment_measures_what_its_claims_and_published_numbers_need(experiment):
    config = composed(experiment)
    protocol, _ = parse({"name": experiment, **OmegaConf.to_container(config.experiment, resolve=True)})
    for quantity in protocol.quantities:
        probe = quantity.metric.split("/")[0]
        if quantity.each:
            assert quantity.metric in CURVES
        elif quantity.metric not in FINAL:
            assert probe in config.probes, f"{quantity.metric} needs a probe"
            if quantity.moment == "start":
                assert config.probes[probe].at_start


@pytest.mark.parametrize(
    ("path", "value", "lines"),
    [
        ("claims.0.left.metric", "depths/variance", []),  # a probe that was left out; the claim is not judged
        ("claims.0.left.metric", "depth/variance", ["experiment: nothing measures depth/variance"]),
        ("claims.0.left.metric", "test/accuracy", ["experiment: nothing measures test/accuracy"]),
        ("claims.0.left.metric", "sizes/size", []),
        ("published.0.each", "epoch", ["experiment: nothing measures test/acc"]),
    ],
)
def test_what_nothing_measures_is_told_before_anything_trains(path, value, lines):
    block = changed(path, value)
    if path.endswith("left.metric"):
        block["claims"][0]["left"]["label"] = "test"  # one number a replica
    protocol, wrong = parse(block)
    assert wrong == []
    found = [str(refusal) for refusal in unmeasured(protocol, ["depths", "sizes"])]
    assert [line[: len(start)] for line, start in zip(found, lines, strict=True)] == lines
    assert all("; allowed: " in line for line in found)


def test_every_experiment_says_where_its_numbers_come_from_and_claims_something():
    assert set(FULL_NAMES) >= {
        "sigmoid_mlp",
        "udl_residual",
        "udacity_mlp",
        "uc3m_mlp",
        "uc3m_lenet",
        "relu_then_bn_mlp",
        "recurrent",
    }
    assert len(FULL_NAMES) == len(FILES), "two folders hold experiments of one name"
    for experiment in FULL_NAMES:
        config = composed(experiment)
        assert config.hydra.mode.name == "MULTIRUN"
        assert config.name == experiment
        assert config.experiment.source
        assert len(config.experiment.claims) > 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_header_of_an_experiment_says_what_came_out_in_how_long_and_the_command(file):
    header = file.read_text().partition("\ndefaults:")[0].splitlines()
    assert header[0] == "# @package _global_"
    assert all(line.startswith("# ") for line in header)
    for start in ("# Result: ", "# Time: ", f"#   python train.py experiment={file.stem}"):
        assert any(line.startswith(start) for line in header), start


def test_any_key_of_an_experiment_can_be_overridden():
    config = composed("udacity_mlp", "replicas=2", "trainer.max_epochs=1", "optimizer=adam", "data=mnist1d")
    assert (config.replicas, config.trainer.max_epochs) == (2, 1)
    assert config.optimizer._target_ == "torch.optim.Adam"
    assert config.data._target_.endswith("mnist1d")


CELLS = [({"norm": norm, "overrides": []}, {"data": {"train_examples": None}}) for norm in ("bn", "none")]


@pytest.mark.parametrize(
    ("selector", "line"),
    [
        ({"norm": "bnn"}, "experiment.arms.x: no cell has norm=bnn; allowed: bn, none; did you mean bn?"),
        (
            {"norm": "bn", "data.train_examples": 500},
            "experiment.arms.x: no cell has data.train_examples=500; allowed: null; change it",
        ),
    ],
)
def test_an_arm_that_no_cell_of_the_grid_is_is_refused_with_the_nearest_value(selector, line):
    protocol, _ = parse({**BLOCK, "arms": {**BLOCK["arms"], "x": selector}})
    assert [str(refusal) for refusal in unmatched(protocol, CELLS, typed=set())] == [line]


def test_an_arm_of_two_values_that_no_cell_has_together_is_refused():
    protocol, _ = parse({**BLOCK, "arms": {**BLOCK["arms"], "x": {"norm": "bn", "data.train_examples": 500}}})
    cells = [*CELLS, ({"norm": "none", "overrides": []}, {"data": {"train_examples": 500}})]
    (refusal,) = unmatched(protocol, cells, typed=set())
    assert refusal.got == "no cell is norm=bn data.train_examples=500"


def test_an_arm_that_the_command_line_leaves_out_is_not_refused():
    protocol, _ = parse(BLOCK)
    assert unmatched(protocol, CELLS[:1], typed={"norm"}) == []
    assert unmatched(protocol, CELLS, typed=set()) == []
    assert len(unmatched(protocol, CELLS[:1], typed={"optimizer.lr"})) == 1


def test_an_arm_that_a_norm_of_ones_own_replaces_is_refused():
    protocol, _ = parse(BLOCK)
    own = [({"norm": norm}, {"norm": {"_target_": "my.Norm"}}) for norm in ("bn", "none")]
    (refusal,) = unmatched(protocol, own, typed={"norm._target_"})
    assert (refusal.key, refusal.got) == ("experiment.arms.none", "no cell has norm=none")
    without = [({"norm": norm}, {"norm": {"_target_": None}}) for norm in ("bn", "none")]
    assert [refusal.got for refusal in unmatched(protocol, without, typed={"norm._target_"})] == ["no cell has norm=bn"]


def test_an_arm_that_names_a_key_of_a_group_that_was_typed_may_be_left_out():
    protocol, _ = parse({**BLOCK, "arms": {**BLOCK["arms"], "x": {"norm": "bn", "model.x": 1}}})
    assert unmatched(protocol, CELLS, typed={"model"}) == []
    assert len(unmatched(protocol, CELLS, typed={"model.y"})) == 1


def test_a_misspelt_metric_is_refused_with_the_nearest_one():
    block = changed("claims.0.left.metric", "test/accuracy")
    protocol, wrong = parse(block)
    assert wrong == []
    (refusal,) = unmeasured(protocol, [])
    assert refusal.remedy == "did you mean test/acc?"


def that_claims(claims: list) -> Protocol:
    """A protocol of one arm with these claims."""
    texts = {"name": "n", "title": "t", "source": "s"}
    protocol, lines = parse({**texts, "arms": {"bn": {"norm": "bn"}}, "published": [], "claims": claims})
    assert lines == []
    return protocol


def test_a_moment_of_a_final_number_is_refused():
    side = {"arm": "bn", "metric": "test/loss", "moment": "spread"}
    claims = [{"claim": "c", "rule": "difference", "left": side, "right": 0.5}]
    protocol = that_claims(claims)
    (refusal,) = unmeasured(protocol, [])
    assert "test/loss has no moment spread" in str(refusal)


def test_an_oracle_is_of_the_first_quantity_of_the_rule_whatever_their_order_in_the_file():
    sides = {side: {"arm": "bn", "metric": f"p/{side}"} for side in ("right", "left")}
    claims = [{"claim": "c", "rule": "equivalence", "margin": 0.1, "oracle": 0.0, **sides}]
    protocol = that_claims(claims)
    assert [*protocol.claims[0].quantities] == ["left", "right"]
