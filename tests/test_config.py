"""Every option of every group composes with the others and takes a step."""

from pathlib import Path

import pytest

from bn_experiments.config.check import check
from bn_experiments.run import run
from tests.pairs import of_pair, pairs, refusal
from tests.probes.runs import model_for

CONF = Path(__file__).parents[1] / "conf"


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


OTHERS = [f"{group}={option}" for group in ("optimizer", "scheduler", "loss", "trainer") for option in options(group)]
OTHERS = [f"{each} optimizer.momentum=0" if each.endswith("decay_equivalent") else each for each in OTHERS]
SLOT = ["norm.placement=post", "norm.bias=keep", "norm.scale_init=uniform", "norm.scale_init=0.1", "norm.layers=linear"]
SLOT += ["norm.eps=1e-3", "norm.momentum=null", "norm.affine=false"]
MODEL = ["model.activation=sigmoid", "model.dropout=0.5", "init=he_uniform", "trainer.gradient_clip_norm=1.0"]
DATA = ["data.shuffle=false", "data.drop_last=true", "data.normalization=train", "data.val_split=random"]
DATA += ["data.val_split=test", "data.normalization=given data.mean=0.1 data.std=2"]
DATA += ["data.batch_size=full", "data=gaussian", "augmentation=[shift,scale,cutout]", "augmentation=[]"]
TRAINER = ["trainer.precision=64-true", "trainer.precision=bf16-mixed", "trainer.stack_replicas=false"]
TRAINER += ["trainer.adaptive_clip_factor=0.01", "optimizer.groups.norms.lr=0.1", "scheduler.interval=step"]
TRAINER += ["trainer.deterministic=false", "trainer.deterministic=warn", "trainer.steps_per_execution=1"]
PROBES = [" ".join([f"probes=[{option}]", *model_for(option)]) for option in options("probes")]
PROBES += ["probes=[]"]
LENET = ["model.pooling=average", "model.padding=2", "model.kernel_size=3", "model.channels=[4,8,8]"]


def one_epoch(compose_cell, *overrides: str):
    cell = compose_cell(*overrides, "data.train_examples=120", "data.batch_size=54")
    assert check(cell) == []
    return run(cell)


@pytest.mark.parametrize(("model", "norm"), pairs())
def test_every_model_trains_with_every_norm(compose_cell, model, norm):
    if refusal(norm, model):
        pytest.skip("the norm has no place in the model")
    without_rest = ["norm.group_size=2"] if norm == "ghost" else []
    result = one_epoch(compose_cell, *of_pair(model, norm), *without_rest)
    assert not any(result.diverged)


@pytest.mark.parametrize("option", [*OTHERS, *SLOT, *MODEL, *DATA, *TRAINER, *PROBES])
@pytest.mark.few(8)
def test_every_option_trains(compose_cell, option):
    result = one_epoch(compose_cell, *option.split())
    assert not any(result.diverged)


@pytest.mark.parametrize("option", ["crop", "flip", "cutout", "crop,flip,cutout,scale"])
@pytest.mark.few(1)
def test_every_augmentation_of_images_trains(compose_cell, option):
    images = ["data=gaussian", "data.shape=[3,18,18]", "model=lenet", "norm=bn", f"augmentation=[{option}]"]
    assert not any(one_epoch(compose_cell, *images).diverged)


def test_a_full_batch_trains_to_the_numbers_of_a_batch_that_is_as_large_as_the_split(compose_cell):
    keys = ["norm=bn", "trainer.max_epochs=3", "data.train_examples=200"]
    sizes = {
        "name=full": "data.batch_size=full",
        "name=large": "data.batch_size=180",
        "name=larger": "data.batch_size=90",
    }
    full, large, larger = (
        run(compose_cell(*keys, name, size, "data.shuffle=false")).metrics for name, size in sizes.items()
    )
    assert full == large != larger


def test_a_users_own_augmentation_needs_no_change_to_the_code(compose_cell):
    own = ["norm=none", "+augmentation.mine._target_=tests.test_config.Fading", "probes=[]"]
    plain = one_epoch(compose_cell, "norm=none", "probes=[]")
    same, faded = (one_epoch(compose_cell, *own, f"+augmentation.mine.by={by}") for by in (0.0, 0.5))
    assert same.metrics == plain.metrics != faded.metrics


class Fading:
    """A user's augmentation."""

    draws = 1

    def __init__(self, *, by: float):
        self.by = by

    def __call__(self, x, u):
        return x * (1 - self.by * u[:, :, None])


@pytest.mark.parametrize("option", LENET)
@pytest.mark.few(2)
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
