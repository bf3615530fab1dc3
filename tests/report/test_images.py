"""The report's figures as TensorBoard's images."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bn_experiments.figures.drawing import Drawing, panels
from bn_experiments.report import FILE, images, write_page
from tests.cells_by_hand import write_cell


@pytest.fixture
def sweep(tmp_path):
    drawn = np.random.default_rng(0)
    for model in ("mlp", "lenet"):
        for norm in ("bn", "none"):
            curves = {name: drawn.uniform(0.2, 0.9, (3, 4)) for name in ("train/running_loss", "val/loss", "val/acc")}
            config = {"trainer.max_epochs": 4, "m": model}
            write_cell(tmp_path / f"{model}-{norm}", norm, {"test/acc": [0.5] * 3}, curves, model=model, config=config)
    return tmp_path


def files(sweep):
    return sorted((sweep / "report").rglob("*tfevents*"))


def test_every_figure_of_every_section_is_an_image(sweep):
    without = write_page(sweep).read_text()
    assert not files(sweep)
    assert write_page(sweep, images=True).read_text() == without
    (file,) = files(sweep)
    read = EventAccumulator(str(file)).Reload()
    assert sorted(read.Tags()["tensors"]) == [f"report/curves_by_epoch/{model}" for model in ("lenet", "mlp")]
    shown = []
    for model in ("lenet", "mlp"):
        tag = f"report/curves_by_epoch/{model}"
        about = read.SummaryMetadata(tag)
        assert about.display_name == f"Losses and accuracy by epoch, {model}"
        assert "99% intervals" in about.summary_description
        (event,) = read.Tensors(tag)
        assert event.step == 4
        width, height, png = event.tensor_proto.string_val
        shown.append(imread(io.BytesIO(png)))
        assert shown[-1].shape[:2] == (int(height), int(width)) == (2.7 * 150, 7 * 150)
        blue = np.abs(shown[-1][..., :3] - np.array([0x00, 0x72, 0xB2]) / 255).max(axis=2) < 0.02  # bn's lines
        assert blue.mean() > 0.002
    assert (shown[0] != shown[1]).any()


def test_an_image_is_what_matplotlib_saves():
    def figure():
        made, (axes,) = panels(3)
        axes.plot([1, 2, 3], [1, 30, 2], label="one")
        axes.set_ylabel("a label that takes\nroom on the left")
        return made

    drawn = [Drawing("one", "One", "", "", pd.DataFrame(), figure()) for _ in range(2)]
    png, size = drawn[0].png()
    assert drawn[1].png() == (png, size)
    saved = io.BytesIO()
    figure().savefig(saved, format="png", dpi=150)
    ours, theirs = imread(io.BytesIO(png)), imread(io.BytesIO(saved.getvalue()))
    assert ours.shape == theirs.shape == (size[1], size[0], 4)
    assert np.abs(ours - theirs).mean() < 0.02


def test_the_report_is_written_where_the_images_cannot_be(sweep, capsys):
    (sweep / images.FOLDER).write_text("a file that is in the way")
    assert "Losses and accuracy by epoch" in write_page(sweep, images=True).read_text()
    assert (sweep / FILE).exists()
    assert "no figures in TensorBoard: " in capsys.readouterr().err
