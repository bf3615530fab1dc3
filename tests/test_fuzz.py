"""Any command is either trained or refused in lines for a person: overrides drawn at random."""

import json
import os
import warnings
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from bn_experiments.config.composition import cells_of
from bn_experiments.run import run
from tests.conftest import CONF

EXAMPLES = int(os.environ.get("BN_FUZZ_EXAMPLES", "10"))  # 500 take ten minutes

with initialize_config_dir(str(CONF), version_base="1.3"):
    CONFIG = compose("config")

GROUPS = {
    "model": ["mlp", "lenet", "residual_mlp", "lstm"],
    "norm": ["bn", "none", "ln", "gn", "in", "rms", "wn"],
    "optimizer": ["sgd", "adam"],
    "scheduler": ["constant", "cosine", "step"],
    "data": ["mnist1d"],
    "init": ["torch", "he_uniform", "xavier_uniform"],
}
HOSTILE = ["''", '"', "'", "..", "../../x", "/", "/etc/passwd", "a b", "'a b'", "ü", "'<script>alert(1)</script>'"]
HOSTILE += ["<script>", "${name}", "${nothing}", "${oc.env:HOME}", "???", "nan", "inf", "-inf", "-1", "0", "1", "2"]
HOSTILE += ["0.5", "1e-300", "1e300", "1e999", "10000000000000000000000", "null", "true", "false", "[]", "[1]", "[[]]"]
HOSTILE += ["{}", "{a:1}", "[", "a,b", "1,2", "range(3)", "x" * 300, "'a\nb'", "\\", "%s", "$(ls)", "auto", "none", "*"]
# what is right may take long, and other folders than the test's are the user's to name
BOUNDED = {
    "trainer.max_epochs": ["0", "1", "-1", "1.5", "null", "x"],
    "replicas": ["1", "3", "0", "-1", "1.5", "null", "x"],
    "data.train_examples": ["100", "20", "2", "1", "0", "null", "x", "999999"],
    "model.hidden": ["[8]", "[8,8]", "[0]", "[-1]", "8", "[]", "x", "[1000000000]", "[8,x]"],
    "trainer.accelerator": ["cpu", "auto", "tpu", "''"],
    "trainer.threads": ["1", "2", "0", "x"],
}

TARGETS = ["nowhere.Class", "torch.nn.Linear", "builtins.print", "", *HOSTILE[:9]]  # others do as they are told


def leaves(config: DictConfig, above: str = "") -> list[str]:
    found = []
    for key in config:
        node = OmegaConf.to_container(config, resolve=False)[key]
        inner = config._get_node(key)
        name = f"{above}{key}"
        found += leaves(inner, f"{name}.") if isinstance(inner, DictConfig) and node else [name]
    return found


KEYS = [key for key in leaves(CONFIG) if not key.startswith("paths.") and key not in ("experiment", "data.root")]


def near(key: str) -> list[str]:
    """Values like the one that the config has, most of them right."""
    value = OmegaConf.to_container(CONFIG, resolve=False)
    for part in key.split("."):
        value = value[part]
    if isinstance(value, bool):
        return ["true", "false"]
    if isinstance(value, int):
        return [str(value), str(value + 1), str(max(1, value // 2))]
    if isinstance(value, float):
        return [str(value), str(value / 2), str(value * 2)]
    return ["null"] if value is None else [json.dumps(value).replace('"', "'")]


@st.composite
def override(draw) -> str:
    right = draw(st.integers(0, 3)) > 0
    if draw(st.integers(0, 1)):
        group = draw(st.sampled_from(sorted(GROUPS)))
        return f"{group}={draw(st.sampled_from(GROUPS[group] if right else HOSTILE))}"
    key = draw(st.sampled_from(KEYS))
    if right:
        return f"{key}={draw(st.sampled_from(near(key)))}"
    mark = draw(st.sampled_from(["", "", "", "+", "++", "~"]))
    if mark == "~" and draw(st.booleans()):
        return f"~{key}"
    if key.endswith("_target_"):
        return f"{mark}{key}={draw(st.sampled_from(TARGETS))}"
    if draw(st.integers(0, 9)) == 0:
        key += draw(st.sampled_from(["x", ".x", " ", ".", "<script>", "ü", "/.."]))
    values = st.sampled_from(BOUNDED.get(key, HOSTILE))
    numbers = st.one_of(st.integers(-3, 300).map(str), st.floats(-2, 2).map(str))
    return f"{mark}{key}={draw(values if key in BOUNDED else st.one_of(values, numbers))}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=EXAMPLES, deadline=60_000, suppress_health_check=list(HealthCheck), print_blob=True)
@given(drawn=st.lists(override(), min_size=1, max_size=4))
def test_every_command_trains_or_is_refused_in_lines(data_dir, folder, drawn):
    small = ["trainer.max_epochs=1", "replicas=2", "data.train_examples=100", "trainer.accelerator=cpu"]
    fixed = [f"paths.data_dir={data_dir}", f"paths.output_dir={folder}/outputs", "trainer.progress_bar=false"]
    keys = {word.lstrip("+~").split("=")[0] for word in drawn}
    words = [*fixed, *(word for word in small if word.split("=")[0] not in keys), *drawn]
    before = sorted(folder.rglob("*"))
    with initialize_config_dir(str(CONF), version_base="1.3"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cells, refusals, _ = cells_of("config", words, multirun=False)
        if refusals:
            event("refused")
            assert all(str(line).strip() and str(line).isprintable() for line in refusals)
            assert sorted(folder.rglob("*")) == before, "a refused command makes nothing"
            return
        (cell,) = cells
        cell.folder.resolve().relative_to(folder / "outputs")
        result = run(cell)
    event("trained")
    assert result.status == "done"
    outside = [path for path in folder.rglob("*") if not path.is_relative_to(folder / "outputs")]
    assert outside == []
