import json
from contextlib import nullcontext
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
import torch

from bn_experiments.config import build, objects
from bn_experiments.data.batches import Blocks
from bn_experiments.records.results import read
from bn_experiments.records.table import collect
from bn_experiments.run import run
from bn_experiments.training.initialization import initialize
from tests.everything import everything


@pytest.fixture
def trained(compose_cell):
    """A small cell with all that it left behind."""
    cell = compose_cell("norm=bn", "trainer.max_epochs=3", "replicas=3", "data.batch_size=50", "seed=7")
    return cell, run(cell)


def test_result_json_holds_what_was_run_and_what_came_out(trained):
    cell, result = trained
    record = json.loads((cell.folder / "result.json").read_text())
    assert record["status"] == "done"
    assert {key: record["cell"][key] for key in ("data", "model", "norm", "optimizer")} == {
        "data": "mnist1d", "model": "mlp", "norm": "bn", "optimizer": "sgd",
    }  # fmt: skip
    assert "trainer.max_epochs=3" in record["cell"]["overrides"]
    assert record["config"]["optimizer"]["lr"] == 0.05
    assert record["seeds"] == [7, 8, 9]
    assert set(record["metrics"]) == {"train/running_loss", "val/loss", "val/acc", "test/loss", "test/acc"}
    assert all(len(values) == 3 for values in record["metrics"].values())
    assert all(0 <= accuracy <= 1 for accuracy in record["metrics"]["test/acc"])
    assert set(record["timing"]) == {"setup_s", "train_s", "samples_per_s"}
    assert record["timing"]["samples_per_s"] == pytest.approx(3 * 3 * 225 / record["timing"]["train_s"])
    assert record["versions"]["torch"] == torch.__version__.split("+")[0] or torch.__version__
    assert record["device"].startswith("cpu")
    (made_by,) = record["made_by"]
    assert {"bn_experiments.norms.slot", "bn_experiments.models.mlp", "bn_experiments.seeds"} < set(made_by["code"])
    assert not any(name.startswith("bn_experiments.models.lenet") for name in made_by["code"])
    assert (made_by["device"], made_by["versions"]["torch"]) == ("cpu", version("torch"))
    share = np.bincount(objects.splits(cell.config).test.y).max() / 1000
    assert record["chance"]["test/acc"] == pytest.approx(share + 3 * (share * (1 - share) / 1000) ** 0.5)
    assert read(cell.folder) == result


def test_the_metrics_are_those_of_the_saved_networks(trained):
    cell, result = trained
    splits = objects.splits(cell.config)
    (file,) = (cell.folder / "checkpoints").iterdir()
    state = torch.load(file, weights_only=True)["state_dict"]
    for i in range(3):
        network = objects.network(cell.config, splits)
        initialize(network, 0, "torch", "ones")
        network.load_state_dict({name.removeprefix("replicas.network."): value[i] for name, value in state.items()})
        network.eval()
        for split in ("val", "test"):
            x, y = everything(getattr(splits, split))
            logits = network(x.float())
            accuracy = (logits.argmax(1) == y).double().mean().item()
            assert result.metrics[f"{split}/acc"][i] == pytest.approx(accuracy, abs=1e-6)
            loss = torch.nn.functional.cross_entropy(logits, y).item()
            assert result.metrics[f"{split}/loss"][i] == pytest.approx(loss, rel=1e-4)


def test_metrics_csv_holds_every_step_and_epoch_of_every_replica(trained):
    cell, result = trained
    table = pd.read_csv(cell.folder / "metrics.csv")
    assert list(table.columns) == ["step", "epoch", "replica", "name", "value"]
    steps = table[table["name"] == "train/step_loss"]
    assert len(steps) == 3 * 5 * 3  # epochs, steps an epoch, replicas
    assert steps.groupby("epoch")["step"].agg(["min", "max"]).to_numpy().tolist() == [[1, 5], [6, 10], [11, 15]]
    for name in ("train/running_loss", "val/loss", "val/acc"):
        rows = table[(table["name"] == name) & (table["epoch"] == 3)].sort_values("replica")
        assert rows["step"].tolist() == [15, 15, 15]
        np.testing.assert_allclose(rows["value"], result.metrics[name], rtol=1e-6)
    # an epoch's loss is the mean over its 225 examples: four batches of 50 and one of 25
    weights = np.array([50, 50, 50, 50, 25]) / 225
    for replica in range(3):
        losses = steps[(steps["epoch"] == 2) & (steps["replica"] == replica)].sort_values("step")["value"]
        mean = table[(table["name"] == "train/running_loss") & (table["epoch"] == 2) & (table["replica"] == replica)]
        assert mean["value"].item() == pytest.approx((losses * weights).sum(), rel=1e-5)


def test_training_learns_and_batch_norm_replicas_differ(compose_cell):
    cell = compose_cell("model=lenet", "norm=bn", "trainer.max_epochs=15", "data.train_examples=1000")
    result = run(cell)
    assert min(result.metrics["test/acc"]) > 0.5, "ten classes: chance is 0.1"
    assert result.metrics["train/running_loss"][0] != result.metrics["train/running_loss"][1]
    table = collect(cell.folder.parent)
    assert table["test/acc"].tolist() == result.metrics["test/acc"]
    assert table["norm"].tolist() == ["bn", "bn"]


@pytest.mark.filterwarnings("ignore:Checkpoint directory")  # Lightning finds the one it goes on from
def test_a_cell_that_was_cut_short_ends_with_the_same_numbers(compose_cell, tmp_path):
    keys = ["norm=bn", "model.dropout=0.2", "trainer.max_epochs=4", "optimizer=adam", "scheduler=cosine"]
    keys += ["trainer.checkpoint_every_n_steps=1", "data.batch_size=50"]
    whole = compose_cell(*keys, "paths.output_dir=" + str(tmp_path / "whole"))
    cut = compose_cell(*keys, "paths.output_dir=" + str(tmp_path / "cut"))
    expected = run(whole)

    original, epochs = Blocks.order, []

    def power_cut(self, epoch):
        epochs.append(epoch)
        if len(epochs) == 3:
            raise OSError("power cut")
        return original(self, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Blocks, "order", power_cut)
        with pytest.raises(OSError, match="power cut"):
            run(cut)
        result = run(cut)
    assert epochs == [0, 1, 2, 2, 3], "two epochs were saved, and are not trained again"
    assert result.metrics == expected.metrics
    curves = [pd.read_csv(cell.folder / "metrics.csv") for cell in (whole, cut)]
    pd.testing.assert_frame_equal(*curves)


def test_a_replica_that_diverges_has_the_accuracy_of_chance_and_no_loss(compose_cell):
    result = run(compose_cell("norm=none", "optimizer.lr=1e6", "trainer.max_epochs=2"))
    assert result.diverged == [True, True]
    assert result.metrics["test/acc"] == [0.1, 0.1]
    assert result.metrics["test/loss"] == [None, None]


def test_stacked_and_separate_replicas_have_the_same_curves(compose_cell):
    keys = ["norm=bn", "model.dropout=0.2", "trainer.precision=64-true", "trainer.max_epochs=2", "data.batch_size=50"]
    cells = [compose_cell(*keys, "replicas=3", f"trainer.stack_replicas={stacked}") for stacked in (True, False)]
    for cell in cells:
        run(cell)
    stacked, separate = (pd.read_csv(cell.folder / "metrics.csv") for cell in cells)
    pd.testing.assert_frame_equal(stacked, separate, rtol=1e-6)
    first = stacked[(stacked["step"] == 1) & (stacked["name"] == "train/step_loss")]["value"]
    assert first.nunique() == 3, "each replica has a curve of its own"


def test_the_gradient_of_each_replica_is_clipped_to_the_norm_that_is_set(compose_cell):
    keys = ["norm=none", "trainer.gradient_clip_norm=0.01", "optimizer.lr=0.5", "optimizer.momentum=0"]
    cell = compose_cell(*keys, "data.batch_size=225", "trainer.precision=64-true")  # one step
    before = build.replicas(cell.config, objects.splits(cell.config), "cpu").double()
    run(cell)
    (file,) = (cell.folder / "checkpoints").iterdir()
    after = torch.load(file, weights_only=True)["state_dict"]
    moved = [(after[f"replicas.{name}"] - weights).flatten(1) for name, weights in before.named_parameters()]
    assert torch.cat(moved, dim=1).norm(dim=1).tolist() == pytest.approx([0.5 * 0.01] * 2, rel=1e-4)


@pytest.mark.parametrize("ends", ["well", "in an error"])
@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="the processor cannot flush denormals")
def test_denormals_are_flushed_while_a_cell_runs_and_not_after(compose_cell, monkeypatch, ends):
    def denormal() -> float:
        return (torch.tensor(1e-30) * torch.tensor(1e-10)).item()

    original, found = Blocks.order, []

    def looking(self, epoch):
        found.append(denormal())
        if ends == "in an error":
            raise OSError("power cut")
        return original(self, epoch)

    monkeypatch.setattr(Blocks, "order", looking)
    with pytest.raises(OSError, match="power cut") if ends == "in an error" else nullcontext():
        run(compose_cell())
    assert found == [0]
    assert denormal() == pytest.approx(1e-40, rel=1e-4, abs=0)


def test_networks_that_are_not_trained_leave_no_weights(compose_cell):
    for epochs in (0, 1):
        cell = compose_cell(f"trainer.max_epochs={epochs}", "probes=[]")
        run(cell)
        assert len([*(cell.folder / "checkpoints").glob("*")]) == epochs


def test_metrics_csv_has_the_digits_of_the_precision(compose_cell):
    cell = compose_cell("probes=[]", "trainer.precision=64-true")
    result = run(cell)
    table = pd.read_csv(cell.folder / "metrics.csv")
    last = table[table["name"] == "train/running_loss"].groupby("replica")["value"].last()
    assert last.tolist() == pytest.approx(result.metrics["train/running_loss"], rel=1e-15, abs=0)
