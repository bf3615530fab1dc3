"""A job is what Hydra makes of it, though nothing is composed for it."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf

from bn_experiments.config.cells import overrides_of
from bn_experiments.config.composition import cells_of
from bn_experiments.refusal import Refusal
from bn_experiments.sweeps import sweeper
from bn_experiments.sweeps.launchers import launcher
from bn_experiments.sweeps.launchers.launcher import CellLauncher, Worker
from bn_experiments.sweeps.plan import Plan
from tests.conftest import CONF


@pytest.fixture
def hydra():
    with initialize_config_dir(str(CONF), job_name="train", version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@pytest.fixture
def grid(hydra, data_dir, tmp_path, monkeypatch):
    """The configuration of a grid's command, with its cells."""
    monkeypatch.setattr("hydra.core.utils.configure_log", lambda *_: None)  # pytest has the log
    monkeypatch.chdir(tmp_path)

    def made(*overrides):
        fixed = [f"paths.data_dir={data_dir}", f"paths.output_dir={tmp_path}/out", "data.train_examples=250"]
        config = hydra.load_configuration("config", [*fixed, "norm=bn,none", *overrides], RunMode.MULTIRUN)
        return config, cells_of("config", overrides_of(config, multirun=True), multirun=True)[0]

    return made


def test_a_job_has_the_environment_the_folder_and_the_records_that_hydra_would_give_it(hydra, grid, monkeypatch):
    config, cells = grid("+hydra.job.env_set.SEEN=yes", "hydra.job.chdir=true", "optimizer.lr=0.1,0.2", "+model.x=1")
    seen = []
    monkeypatch.setattr(launcher, "train_cell", lambda cell: seen.append((cell, os.environ["SEEN"], Path.cwd())))
    assert Worker(config, Callbacks())(3, cells[3]) is None
    cell = cells[3]
    assert seen == [(cell, "yes", cell.folder)]
    assert "SEEN" not in os.environ
    expected = hydra.load_sweep_config(config, list(cell.typed))
    records = {
        name: OmegaConf.load(cell.folder / ".hydra" / f"{name}.yaml") for name in ("config", "hydra", "overrides")
    }
    assert records["overrides"] == list(cell.typed)
    assert records["config"] == {**cell.config, "experiment": None}
    own = records["hydra"].hydra
    assert (own.job.num, own.job.id, own.job.name) == (3, "3", "train")
    for key in ("overrides.task", "runtime.choices", "job.env_set", "sweep", "run", "launcher", "sweeper"):
        assert OmegaConf.select(own, key) == OmegaConf.select(expected.hydra, key), key


def test_a_launcher_that_refuses_ends_the_command_with_its_line_alone(grid, hydra, tmp_path, monkeypatch, capsys):
    class Refusing(CellLauncher):
        def run(self, jobs):
            raise Refusal("hydra.launcher", "no such machine", "another", "choose it")

    config, cells = grid()
    monkeypatch.setattr(sweeper, "prepare_workers", lambda preset: None)
    monkeypatch.setattr(sweeper, "plan_of", lambda config, multirun: Plan(cells, None, None))
    monkeypatch.setattr(sweeper, "launcher_of", lambda preset: Refusing())
    swept = sweeper.GridSweeper(None)
    swept.setup(hydra_context=HydraContext(hydra, Callbacks()), task_function=None, config=config)
    with pytest.raises(SystemExit) as ended:
        swept.sweep([])
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", "hydra.launcher: no such machine; allowed: another; choose it\n")


LAUNCHERS = [
    (["hydra/launcher=local"], False),
    (["hydra/launcher=ray"], False),
    (["hydra/launcher=ray", "hydra.launcher.address=local"], False),
    (["hydra/launcher=ray", "hydra.launcher.address=auto"], True),
    (["hydra/launcher=ray", "hydra.launcher.address='host:6379'"], True),
    (["hydra/launcher=slurm"], True),
    (["hydra/launcher=slurm", "hydra.launcher.cluster=local"], False),
]


@pytest.mark.parametrize(("launched", "elsewhere"), LAUNCHERS, ids=str)
@pytest.mark.parametrize("accelerator", ["gpu", "auto"])
@pytest.mark.few(6)
def test_this_machine_needs_a_gpu_only_where_it_trains_itself(
    grid, hydra, monkeypatch, capsys, launched, elsewhere, accelerator
):
    plans = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sweeper, "prepare_workers", lambda preset: None)
    monkeypatch.setattr(sweeper, "launcher_of", lambda preset: SimpleNamespace(train=lambda *_: None))
    monkeypatch.setattr(sweeper, "finish", lambda plan: plans.append(plan) or 0)
    config, _ = grid(f"trainer.accelerator={accelerator}", *launched)
    swept = sweeper.GridSweeper(None)
    swept.setup(hydra_context=HydraContext(hydra, Callbacks()), task_function=None, config=config)
    with pytest.raises(SystemExit) as ended:
        swept.sweep([])
    if accelerator == "gpu" and not elsewhere:
        assert ended.value.code == 2
        assert capsys.readouterr().err.startswith("trainer.accelerator=gpu: there is none here; allowed: auto, cpu")
    else:
        assert capsys.readouterr().err == ""
        assert ended.value.code == 0
        assert [plan.elsewhere for plan in plans] == [elsewhere]


@pytest.mark.parametrize(
    ("sbatch", "got"),
    [
        ("#!/bin/sh\necho 'sbatch: error: invalid account' >&2\nexit 1\n", "sbatch: error: invalid account; allowed: "),
        (None, "[Errno 2] No such file or directory: 'sbatch'; allowed: "),
    ],
    ids=["refuses", "is not there"],
)
def test_jobs_that_slurm_does_not_take_are_refused_in_one_line(grid, tmp_path, monkeypatch, capfd, sbatch, got):
    pytest.importorskip("submitit")
    from bn_experiments.sweeps.launchers.slurm import SlurmLauncher

    programs = {"srun": "#!/bin/sh\nexit 0\n", **({"sbatch": sbatch} if sbatch else {})}
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    config, cells = grid()
    slurm = SlurmLauncher("slurm", str(tmp_path / "slurm"), at_a_time=2, parameters={"name": "x", "timeout_min": 1})
    with pytest.raises(Refusal) as caught:
        slurm.train(Plan(cells, None, None), Worker(config, Callbacks()))
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"hydra.launcher: {got}")
    assert line.endswith("; hydra.launcher.cluster=local tries things out without a Slurm")
    assert capfd.readouterr() == ("", "")


def test_what_a_cell_holds_of_another_command_is_not_in_its_records(grid, monkeypatch):
    monkeypatch.setattr(launcher, "train_cell", lambda cell: None)
    config, cells = grid("model=mlp,residual_mlp", "~scheduler.gamma", "scheduler=step")
    worker = Worker(config, Callbacks())
    for number, cell in enumerate(cells):
        assert worker(number, cell) is None
        record = OmegaConf.load(cell.folder / ".hydra" / "config.yaml")
        assert OmegaConf.to_container(record) == {**cell.config, "experiment": None}


def test_what_kept_a_job_from_its_end_is_told_in_a_line(grid, monkeypatch):
    config, cells = grid()
    worker = Worker(config, Callbacks())
    for error, line in ((OSError(28, "No space left"), "[Errno 28] No space left"), (KeyError("a\nb"), None)):

        def fails(cell, error=error):
            raise error

        monkeypatch.setattr(launcher, "train_cell", fails)
        found = worker(0, cells[0])
        assert "\n" not in found
        assert line is None or found == line
