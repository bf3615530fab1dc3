"""Every option of every group composes with the others and takes a step."""

from pathlib import Path

import pytest

from bn_experiments.config.check import check
from bn_experiments.run import run

CONF = Path(__file__).parents[1] / "conf"


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


MODELS_AND_NORMS = [
    (model, norm) for model in options("model") for norm in options("norm") if norm != "in" or model == "lenet"
]
OTHERS = [f"{group}={option}" for group in ("optimizer", "scheduler", "trainer") for option in options(group)]
SLOT = ["norm.placement=post", "norm.bias=keep", "norm.scale_init=uniform", "norm.scale_init=0.1", "norm.layers=linear"]
SLOT += ["norm.eps=1e-3", "norm.momentum=null", "norm.affine=false"]
MODEL = ["model.activation=sigmoid", "model.dropout=0.5", "init=he_uniform", "trainer.gradient_clip_norm=1.0"]
DATA = ["data.shuffle=false", "data.drop_last=true", "data.normalization=train", "data.val_split=random"]
DATA += ["data.val_split=test", "data.normalization=given data.mean=0.1 data.std=2"]
TRAINER = ["trainer.precision=64-true", "trainer.precision=bf16-mixed", "trainer.stack_replicas=false"]
TRAINER += ["trainer.deterministic=false", "trainer.deterministic=warn", "trainer.steps_per_execution=1"]
PROBES = [f"probes=[{option}]" for option in options("probes")]
PROBES += ["probes=[]"]
LENET = ["model.pooling=average", "model.padding=2", "model.kernel_size=3", "model.channels=[4,8,8]"]


def one_epoch(compose_cell, *overrides: str):
    cell = compose_cell(*overrides, "data.train_examples=120", "data.batch_size=54")
    assert check(cell) == []
    return run(cell)


@pytest.mark.parametrize(("model", "norm"), MODELS_AND_NORMS)
def test_every_model_trains_with_every_norm(compose_cell, model, norm):
    result = one_epoch(compose_cell, f"model={model}", f"norm={norm}")
    assert not any(result.diverged)


@pytest.mark.parametrize("option", [*OTHERS, *SLOT, *MODEL, *DATA, *TRAINER, *PROBES])
def test_every_option_trains(compose_cell, option):
    result = one_epoch(compose_cell, *option.split())
    assert not any(result.diverged)


@pytest.mark.parametrize("option", LENET)
def test_every_option_of_lenet_trains(compose_cell, option):
    assert not any(one_epoch(compose_cell, "model=lenet", option).diverged)


def test_a_users_own_norm_needs_no_change_to_the_code(compose_cell):
    own = ["norm=none", "norm._target_=tests.norms.test_slot.Doubling", "+norm.strength=0.5"]
    doubled, plain = one_epoch(compose_cell, *own), one_epoch(compose_cell, "norm=none", "trainer.max_epochs=1")
    assert doubled.metrics["train/running_loss"] == plain.metrics["train/running_loss"], "2 x 0.5 x is x"
    changed = one_epoch(compose_cell, *own[:2], "+norm.strength=2.0")
    assert changed.metrics["train/running_loss"] != plain.metrics["train/running_loss"]


def test_an_image_data_set_trains_as_the_signals_do(compose_cell, tmp_path):
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 6)):
        for label, brightness in (("dark", 40), ("light", 200)):
            folder = tmp_path / "images" / part / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = random.normal(brightness, 20, (16, 16, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    keys = ["data=image_folder", f"data.root={tmp_path / 'images'}", "data.train_examples=null", "data.batch_size=12"]
    cell = compose_cell("model=lenet", "norm=bn", "trainer.max_epochs=20", *keys)
    assert check(cell) == []
    assert min(run(cell).metrics["test/acc"]) > 0.9, "dark and light images are easy to tell apart"
