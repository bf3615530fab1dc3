"""Every model of this package with every norm: which pairs there are, and which have no place for each other."""

from typing import Any

import pytest

from tests.conftest import CONF

EXISTING = ["own", "timm", "torchvision"]  # whose networks come from elsewhere
MODELS = sorted(file.stem for file in (CONF / "model").glob("*.yaml") if file.stem not in EXISTING)
NORMS = sorted(file.stem for file in (CONF / "norm").glob("*.yaml") if file.stem != "kept")
CONVOLUTIONAL = ["in", "frn", "evonorm_b0"]  # one position has no variance
FUSED = ["frn", "evonorm_s0", "evonorm_b0"]
SMALL = {  # models whose own sizes take long
    "lstm": ["model.hidden=8"],
    "rnn": ["model.hidden=8"],
    "resnet": ["model.depth=8", "model.channels=[2,4,4]"],
    "vgg": ["model.channels=[2,4,4,4,4]"],
    "transformer": ["model.width=8", "model.heads=2", "model.hidden=8", "model.depth=1"],
}
SMALLER = {"ghost": ["norm.group_size=3"], "renorm": ["norm.warmup_steps=0", "norm.r_steps=2", "norm.d_steps=2"]}


def of_pair(model: str, norm: str) -> list[str]:
    """The overrides of a small network of a model with a norm."""
    return [f"model={model}", f"norm={norm}", *SMALL.get(model, []), *SMALLER.get(norm, [])]


def refusal(norm: str, model: str) -> str | None:
    """What the one line says where a norm has no place in a model."""
    if norm in CONVOLUTIONAL and model not in ("lenet", "resnet", "vgg"):
        return f"norm={norm}: adds nothing to model={model} with norm.layers=conv"
    if norm in FUSED and model not in ("mlp", "lenet", "vgg"):
        return "has an activation of its own, and this network places its activations itself"
    if norm in ("ws", "scaled_ws") and model in ("lstm", "rnn"):
        return "norm: InputLayer has one weight for each unit"
    return None


def slow(*values: Any) -> list[Any]:
    """Values of a parameter of a test for which it is slow."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def pairs() -> list[Any]:
    """The models and norms as parameters of a test; most pairs are slow."""
    quick = {("mlp", norm) for norm in ("none", "wn", "evonorm_s0")} | {(model, "bn") for model in MODELS}
    quick |= {("lenet", "frn")}
    every = [(model, norm) for model in MODELS for norm in NORMS]
    return [pytest.param(*each, marks=[] if each in quick else pytest.mark.slow) for each in every]
