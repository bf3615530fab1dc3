import io

import numpy as np
import pytest
import torch
from PIL import Image

from bn_experiments.probes.samples import draw_samples
from bn_experiments.run import run
from tests.probes.runs import TINY, events, npz, refusals, steps


@pytest.mark.parametrize(("epochs", "drawn_at"), [(5, [0, 5]), (0, [0])])
def test_tensorboard_shows_a_picture_and_nothing_is_measured(compose_cell, epochs, drawn_at):
    cell = compose_cell(*TINY, "probes=[samples]", "probes.samples.at_end=true", f"trainer.max_epochs={epochs}")
    assert run(cell).probes == {}
    assert npz(cell) == {}
    drawn = events(cell)
    assert drawn.Tags()["images"] == ["samples/training"]
    images = drawn.Images("samples/training")
    assert steps(images) == drawn_at
    for event in images:
        picture = Image.open(io.BytesIO(event.encoded_image_string))
        assert picture.format == "PNG"
        assert picture.size == (event.width, event.height)
        assert 200 <= min(picture.size) <= max(picture.size) <= 2000
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20, "something is drawn"


def test_one_example_is_not_refused_since_no_network_sees_it(compose_cell):
    assert refusals(compose_cell("norm=bn", "probes=[samples]", "probes.samples.examples=1")) == []


def test_samples_are_drawn_under_their_names_from_black_to_white():
    ramp = torch.arange(6.0).view(2, 3)
    gray, color, flat = ramp[None] - 4, torch.stack([ramp, ramp + 4, 9 - ramp]), torch.full((1, 2, 3), 7.0)
    shown = [draw_samples(image[None], ["name"]).axes[0] for image in (gray, color, flat)]
    assert [[text.get_text() for text in axes.texts] for axes in shown] == [["name"]] * 3
    pictures = [np.asarray(axes.images[0].get_array()) for axes in shown]
    np.testing.assert_allclose(pictures[0], ramp / 5, rtol=1e-6)
    np.testing.assert_allclose(pictures[1], torch.stack([ramp, ramp + 4, 9 - ramp], dim=-1) / 9, rtol=1e-6)
    assert (pictures[2] == 0).all(), "nothing to scale"


def test_signals_are_drawn_a_line_a_channel_each_example_in_its_own_cell():
    (axes,) = draw_samples(torch.arange(60.0).view(6, 2, 5), list("abcdef"), columns=4).axes
    assert [text.get_text() for text in axes.texts] == list("abcdef")
    assert len(axes.lines) == 6 * 2
    for i in range(6):
        low, high = np.stack([line.get_xydata() for line in axes.lines[2 * i : 2 * i + 2]]).reshape(-1, 2)[[0, -1]]
        column, row = i % 4, i // 4
        assert column <= low[0] < high[0] < column + 1
        assert -row - 1 <= low[1] < high[1] < -row
        np.testing.assert_allclose(np.diff(axes.lines[2 * i].get_ydata()), 0.88 / 9, rtol=1e-5)
