"""All that is wrong with a command is told at once, a line each, and nothing is made."""

import functools
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from bn_experiments.config import composition
from bn_experiments.config.composition import Composer, base, cells_of, explain
from bn_experiments.config.errors import as_refusal
from bn_experiments.refusal import Refusal
from bn_experiments.sweeps.command_line import refuse

ROOT = Path(__file__).parents[2]
TOP = (
    "augmentation, baseline, data, experiment, init, loss, model, name, norm, optimizer, paths, probes, replicas, "
    "scheduler, seed, stale, trainer, tune"
)
MODELS, NORMS = (
    ", ".join(sorted(file.stem for file in (ROOT / "conf" / group).glob("*.yaml"))) for group in ("model", "norm")
)
EXPERIMENTS = sorted((ROOT / "conf" / "experiment").rglob("*.yaml"))
EXPERIMENT_MISSPELT = (
    "experiment=udl_residul: no such option; allowed: "
    + ", ".join(str(file.relative_to(ROOT / "conf" / "experiment").with_suffix("")) for file in EXPERIMENTS)
    + "; did you mean experiment=notebooks/udl_residual?"
)
NO_FOO = f"foo: no such key; allowed: {TOP}; leave it out"
MLP_KEYS = "model.activation, model.bias, model.dropout, model.hidden, model.repeat"
MODEL_FOO = f"model=foo: no such option; allowed: {MODELS}; choose one, or add conf/model/foo.yaml"
NORM_BAR = f"norm=bar: no such option; allowed: {NORMS}; choose one, or add conf/norm/bar.yaml"
INTERVAL = (
    "interval(...) is a range for another sweeper, one that searches, such as Optuna's; allowed: choice(...), "
    "range(...) or a list of values, such as 1,2,3; name the values of the grid"
)
LR_0 = "optimizer.lr=0: wrong value; allowed: a number above 0; change it, or leave it out for the default"
DEFAULT = "change it, or leave it out for the default"
BATCH_0 = f"data.batch_size=0: wrong value; allowed: a whole number above 0 or full; {DEFAULT}"


@functools.cache
def composed_once(config_name, choices):
    return base(config_name, *choices)


@pytest.fixture
def told(data_dir, tmp_path, monkeypatch):
    """The lines about a command; Hydra, which takes most of the time, composes the same choices once."""
    monkeypatch.setattr(composition, "base", lambda name, *choices: composed_once(name, choices))

    def lines(*overrides, multirun=False):
        paths = [f"paths.data_dir={data_dir}", f"paths.output_dir={tmp_path}"] if multirun else []
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return [str(refusal) for refusal in cells_of("config", [*overrides, *paths], multirun)[1]]

    return lines


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model=foo", MODEL_FOO),
        ("norm=BN", f"norm=BN: no such option; allowed: {NORMS}; did you mean norm=bn?"),
        ("norm=batchnorm", "did you mean norm=bn?"),
        ("norm=batch_norm", "did you mean norm=bn?"),
        ("norm=LayerNorm", "did you mean norm=ln?"),
        ("norm=groupnorm", "did you mean norm=gn?"),
        ("norm=instancenorm", "did you mean norm=in?"),
        ("norm=rmsnorm", "did you mean norm=rms?"),
        ("scheduler=cosineannealing", "did you mean scheduler=cosine?"),
        ("model=BatchNorm", f"model=BatchNorm: no such option; allowed: {MODELS}; choose one, or add conf/model/Batch"),
        ("model=3", f"model=3: no such option; allowed: {MODELS}; choose one"),
        ("model=null", f"model=null: no such option; allowed: {MODELS}; choose one"),
        ("experiment=udl_residul", "notebooks/udl_residual, papers/bn_gradient_explosion, "),
        ("experiment=udl_residul", "; did you mean experiment=notebooks/udl_residual?"),
        ("experiment=papers/recurent", "; did you mean experiment=papers/recurrent?"),
        ("experiment=uc3m_mpl", "; did you mean experiment=notebooks/uc3m_mlp?"),
        ("norm=[bn,x]", f"norm=[bn,x]: no such option; allowed: {NORMS}; choose one"),
        ("+norm=ln", "+norm=ln: the config has its norm; allowed: norm=option; leave out the +"),
        ("hydra/launcher=foo", "hydra/launcher=foo: no such option; allowed: basic"),
        ("foo=1", NO_FOO),
        ("~foo", NO_FOO),
        ("data.batchsize=3", "did you mean data.batch_size?"),
        (
            "model.foo=1",
            f"model.foo: no such key; allowed: {MLP_KEYS}; leave it out, or write +model.foo if its class takes it",
        ),
        ("model={foo: 1}", f"model.foo: no such key; allowed: {MLP_KEYS}; leave it"),
        ("seed.foo=1", f"seed.foo: no such key; allowed: {TOP}; leave it out"),
        ("data.train_examples.foo=1", "data.train_examples.foo: no such key; allowed: data.batch_size, "),
        ("model.hidden.foo=1", "model.hidden.foo: no such key; allowed: model.activation, "),
        ("+seed=1", "+seed=1: the key exists; allowed: seed=1; leave out the +"),
        ("seed=1,2", "seed=1,2: several values; allowed: one for a single run; add -m to run them all as a grid"),
        ("seed", "seed: is no override; allowed: key=value or group=option; give it a value"),
        ("seed=[", "seed=[: cannot be read (no viable alternative at input '['); allowed: key=value; complete it, or"),
        ("data.root=a b~", """allowed: key=value; complete it, or quote it, 'data.root="a b~"'"""),
        ("data.root=~/x", "allowed: key=value; write $HOME for ~"),
        ("name=ünï", """complete it, or quote it, 'name="ünï"'"""),
        ("seed=foo(1)", "Unknown function 'foo'"),
        ("seed=${foo}", "seed=${foo}: leaves seed without a value (Interpolation key 'foo' not found); allowed: a val"),
        ("optimizer.lr=???", "optimizer.lr=???: leaves optimizer.lr without a value (Missing mandatory value: lr)"),
        ("paths=3", "paths=3: leaves data.root without a value ("),
        ("~paths", "~paths: leaves data.root without a value ("),
        ("~name", "~name: leaves name without a value ("),
    ],
)
def test_what_hydra_cannot_compose_is_told_in_one_line(told, override, expected):
    (found,) = told(override)
    assert expected in found
    assert "; allowed: " in found


FOLDER = (
    "would move Hydra's own records away from the results, whose folder is paths.output_dir/name/cell; allowed: "
    "paths.output_dir=... and name=..., which move both; leave it out, and set these"
)


@pytest.mark.parametrize("multirun", [False, True])
@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "+hydra.sweep.dir"])
def test_a_folder_of_hydras_own_choice_is_refused_with_the_keys_that_decide_it(told, key, multirun):
    assert told(f"{key}=/tmp/x", multirun=multirun) == [f"{key}=/tmp/x: {FOLDER}"]


def test_the_folders_of_hydra_are_refused_however_they_are_set(told):
    for override in ("~hydra.sweep.dir", "hydra.sweep={dir:x}", "hydra.run={dir:x}"):
        (line,) = told(override)
        assert line.endswith(f": {FOLDER}"), override
    assert told("hydra.job.chdir=false") == []


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("norm=bn,bn", "norm=bn,bn: bn comes 2 times; allowed: each value once; leave out what repeats"),
        ("optimizer.lr=0.1,1e-1", "optimizer.lr=0.1,1e-1: 0.1 comes 2 times; allowed: each value once; leave out"),
        ("model=glob(x*)", "model=glob(x*): stands for no value; allowed: one or more; change it"),
        ("seed=interval(0,1)", f"seed=interval(0,1): {INTERVAL}"),
        ("optimizer.lr=tag(log, interval(0.1, 1))", f"optimizer.lr=tag(log, interval(0.1, 1)): {INTERVAL}"),
        ("optimizer.lr=shuffle(interval(0.1,1))", f"optimizer.lr=shuffle(interval(0.1,1)): {INTERVAL}"),
        ("norm=bn,", "norm=bn,: cannot be read ("),
        ("name=a,b", "name: its values change no number, so cells of the grid are the same (data=mnist1d model=mlp"),
    ],
)
def test_the_values_of_a_grid_are_told_apart(told, override, expected):
    (found,) = told(override, multirun=True)
    assert expected in found


def test_all_that_is_wrong_is_told_and_what_it_entails_is_not(told):
    # model.channels is right for the model that was meant, and is not held against the default one
    overrides = [
        "model=foo",
        "model.channels=[3]",
        "norm=bar,bn",
        "foo=1",
        "optimizer.lr=0",
        "data.root=~/x",
        "seed=1,2",
    ]
    lines = told(*overrides, multirun=True)
    assert [found.split(":")[0] for found in lines] == [
        "model=foo",
        "norm=bar",
        "data.root=~/x",
        "foo",
        "optimizer.lr=0",
    ]


def test_an_error_that_stops_hydra_at_once_does_not_hide_another(told):
    assert told("model=foo", "norm=bar", "data.batch_size=0", multirun=True) == [MODEL_FOO, NORM_BAR, BATCH_0]


@pytest.mark.parametrize("norms", ["norm=none", "norm=none,bn"])
def test_a_key_that_no_option_of_the_command_has_is_wrong(told, norms):
    found, *_ = told(norms, "norm.num_groups=1", multirun=True)
    expected = "norm.num_groups: no such key; allowed: norm.bias, norm.layers, norm.placement, norm.scale_init; leave"
    assert found.startswith(expected)


def test_a_right_command_gives_its_cells_and_no_line(data_dir, tmp_path):
    overrides = [
        f"paths.data_dir={data_dir}",
        f"paths.output_dir={tmp_path}",
        "data.train_examples=250",
        "norm=bn,none",
    ]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cells, refusals, _ = cells_of("config", overrides, multirun=True)
    assert refusals == []
    assert [cell.choices["norm"] for cell in cells] == ["bn", "none"]


def test_what_is_not_the_overrides_fault_is_told_as_hydra_raised_it():
    error = FileNotFoundError(2, "No such file or directory", "/proc/x")
    rest = "allowed: a folder that can be written; set paths.output_dir to one"
    (found,) = explain(error, ["--config-dir", "/nowhere", "--unknown-flag"])
    assert str(found) == f"/proc/x: cannot be made (No such file or directory); {rest}"
    assert str(as_refusal(ValueError("a\nb"))).startswith("config: a b; allowed: ")


def test_a_line_stays_one_line_whatever_a_value_holds(capsys):
    odd = Path("a\nb\r\x1b[31m\u2028\udcff")
    with pytest.raises(SystemExit) as stop:
        refuse([Refusal("name", "no", "a", "b", value=odd), Refusal("ünï", "no", "a", "b")])
    assert stop.value.code == 2
    assert capsys.readouterr() == ("", "name=a b  [31m  : no; allowed: a; b\nünï: no; allowed: a; b\n")


@pytest.fixture
def hydra():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def test_an_option_in_a_folder_of_its_group_has_the_folder_in_its_name(hydra, tmp_path):
    for name in ("mine", "papers/deep/lstm"):
        file = tmp_path / "experiment" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    found = Composer("config", [f"hydra.searchpath=[file://{tmp_path}]"]).options("experiment")
    assert found[0] == "mine"
    assert {"notebooks/udl_residual", "papers/recurrent", "papers/deep/lstm"} <= set(found)
    assert len(found) == len(set(found))


def test_a_group_without_folders_has_its_files_and_a_key_has_no_options(hydra):
    composer = Composer("config", [])
    assert composer.options("model") == sorted(file.stem for file in (ROOT / "conf" / "model").glob("*.yaml"))
    assert composer.options("trainer.max_epochs") == []
    assert composer.options("seed") == []


RUN = """
import pathlib, runpy, sys
imported = pathlib.Path(sys.argv.pop(1))
sys.argv.pop(0)
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    imported.write_text(" ".join(name for name in ("torch", "pytorch_lightning") if name in sys.modules))
"""


@pytest.fixture
def command(data_dir, tmp_path, tmp_path_factory, monkeypatch):
    """Runs train.py in an empty folder: what it did, the heavy packages that it imported, and its seconds of work."""
    monkeypatch.setenv("BN_DATA_DIR", data_dir)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    imported = tmp_path_factory.mktemp("imported") / "names"

    def run(*arguments):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        words = [sys.executable, "-c", RUN, imported, ROOT / "train.py", *arguments]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        work_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return done, imported.read_text().split(), work_s

    return run


@pytest.mark.parametrize(
    ("arguments", "expected", "packages"),
    [
        (["model=foo"], [MODEL_FOO], []),
        (["experiment=udl_residul"], [EXPERIMENT_MISSPELT], []),  # Hydra itself takes any, since none is needed
        (
            ["seed=${foo}"],
            [
                "seed=${foo}: leaves seed without a value (Interpolation key 'foo' not found); allowed: a value, or "
                "${key} of a key that has one; change it"
            ],
            [],
        ),
        (
            ["norm=in", "replicas=0", "data.batch_size=0", "model.activation='re\nlu'"],
            [
                "replicas=0: wrong value; allowed: a whole number above 0; change it, or leave it out for the default",
                BATCH_0,
                "model.activation='re\\nlu': wrong value; allowed: relu, sigmoid, tanh, gelu, silu, elu, leaky_relu, "
                "softplus or identity; change it, or leave it out for the default",
            ],
            ["torch"],
        ),
        (
            ["-m", "model=mlp,foo", "norm=bn,bar", "optimizer.lr=0", "+foo=1"],
            [MODEL_FOO, NORM_BAR, NO_FOO, LR_0],
            ["torch"],
        ),
    ],
)
@pytest.mark.few(2)
def test_a_refused_command_prints_its_lines_and_leaves_nothing_behind(command, arguments, expected, packages, tmp_path):
    done, imported, work_s = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == expected
    assert list(tmp_path.iterdir()) == []
    assert imported == packages  # a typing error waits for no package, and no error for Lightning
    assert work_s < 10


def test_help_does_not_wait_for_torch(command):
    done, imported, _ = command("--help")
    assert done.returncode == 0
    assert imported == []
