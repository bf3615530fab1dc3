import copy
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bn_experiments.records import results
from bn_experiments.records.identity import config_hash
from bn_experiments.records.results import FILE, Result, is_done, read
from bn_experiments.records.table import collect
from bn_experiments.system.files import write_whole

CONFIG = {
    "name": "grid",
    "seed": 0,
    "replicas": 3,
    "init": "torch",
    "paths": {"data_dir": "data", "output_dir": "outputs"},
    "data": {"_target_": "a.b", "root": "data", "batch_size": 64, "mean": [0.5, 0.5]},
    "model": {"hidden": [100, 100], "dropout": 0.0},
    "trainer": {"max_epochs": 20, "progress_bar": "auto", "threads": 1, "cuda_graph": True},
}


def result(**changes):
    fields = {
        "status": "done",
        "cell": {"data": "mnist1d", "model": "mlp", "norm": "bn", "overrides": ["init=he_uniform", "seed=5"]},
        "config": CONFIG,
        "config_hash": config_hash(CONFIG),
        "seeds": [5, 6, 7],
        "metrics": {"test/acc": [0.1, 0.2, 1 / 3], "test/loss": [2.0, 1e-17, 3.0]},
        "diverged": [False, True, False],
        "timing": {"train_s": 1.25},
        "device": "cpu é",
        "versions": {"torch": "2"},
        "git_commit": "abc-dirty",
    }
    return Result(**{**fields, **changes})


def cell_folder(root, name, **changes):
    (root / name).mkdir(parents=True)
    result(**changes).write(root / name)
    return root / name


@pytest.mark.parametrize(
    "written",
    [result(), result(status="failed", metrics={}, diverged=[], error="E: it\nbroke")],
    ids=["done", "failed"],
)
def test_a_result_is_read_as_it_was_written(written, tmp_path):
    written.write(tmp_path)
    assert read(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_numbers_that_json_has_no_word_for_are_not_written(tmp_path):
    result().write(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        result(metrics={"test/loss": [float("nan")]}).write(tmp_path)
    assert read(tmp_path) == result()


@pytest.mark.parametrize("broken", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(broken, error, tmp_path, monkeypatch):
    def fail(*args):
        raise error

    write_whole(tmp_path / "file", "old")
    monkeypatch.setattr(*((os, "fsync") if broken == "fsync" else (Path, "replace")), fail)
    with pytest.raises(type(error)):
        write_whole(tmp_path / "file", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


def test_a_file_is_replaced_only_once_the_new_one_is_on_the_disk(tmp_path, monkeypatch):
    write_whole(tmp_path / "file", "old")
    seen = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (seen.append((tmp_path / "file").read_text()), fsync(number)))
    write_whole(tmp_path / "file", "new")
    assert seen == ["old"]
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: "null",
        lambda text: "[1]",
        lambda text: "{}",
        lambda text: text.replace('"seeds"', '"seed"'),
        lambda text: b"\xff\xfe" + text.encode(),
    ],
    ids=["empty", "cut short", "null", "a list", "no keys", "another key", "no text"],
)
def test_a_damaged_result_reads_as_none_and_counts_as_not_done(damage, tmp_path):
    result().write(tmp_path)
    content = damage((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read(tmp_path) is None
    assert not is_done(tmp_path, result().config_hash)
    assert collect(tmp_path).empty


def test_only_a_done_result_of_the_same_configuration_is_done(tmp_path):
    assert not is_done(tmp_path / "nowhere", result().config_hash)
    assert is_done(cell_folder(tmp_path, "done"), result().config_hash)
    assert not is_done(tmp_path / "done", config_hash({**CONFIG, "seed": 1}))
    for status in ("failed", "interrupted"):
        assert not is_done(cell_folder(tmp_path, status, status=status), result().config_hash)


def test_collect_gives_a_row_for_each_replica_of_each_finished_cell(tmp_path):
    cell = {"data": "mnist1d", "model": "mlp", "norm": "none", "overrides": []}
    a = cell_folder(tmp_path, "grid/a")
    b = cell_folder(tmp_path, "other/b", cell=cell, seeds=[0], metrics={"test/acc": [0.5]}, diverged=[False])
    cell_folder(tmp_path, "grid/c", status="failed")
    rows = collect(tmp_path)
    assert rows["folder"].tolist() == [str(a)] * 3 + [str(b)]
    assert rows["seed"].tolist() == [5, 6, 7, 0]
    assert rows["norm"].tolist() == ["bn"] * 3 + ["none"]
    assert rows["settings"].tolist() == ["init=he_uniform seed=5"] * 3 + [""]
    assert rows["diverged"].tolist() == [False, True, False, False]
    assert rows["test/acc"].tolist() == [0.1, 0.2, 1 / 3, 0.5]
    assert rows["test/loss"].tolist()[:3] == [2.0, 1e-17, 3.0]
    assert rows["test/loss"].isna().tolist() == [False] * 3 + [True]
    assert collect(tmp_path / "grid").equals(rows[:3])
    assert collect(tmp_path / "nowhere").empty


def changed(config, *keys, to):
    new = copy.deepcopy(config)
    inner = new
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    return new


def leaves(config, *before):
    for key, value in config.items():
        yield from leaves(value, *before, key) if isinstance(value, dict) else [(*before, key)]


IGNORED = [("name",), ("paths", "data_dir"), ("paths", "output_dir")]
IGNORED += [("trainer", key) for key in ("progress_bar", "threads", "cuda_graph")]


@pytest.mark.parametrize("keys", [keys for keys in leaves(CONFIG) if keys not in IGNORED], ids=".".join)
@given(value=st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("ab.1"))
@settings(deadline=None)
def test_the_hash_changes_with_whatever_can_change_a_number(keys, value):
    old = CONFIG
    for key in keys:
        old = old[key]
    same = json.dumps(value) == json.dumps(old)
    assert (config_hash(changed(CONFIG, *keys, to=value)) == config_hash(CONFIG)) == same


def test_the_hash_does_not_change_with_names_places_progress_bar_use_of_the_machine_and_order_of_keys():
    moved = changed(changed(CONFIG, "paths", "data_dir", to="/elsewhere"), "data", "root", to="/elsewhere")
    others = [
        {**CONFIG, "name": "other"},
        moved,
        changed(CONFIG, "paths", "output_dir", to="/elsewhere"),
        changed(CONFIG, "trainer", "progress_bar", to=False),
        changed(CONFIG, "trainer", "threads", to=3),
        changed(CONFIG, "trainer", "cuda_graph", to=False),
        dict(reversed(CONFIG.items())),
    ]
    assert {config_hash(other) for other in others} == {config_hash(CONFIG)}
    assert config_hash(changed(CONFIG, "model", "hidden", to=[100, 101])) != config_hash(CONFIG)


def test_the_hash_tells_two_folders_of_ones_own_images_apart():
    images = changed(CONFIG, "data", "_target_", to="bn_experiments.data.image_folder.image_folder")
    moved = changed(changed(images, "paths", "data_dir", to="/other"), "data", "root", to="/other")
    assert config_hash(moved) != config_hash(images)


def test_the_record_says_which_schema_it_has(tmp_path):
    result().write(tmp_path)
    assert json.loads((tmp_path / FILE).read_text())["schema"] == results.SCHEMA
