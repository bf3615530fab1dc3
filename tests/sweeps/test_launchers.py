"""Sweeps on a Ray cluster and through submitit: the same numbers, and no more lost than must be."""

import signal

import pytest

from bn_experiments.records.results import done_below, read
from tests.command_line import ENVIRONMENT, command, run, start, train, until

pytestmark = pytest.mark.slow
GRID = ["-m", "model=mlp,residual_mlp", "norm=bn,none"]
RAY = "hydra/launcher=ray"
SLURM = ["hydra/launcher=slurm", "hydra.launcher.cluster=local", "hydra.launcher.at_a_time=2"]
PRESETS = {"ray": [RAY], "slurm": SLURM}


@pytest.fixture(scope="module")
def expected(data_dir, tmp_path_factory):
    """The grid as this machine's own launcher trains it."""
    folder = tmp_path_factory.mktemp("local")
    assert train(data_dir, folder, *GRID).returncode == 0
    return folder


@pytest.fixture(params=PRESETS)
def preset(request):
    pytest.importorskip({"ray": "ray", "slurm": "submitit"}[request.param])
    return PRESETS[request.param]


def same_results(folder, expected):
    cells = [path.parent.relative_to(expected) for path in expected.rglob("result.json")]
    for cell in cells:
        one, other = read(expected / cell), read(folder / cell)
        assert (one.metrics, one.probes) == (other.metrics, other.probes)
    return len(cells)


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}


def test_a_grid_has_the_same_numbers_and_what_is_done_is_skipped(data_dir, tmp_path, expected, preset):
    first = train(data_dir, tmp_path, "-m", "model=mlp", "norm=bn,none", *preset)
    assert first.returncode == 0, first.stderr
    before = times(tmp_path)
    whole = train(data_dir, tmp_path, *GRID, *preset)
    assert whole.returncode == 0, whole.stderr
    assert "4 of 4 cells done" in whole.stdout
    assert len(before) == 2
    assert before.items() <= times(tmp_path).items()
    assert same_results(tmp_path, expected) == 4
    refused = train(data_dir, tmp_path, *GRID, "norm.eps=-1", *preset)
    assert refused.returncode == 2


def test_a_worker_that_dies_costs_one_cell_and_the_next_run_mends_it(data_dir, tmp_path, preset):
    arms = ["norm=none", "optimizer.lr=0.1,0.2", "norm._target_=tests.failing.{},null"]
    retries = ["hydra.launcher.retries=0"] if RAY in preset else []
    done = train(data_dir, tmp_path, "-m", *(arm.format("Killing") for arm in arms), *preset, *retries)
    assert done.returncode == 1
    assert "2 of 4 cells done" in done.stdout
    assert "Traceback" not in done.stderr
    lost = [line for line in done.stderr.splitlines() if "the same command tries it again" in line]
    assert len(lost) == 2
    assert all("died" in line or "ended without a result" in line for line in lost), lost


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_what_is_trained_and_the_same_command_goes_on(data_dir, tmp_path, preset, number, status):
    words = command(data_dir, tmp_path, "-m", "norm=bn", "trainer.max_epochs=1,300", *preset)
    words.remove("trainer.max_epochs=2")
    running = start(words, tmp_path)
    until(lambda: len(list(tmp_path.rglob("*.ckpt"))) == 2 and done_below(tmp_path), running)
    running.send_signal(number)
    stdout, stderr = running.communicate(timeout=100)
    assert running.returncode == status, stderr
    assert "1 of 2 cells done" in stdout
    (cut,) = [path.parent for path in tmp_path.rglob("result.json") if read(path.parent).status == "interrupted"]
    again = run(words, tmp_path)
    assert again.returncode == 0, again.stderr
    assert "2 of 2 cells done" in again.stdout
    assert "Restored all states" in (cut / "train.log").read_text()


def test_a_node_that_dies_costs_nothing(data_dir, tmp_path, expected, monkeypatch):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    for name in ("PYTHONPATH", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, ENVIRONMENT[name])
    longer = ["trainer.max_epochs=200", "trainer.checkpoint_every_n_steps=1"]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        words = command(data_dir, tmp_path, *GRID, RAY, f"hydra.launcher.address={cluster.address}", *longer)
        words.remove("trainer.max_epochs=2")
        running = start(words, tmp_path)
        until(lambda: len(list(tmp_path.rglob("*.ckpt"))) == 2, running)
        cluster.remove_node(node, allow_graceful=False)
        stdout, stderr = running.communicate(timeout=300)
    finally:
        cluster.shutdown()
    assert running.returncode == 0, stderr
    assert "4 of 4 cells done" in stdout
    logs = [path.read_text() for path in tmp_path.rglob("train.log")]
    assert sum("Restored all states" in log for log in logs) == 1, "the cell of the dead node went on elsewhere"
    local = command(data_dir, tmp_path / "local", *GRID, *longer)
    local.remove("trainer.max_epochs=2")
    (tmp_path / "local").mkdir()
    assert run(local, tmp_path, timeout=300).returncode == 0
    assert same_results(tmp_path, tmp_path / "local") == 4
