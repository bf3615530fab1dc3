import copy
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bn_experiments.records.identity import config_hash, identity
from bn_experiments.records.results import FILE, Result, cells_below, done_below, done_in, read, read_run, runs
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
        "timing": {"setup_s": 1.0, "train_s": 1.25, "samples_per_s": 100.0},
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
def test_a_damaged_result_reads_as_none_and_is_no_finished_run(damage, tmp_path):
    result().write(tmp_path)
    content = damage((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read(tmp_path) is None
    assert runs(tmp_path) == []
    assert collect(tmp_path).empty


def test_a_finished_run_is_one_whose_record_says_done(tmp_path):
    assert runs(tmp_path / "nowhere") == []
    assert [run.folder for run in runs(cell_folder(tmp_path, "done"))] == [tmp_path / "done"]
    for status in ("started", "failed", "interrupted"):
        assert runs(cell_folder(tmp_path, status, status=status)) == []


def one_run(seeds, **changes):
    config = {**CONFIG, "seed": seeds[0], "replicas": len(seeds)}
    numbers = [seed / 100 for seed in seeds]
    probes = {"scores": {"gap": {"test": [seed / 7 for seed in seeds]}}}
    made = {"metrics": {"test/acc": numbers}, "diverged": [seed == 6 for seed in seeds], "probes": probes}
    return {"config": config, "seeds": list(seeds), **made, **changes}


def test_the_seeds_of_all_finished_runs_of_a_cell_count_together_each_once(tmp_path):
    cell = cell_folder(tmp_path, "cell", **one_run([5, 6, 7]))
    cell_folder(cell, "seeds=6-9", **one_run([6, 7, 8, 9]))
    cell_folder(cell, "seeds=10-11", **one_run([10, 11], status="failed"))
    found = read(cell)
    assert found.seeds == [5, 6, 7, 8, 9]
    assert found.metrics == {"test/acc": [0.05, 0.06, 0.07, 0.08, 0.09]}
    assert found.diverged == [False, True, False, False, False]
    assert found.probes["scores"]["gap"]["test"] == [seed / 7 for seed in found.seeds]
    assert found.timing == {"setup_s": 2.0, "train_s": 2.5, "samples_per_s": 100.0}
    assert read_run(cell).seeds == [5, 6, 7]
    assert cells_below(tmp_path) == [cell]
    assert list(done_below(tmp_path)) == [cell]
    assert collect(tmp_path)["seed"].tolist() == found.seeds


def test_chance_is_the_same_in_whatever_order_the_seeds_came(tmp_path):
    for name, order in (("one", (0.15, 0.14)), ("other", (0.14, 0.15))):
        cell = cell_folder(tmp_path, name, **one_run([0, 1], chance={"test/acc": order[0]}))
        cell_folder(cell, "seeds=2-3", **one_run([2, 3], chance={"test/acc": order[1]}))
        assert read(cell).chance == {"test/acc": 0.15}


def test_the_cells_of_a_sweep_lie_in_its_folder_and_not_deeper(tmp_path):
    cell = cell_folder(tmp_path, "cell", **one_run([5, 6]))
    cell_folder(tmp_path, "copies/cell", **one_run([5, 6]))
    lost = cell_folder(tmp_path, "lost/seeds=7-8", **one_run([7, 8]))
    assert list(done_in(tmp_path)) == [cell, lost.parent]


def test_a_run_of_another_configuration_does_not_count(tmp_path):
    cell = cell_folder(tmp_path, "cell", **one_run([5, 6]))
    other = {**one_run([7, 8])["config"], "init": "he_uniform"}
    cell_folder(cell, "seeds=7-8", **one_run([7, 8], config=other))
    assert read(cell).seeds == [5, 6]


def test_runs_under_different_code_leave_both_origins_in_the_record(tmp_path):
    cell = cell_folder(tmp_path, "cell", **one_run([5, 6], made_by=[{"code": {"a": "1"}}]))
    cell_folder(cell, "seeds=7-8", **one_run([7, 8], made_by=[{"code": {"a": "2"}}]))
    assert [origin.code for origin in read(cell).origins] == [{"a": "1"}, {"a": "2"}]


def test_collect_gives_a_row_for_each_replica_of_each_finished_cell(tmp_path):
    cell = {"data": "mnist1d", "model": "mlp", "norm": "none", "overrides": []}
    a = cell_folder(tmp_path, "grid/a")
    b = cell_folder(tmp_path, "other/b", cell=cell, seeds=[0], metrics={"test/acc": [0.5]}, diverged=[False])
    cell_folder(tmp_path, "grid/c", status="failed")
    rows = collect(tmp_path)
    assert rows["folder"].tolist() == [str(a)] * 3 + [str(b)]
    assert rows["seed"].tolist() == [5, 6, 7, 0]
    assert rows["norm"].tolist() == ["bn"] * 3 + ["none"]
    assert rows["arm"].tolist() == ["bn"] * 3 + ["none"]
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


def test_the_identity_of_a_cell_is_the_same_for_all_seeds_and_for_a_norm_that_there_is_not():
    bare = {**CONFIG, "norm": {"_target_": None, "placement": "pre"}}
    assert identity(changed(changed(bare, "seed", to=7), "replicas", to=2)) == identity(bare)
    assert config_hash(changed(bare, "seed", to=7)) != config_hash(bare)
    assert identity(changed(bare, "norm", "placement", to="post")) == identity(bare)
    with_norm = changed(bare, "norm", "_target_", to="torch.nn.LayerNorm")
    assert identity(changed(with_norm, "norm", "placement", to="post")) != identity(with_norm)


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
