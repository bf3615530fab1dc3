"""TensorBoard, read over HTTP as its page does."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import pytest

from bn_experiments.claims import differences
from bn_experiments.claims.differences import CHARTS
from bn_experiments.claims.summary import summarise
from bn_experiments.records.results import done_in, read
from bn_experiments.run import run

PAIR = "differences/bn - none (n=2)"


@pytest.fixture
def served(compose_cell):
    """Two arms trained, and a function that asks a TensorBoard that shows them."""
    cells = [compose_cell(f"norm={norm}", "trainer.max_epochs=3", "data.batch_size=45", "trainer.log_every_n_steps=2")
             for norm in ("bn", "none")]  # fmt: skip
    for cell in cells:
        run(cell)
    folder = cells[0].folder.parent
    there = done_in(folder)
    assert not differences.write(folder, summarise(there, "none"), there)
    options = ["--logdir", str(folder), "--port", "0", "--host", "127.0.0.1", "--load_fast", "false"]
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        url = next(found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))

        def ask(path: str, body: dict | None = None, **parameters: str):
            query = f"?{urlencode(parameters)}" if parameters else ""
            data = None if body is None else json.dumps(body).encode()
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{url}/data/{path}{query}", data, headers)
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)

        deadline = time.monotonic() + 60
        while len(ask("runs")) < 3 or len(ask("plugin/scalars/tags")) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield cells, ask
    finally:
        server.terminate()
        server.communicate()


def test_tensorboard_shows_what_was_measured(served):
    cells, ask = served
    assert set(ask("runs")) == {PAIR, *(cell.folder.name for cell in cells)}
    for cell in cells:
        curves = pd.read_csv(cell.folder / "metrics.csv")

        def scalars(tag, name=cell.folder.name):
            return [(step, value) for _, step, value in ask("plugin/scalars/scalars", run=name, tag=tag)]

        by_step = curves[curves["name"] == "train/step_loss"].groupby("step")["value"].mean()
        pairs = by_step.to_numpy()[: len(by_step) // 2 * 2].reshape(-1, 2).mean(1)
        drawn = scalars("train/step_loss")
        assert [step for step, _ in drawn] == list(range(2, 2 * len(pairs) + 1, 2)), "a point every two steps"
        np.testing.assert_allclose([value for _, value in drawn], pairs, rtol=1e-5)

        for name in ("train/running_loss", "val/loss", "val/acc"):
            by_epoch = curves[curves["name"] == name].groupby("epoch")["value"].mean()
            assert [step for step, _ in scalars(name)] == [1, 2, 3], "each epoch is drawn once"
            drawn = dict(scalars(name))
            np.testing.assert_allclose([drawn[epoch] for epoch in (1, 2, 3)], by_epoch, rtol=1e-5)
        low, high = (dict(scalars(f"interval/val/loss/{side}")) for side in ("low", "high"))
        assert all(low[epoch] < high[epoch] for epoch in (1, 2, 3))
    check_differences(cells, ask)
    check_hparams(cells, ask)


def check_differences(cells, ask):
    tables = [pd.read_csv(cell.folder / "metrics.csv") for cell in cells]
    bn, none = (table.pivot_table(index=["name", "epoch"], columns="replica", values="value") for table in tables)
    for name in ("train/running_loss", "val/loss"):
        drawn = {step: value for _, step, value in ask("plugin/scalars/scalars", run=PAIR, tag=f"difference/{name}")}
        np.testing.assert_allclose([drawn[epoch] for epoch in (1, 2, 3)], (bn - none).mean(axis=1)[name], atol=1e-6)
    about = ask("plugin/scalars/tags")[PAIR]["difference/val/loss"]["description"]
    assert "<code>val/loss</code> of the first arm in the run's name minus that of the second" in about
    layout = {each["title"]: each["chart"] for each in ask("plugin/custom_scalars/layout")["category"]}
    assert len(layout) == 2
    for heading, tag in (("mean and 99% interval over replicas", "val/loss"), (CHARTS, "difference/val/loss")):
        (chart,) = [chart for chart in layout[heading] if chart["title"] == "val/loss"]
        ends = {"lower": f"interval/{tag}/low", "upper": f"interval/{tag}/high"}
        assert chart["margin"]["series"] == [{"value": tag, **ends}]


def check_hparams(cells, ask):
    columns = {
        "hparams": [{"hparam": name} for name in ("norm", "model", "lr")],
        "metrics": [{"metric": {"group": "", "tag": "test/acc"}}],
    }
    body = {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS", "STATUS_UNKNOWN", "STATUS_RUNNING"]}
    body |= {"colParams": [*columns["hparams"], *columns["metrics"]], "startIndex": 0, "sliceSize": 10}
    groups = ask("plugin/hparams/session_groups", body=body)["sessionGroups"]
    assert {group["hparams"]["norm"] for group in groups} == {"bn", "none"}
    accuracy = {cell.choices["norm"]: np.mean(read(cell.folder).metrics["test/acc"]) for cell in cells}
    for group in groups:
        assert group["hparams"]["lr"] == 0.05
        (value,) = [m["value"] for m in group["metricValues"] if m["name"]["tag"] == "test/acc"]
        assert value == pytest.approx(accuracy[group["hparams"]["norm"]], abs=1e-6)
