"""Oracles refuse what their theory does not cover, and answer for all that it covers."""

import math
from pathlib import Path

import pytest
from hydra import compose
from omegaconf import OmegaConf

from bn_experiments.claims.protocol import parse
from bn_experiments.imports import function_at
from bn_experiments.refusal import Refusal

CONF = Path(__file__).parents[1] / "conf" / "experiment"
WITH_ORACLES = [file for file in sorted(CONF.rglob("*/*.yaml")) if "oracle: bn_experiments" in file.read_text()]
NOISE = ["data=gaussian", "data.train_examples=null", "init=he_uniform"]
AT_START = {
    "gradient_growth": ["probes=[gradient_growth]"],
    "cosine_by_layer": ["probes=[directions]"],
    "fourth_moment": ["probes=[moments]"],
    "rectified": ["probes=[moments]"],
    "largest": ["probes=[moments]"],
    "log_dropout_shift": ["probes=[moments]", "model.dropout=0.5"],
    "scaled_ws_variance": ["probes=[moments]", "norm=scaled_ws"],
    "rate": ["probes=[through_time]", "model=rnn", "init=torch"],
    "residual_variance": ["probes=[variance_by_depth]", "model=residual_mlp"],
    "mean_error": ["probes=[running_statistics]", "optimizer.lr=1e-12"],
    "var_error": ["probes=[running_statistics]", "optimizer.lr=1e-12"],
    "angle": ["probes=[weight_rotation]", "optimizer.weight_decay=0.01"],
    "growth_of_decay": [
        *("probes=[weight_rotation]", "scheduler=decay_equivalent", "optimizer.momentum=0", "data.train_examples=100")
    ],
}


COMPOSED: dict[tuple[str, ...], dict] = {}  # each once, for it is what takes the time


def answer(compose_cell, name: str, *overrides: str):
    """What the oracle of that name says of a small arm with some overrides."""
    keys = [*NOISE, *AT_START[name], *(override for override in overrides if "." not in override.split("=")[0])]
    chosen = tuple({key.split("=")[0]: key for key in keys}.values())
    if chosen not in COMPOSED:
        COMPOSED[chosen] = compose_cell(*chosen).config
    changes = [override for override in overrides if "." in override.split("=")[0]]
    config = OmegaConf.to_container(OmegaConf.merge(COMPOSED[chosen], OmegaConf.from_dotlist(changes)))
    if "data.batch_size" in "".join(changes):  # of which the probe's is an interpolation
        config["probes"]["gradient_growth"]["batch_size"] = config["data"]["batch_size"]
    probe = next(key for key in keys if key.startswith("probes="))[8:-1]
    return function_at(f"bn_experiments.probes.{probe}_oracles.{name}")(config)


OF_MLPS = [name for name in AT_START if name not in ("rate", "residual_variance", "angle", "growth_of_decay")]
OF_UNITS = [name for name in OF_MLPS if name != "log_dropout_shift"]
NO_EPS = ("mean_error", "var_error", "log_dropout_shift")  # the theories in which the eps cancels
OUTSIDE = [
    *((name, "data=mnist1d") for name in [*OF_MLPS, "residual_variance"]),
    *((name, "model.dropout=0.5") for name in [*OF_UNITS, "residual_variance"]),
    *((name, "norm.eps=1.0") for name in AT_START if name not in NO_EPS),
    *((name, "model=residual_mlp") for name in OF_MLPS),
    *((name, "norm.placement=post") for name in AT_START if name not in ("cosine_by_layer", "scaled_ws_variance")),
    *((name, "norm=gn") for name in AT_START if name not in ("angle", "growth_of_decay")),
    *((name, "norm=none") for name in ("fourth_moment", "angle", "growth_of_decay", "mean_error", "rate")),
    *((name, "model.activation=tanh") for name in ("gradient_growth", "cosine_by_layer", "scaled_ws_variance")),
    *((name, "norm.scale_init=uniform") for name in ("gradient_growth", "cosine_by_layer", "fourth_moment", "rate")),
    *((name, "norm.scale_init=uniform") for name in ("log_dropout_shift", "residual_variance")),
    *(("rate", f"model={model}") for model in ("lstm", "mlp")),
    *(("rate", other) for other in ("norm=ln", "model.recurrent_init=identity", "init=he_uniform")),
    *(("residual_variance", other) for other in ("init=torch", "model.norm_position=trunk", "norm=scaled_ws")),
    *(("residual_variance", other) for other in ("model.branch_scale=skipinit", "model.branch_scale=nf")),
    ("cosine_by_layer", "probes.directions.mode=eval"),
    ("gradient_growth", "data.batch_size=full"),
    ("gradient_growth", "data.batch_size=5000"),
    ("gradient_growth", "model.hidden=[100,50]"),
    ("mean_error", "optimizer.lr=0.1"),
    ("mean_error", "norm.momentum=null"),
    ("log_dropout_shift", "model.dropout=[0.5,0.1]"),
    ("angle", "optimizer=rmsprop"),
    ("angle", "optimizer.nesterov=true"),
    ("angle", "optimizer.weight_decay=0"),
    ("angle", "scheduler=cosine"),
    ("growth_of_decay", "optimizer.momentum=0.9"),
    ("growth_of_decay", "data.train_examples=null"),
]


@pytest.mark.parametrize(("name", "override"), OUTSIDE)
@pytest.mark.few(10)
def test_an_oracle_refuses_what_its_theory_is_not_about(compose_cell, name, override):
    assert answer(compose_cell, name), "it has a number without the change"
    with pytest.raises(Refusal) as found:
        answer(compose_cell, name, override)
    assert "theory has no number for it" in str(found.value)


def test_without_a_norm_the_gradient_follows_the_variance_of_the_weights(compose_cell):
    for init, activation, factor in (
        *(("torch", "relu", 1 / 6), ("torch", "identity", 1 / 3)),
        *(("he_uniform", "relu", 1), ("xavier_uniform", "relu", 0.5)),
    ):
        keys = ["norm=none", f"init={init}", f"model.activation={activation}"]
        assert answer(compose_cell, "gradient_growth", *keys) == pytest.approx(math.log(factor))


def test_the_gain_scales_the_moments_and_not_the_growth(compose_cell):
    for name, power in (("fourth_moment", 4), ("rectified", 1), ("largest", 1), ("gradient_growth", 0)):
        keys = ["norm.scale_init=2.0"]
        assert answer(compose_cell, name, *keys) == pytest.approx(2**power * answer(compose_cell, name))


@pytest.mark.parametrize("file", WITH_ORACLES, ids=[file.stem for file in WITH_ORACLES])
@pytest.mark.few(1)
def test_the_oracles_of_an_experiment_answer_for_its_own_arms(compose_cell, file):
    experiment = f"experiment={file.relative_to(CONF).with_suffix('').as_posix()}"
    config = compose("config", [experiment])
    protocol, _ = parse({"name": "n", **OmegaConf.to_container(config.experiment, resolve=True)})
    examples = f"data.train_examples={config.data.train_examples or 'null'}"
    for claim in protocol.claims:
        if isinstance(claim.oracle, str):
            quantity = next(iter(claim.quantities.values()))
            for arm in quantity.arms:
                own = [f"{key}={value}" for key, value in protocol.arms[arm].items()]
                cell = compose_cell(experiment, examples, f"trainer.max_epochs={config.trainer.max_epochs}", *own)
                assert function_at(claim.oracle)(cell.config) is not None
