"""Every experiment trains, measures what its claims need, and is judged."""

from pathlib import Path

import pytest
from hydra import compose
from omegaconf import OmegaConf

from bn_experiments.claims.contexts import of_experiment
from bn_experiments.claims.protocol import parse
from bn_experiments.claims.published import compare
from bn_experiments.claims.verdicts import judge
from bn_experiments.config.check import check_cells
from bn_experiments.records.results import read
from bn_experiments.run import run

CONF = Path(__file__).parents[1] / "conf"
FILES = sorted((CONF / "experiment").rglob("*.yaml"))
FULL_NAMES = {file.stem: file.relative_to(CONF / "experiment").with_suffix("").as_posix() for file in FILES}

# what makes a protocol small: signals in place of images, and batches that give enough steps for its curves
SMALL = ["data=mnist1d", "data.train_examples=250", "replicas=3"]
BATCHES = {"sigmoid_mlp": 20, "relu_then_bn_mlp": 2}
NARROW = {"recurrent": ["model.hidden=8"], "recurrent_rows": ["model.hidden=8"]}
NARROW |= {"relu_then_bn_mlp": ["model.hidden=[16,8]"], "residual_variance": ["model.width=20"]}
NARROW["pre_post_ln"] = ["data.shape=[2,8]", "model.width=8", "model.hidden=8"]
NARROW |= {name: ["model.hidden=[20]", "model.repeat=9"] for name in ("bn_gradient_explosion", "direction_collapse")}
NARROW |= {name: ["model.hidden=[20]"] for name in ("train_eval", "running_averages")}
NARROW |= {"dropout_shift": ["model.hidden=[20,20]"], "train_eval_trained": ["data.train_examples=260"]}
NARROW |= {name: ["model.hidden=8"] for name in ("recurrent_gain", "recurrent_gain_pixels")}
NOISE = ["data.shape=[1,20]", "data.train_examples=null", "data.examples=600", "data.test_examples=20"]
NOISE += ["replicas=3"]  # for what is not trained


def small(selector: dict) -> dict:
    """What selects an arm on small data and, where arms differ in depths or widths, in small networks."""
    kept = {key: value for key, value in selector.items() if key != "data.train_examples"}
    kept |= {key: value for key, value in {"model.hidden": [20], "model.width": 20}.items() if key in kept}
    return {key: value.bit_length() - 1 if key == "model.depth" else value for key, value in kept.items()}


def arms_of(experiment: str):
    """The protocol, and the overrides that make each arm; one on more images than the small data have is left out."""
    config = compose("config", [f"experiment={FULL_NAMES[experiment]}"])
    protocol, lines = parse({"name": experiment, **OmegaConf.to_container(config.experiment, resolve=True)})
    assert lines == []
    arms = {
        name: [f"{key}={value}" for key, value in small(selector).items()]
        for name, selector in protocol.arms.items()
        if not selector.get("data.train_examples")
    }
    return protocol, arms


@pytest.mark.parametrize("experiment", FULL_NAMES)
@pytest.mark.few(1)
def test_an_experiment_trains_its_arms_and_judges_each_claim(compose_cell, experiment):
    protocol, arms = arms_of(experiment)
    data = NOISE if "shape" in compose("config", [f"experiment={FULL_NAMES[experiment]}"]).data else SMALL
    overrides = [f"experiment={FULL_NAMES[experiment]}", *data, f"data.batch_size={BATCHES.get(experiment, 50)}"]
    overrides += NARROW.get(experiment, [])
    if experiment == "udl_residual":
        overrides.append("trainer.max_epochs=0")
    cells = [compose_cell(*overrides, *own) for own in arms.values()]
    assert check_cells(cells) == []
    for cell in cells:
        run(cell)
    selectors = {name: small(protocol.arms[name]) for name in arms}
    published = [entry for entry in protocol.published if entry.arm in arms]
    trimmed, lines = parse({**protocol.as_dict(), "arms": selectors, "published": [vars(entry) for entry in published]})
    assert lines == []
    results = {cell.folder: read(cell.folder) for cell in cells}
    verdicts = judge(trimmed, results)
    assert len(verdicts) == len(protocol.claims)
    for verdict in verdicts:
        if verdict.reason == "every arm is at chance":  # after so few steps
            continue
        assert verdict.verdict in ("holds", "fails", "inconclusive"), verdict.reason
        assert verdict.n == 3
    (context,) = of_experiment(trimmed, results)
    for entry in trimmed.published:
        found = compare(entry, context)
        assert found.reason is None
        assert 1 <= len(found.inside) <= len(entry.values)
