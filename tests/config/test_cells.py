import copy
import itertools
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from bn_experiments.config.cells import cell_name, cell_of, choices, overrides_of
from bn_experiments.config.composition import cells_of

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module", autouse=True)
def hydra():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(config_name, overrides):
    """The cell that these overrides give, as Hydra composes it."""
    config = compose(config_name, overrides=list(overrides), return_hydra_config=True)
    return cell_of(config, config.hydra)


def cell(*overrides):
    return composed("config", overrides)


def name(*overrides):
    """A default cell's name with these overrides; composing the cell takes Hydra a hundred times as long."""
    return cell_name(choices({"data": "mnist1d", "model": "mlp", "norm": "bn", "optimizer": "sgd"}, overrides))


def root(text):
    """The override that sets a key to any text."""
    return f"data.root={QuotedString(text, Quote.single).with_quotes()}"


# what has no place in a file's name, what Hydra's grammar gives a meaning, and what looks like another override
ODD = "ab/.\\ '\"[]{}(),:=-+~_éß🙂\n"
TEXTS = st.text(ODD, max_size=8) | st.sampled_from(
    ["..", "../..", "/etc/x", "a" * 300, "a" * 299 + "b", "é" * 200, "x-init=he_uniform", "x-seed=1"]
)


def test_no_two_short_texts_share_a_folder():
    texts = ["".join(letters) for length in range(3) for letters in itertools.product(ODD, repeat=length)]
    assert len({name(root(text)) for text in texts}) == len(texts)


@given(st.sets(st.tuples(TEXTS, st.sampled_from(["torch", "he_uniform"]), st.integers(0, 11)), min_size=2, max_size=9))
@settings(deadline=None, max_examples=40)
def test_cells_that_differ_never_share_a_folder(cells):
    names = {name(root(text), f"init={init}", f"data.split_seed={seed}") for text, init, seed in cells}
    assert len(names) == len(cells)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([root("a b")], [root("ab")]),
        ([root("a'b")], [root("ab")]),
        ([root("a[b]")], [root("ab")]),
        ([root("a/b")], [root("a_b")]),
        ([root("a/b")], [root("a:b")]),
        ([root("null")], ["data.root=null"]),
        ([root("é" * 200)], [root("é" * 201)]),
        ([root("x-init=he_uniform")], ["data.root=x", "init=he_uniform"]),
        (["~optimizer.momentum=0.9"], ["optimizer.momentum=0.9"]),
        (["optimizer.lr=-0.1"], ["optimizer.lr=0.1"]),
        (["model.hidden=[1,23]"], ["model.hidden=[12,3]"]),
    ],
    ids=lambda overrides: " ".join(overrides)[:40],
)
def test_cells_that_look_alike_have_folders_of_their_own(left, right):
    assert name(*left) != name(*right)
    assert name(*left, "seed=1") != name(*right, "seed=1")


@given(TEXTS)
@settings(deadline=None)
def test_a_cells_name_is_one_printable_part_of_a_path_whatever_is_set(text):
    found = name(root(text))
    assert Path("sweep", found).parts == ("sweep", found)
    assert found not in (".", "..")
    assert found.isprintable()
    assert len(os.fsencode(found)) <= 255


def test_a_composed_cell_keeps_the_value_and_stays_below_the_sweeps_folder():
    text = "../a 'b' [c]" + "é🙂" * 100
    found = cell(root(text), "paths.output_dir=out", "name=mine")
    assert found.config["data"]["root"] == text
    assert found.folder == Path("out", "mine", name(root(text)))


def test_a_cell_is_named_by_its_groups_and_what_else_was_set():
    assert cell().folder.name == name() == "mnist1d-mlp-bn-sgd"
    assert cell("model=lenet", "norm=none", "optimizer=adam").folder.name == "mnist1d-lenet-none-adam"
    found = cell("trainer.max_epochs=3", "model.hidden=[64, 32]").folder.name
    assert found == "mnist1d-mlp-bn-sgd-model.hidden=64,32-trainer.max_epochs=3"
    assert found == name("model.hidden=[64,32]", "trainer.max_epochs=3")


def test_what_changes_no_number_is_not_part_of_the_name():
    found = cell(
        "name=other",
        "paths.data_dir=/elsewhere",
        "hydra.verbose=true",
        "hydra/job_logging=default",
        "trainer.progress_bar=false",
        "trainer.threads=3",
        "trainer.cuda_graph=false",
        "seed=3",
        "replicas=4",
        "baseline=ln",
        "stale=keep",
        "init=torch",
    )
    assert found.folder.name == name("init=torch")
    assert found.choices["overrides"] == ["init=torch"]
    assert list(found.seeds) == [3, 4, 5, 6]


def test_keys_of_a_norm_that_there_is_not_are_not_part_of_the_name():
    assert cell("norm=none", "norm.placement=post").folder == cell("norm=none").folder
    assert cell("norm=bn", "norm.placement=post").folder != cell("norm=bn").folder
    assert cell("norm=none", "norm._target_=null").folder == cell("norm=none").folder
    assert cell("norm=bn", "norm._target_=null").folder != cell("norm=bn").folder
    by_path = cell("norm=none", "norm._target_=torch.nn.LayerNorm", "norm.placement=post")
    assert by_path.choices["overrides"] == ["norm._target_=torch.nn.LayerNorm", "norm.placement=post"]


@pytest.mark.parametrize("path", ["torch.nn.LayerNorm", '"torch.nn.BatchNorm{dim}d"'])
def test_a_class_in_place_of_a_norms_option_is_the_cell_that_names_it_by_its_key(path):
    *others, own = cells_of("config", [f"norm=bn,none,{path}", "model.hidden=[8]"], multirun=True)[0]
    assert [other.choices["norm"] for other in others] == ["bn", "none"]
    by_key = cell("norm=none", f"norm._target_={path}", "model.hidden=[8]")
    assert (own.config, own.choices, own.folder.name) == (by_key.config, by_key.choices, by_key.folder.name)


def asked(*overrides):
    found, refusals, _ = cells_of("config", list(overrides), multirun=True)
    assert refusals == []
    return [(cell.folder.name.replace("mnist1d-mlp-", ""), len(cell.seeds)) for cell in found]


def test_cells_that_differ_in_their_seeds_alone_are_one_cell_with_the_seeds_of_all(data_dir):
    small = ["norm=bn", f"paths.data_dir={data_dir}"]
    assert asked(*small, "seed=0,10", "replicas=10") == [("bn-sgd", 20)]
    assert asked(*small, "seed=0,2", "replicas=3,4") == [("bn-sgd", 6)]


def test_an_arm_that_a_swept_key_does_not_touch_is_one_cell(data_dir):
    small = f"paths.data_dir={data_dir}"
    assert asked("norm=bn,none", "norm.placement=pre,post", small) == [
        ("bn-sgd-norm.placement=pre", 10),
        ("bn-sgd-norm.placement=post", 10),
        ("none-sgd", 10),
    ]
    assert asked("norm=bn,none", "norm.eps=1e-5,1e-3", small) == [
        ("bn-sgd-norm.eps=1e-05", 10),
        ("bn-sgd-norm.eps=0.001", 10),
        ("none-sgd", 10),
    ]
    assert asked("norm=bn,gn", "norm.num_groups=1,2", small) == [
        ("bn-sgd", 10),
        ("gn-sgd-norm.num_groups=1", 10),
        ("gn-sgd-norm.num_groups=2", 10),
    ]
    assert asked("norm=wn,bn", "norm.placement=pre,post", small) == [
        ("wn-sgd", 10),
        ("bn-sgd-norm.placement=pre", 10),
        ("bn-sgd-norm.placement=post", 10),
    ]


def test_a_key_that_no_option_of_a_grid_has_is_refused():
    _, refusals, _ = cells_of("config", ["norm=bn,none", "norm.epz=1"], multirun=True)
    assert [refusal.got for refusal in refusals] == ["no such key"] * len(refusals) != []


@given(st.permutations(["optimizer.lr=0.1", "norm=bn", "seed=3", "model.dropout=0.5"]))
@settings(deadline=None)
def test_the_name_does_not_depend_on_the_order_of_the_overrides(overrides):
    assert name(*overrides) == name(*sorted(overrides))


def test_a_cell_does_not_depend_on_the_order_of_the_overrides():
    overrides = ["optimizer.lr=0.1", "norm=none", "seed=3", "model=lenet"]
    assert cell(*overrides) == cell(*reversed(overrides))


def test_a_cell_knows_its_choices_and_holds_its_config_resolved_and_without_hydras_part():
    found = cell("data=mnist", "norm=gn", "scheduler=cosine", "trainer.max_epochs=7", "paths.data_dir=/there")
    assert found.choices == {
        "data": "mnist",
        "model": "mlp",
        "norm": "gn",
        "optimizer": "sgd",
        "scheduler": "cosine",
        "loss": "cross_entropy",
        "trainer": "default",
        "overrides": ["scheduler=cosine", "trainer.max_epochs=7"],
    }
    assert found.config["data"]["root"] == "/there"
    assert "hydra" not in found.config


# Grids


def multirun(*overrides):
    """The config that Hydra has before it asks the sweeper for its cells."""
    loader = GlobalHydra.instance().config_loader()
    return loader.load_configuration("config", list(overrides), RunMode.MULTIRUN)


BASIC = "hydra._internal.core_plugins.basic_{0}.Basic{1}"


def launched(config):
    """The overrides of each job that Hydra's own sweeper would launch."""
    loader = GlobalHydra.instance().config_loader()
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    config = copy.deepcopy(config)
    launcher = {"_target_": BASIC.format("launcher", "Launcher")}
    OmegaConf.update(config, "hydra.launcher", launcher, force_add=True, merge=False)  # replaced below
    sweeper = {"_target_": BASIC.format("sweeper", "Sweeper"), "params": config.hydra.sweeper.params}
    OmegaConf.update(config, "hydra.sweeper", {**sweeper, "max_batch_size": None}, force_add=True, merge=False)
    sweeper = Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=print, config=config)
    jobs = []
    sweeper.launcher = SimpleNamespace(launch=lambda batch, initial_job_idx: jobs.extend(map(list, batch)) or [])
    sweeper.validate_batch_is_legal = lambda batch: None  # composes every job, which takes seconds
    sweeper.sweep(OmegaConf.to_container(config.hydra.overrides.task, resolve=False))
    return jobs


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["norm=bn,none", "model=mlp,lenet"],
        ["optimizer.lr=0.1,0.2,0.3", "norm=none", "data.split_seed=range(0,20,10)"],
        ["model.hidden=[64, 64],[32]", "norm=glob(*n,exclude=in)"],
        ["init=torch,'he_uniform'", "trainer.max_epochs=choice(1,2)"],
        ["norm=bn,none", "hydra.verbose=true", "+model.extra=1,2"],
        ["model.activation='relu','tanh'", "data.mean=[0.1, 0.2],0.5", 'init="torch"'],
        ["norm=glob([b*,ln])", "data.split_seed=range(2)"],
        ["experiment=notebooks/udl_residual"],
        ["experiment=notebooks/udl_residual", "norm=ln,bn", "optimizer.lr=0.1,0.2"],
        ["experiment=notebooks/sigmoid_mlp", "model.hidden=[8],[8,8]", "optimizer=sgd"],
        ["~scheduler.step_size", "scheduler=step", "data.split_seed=1,2"],
        ["probes=[]", "norm=bn", "norm=none,ln"],
    ],
    ids=str,
)
@pytest.mark.few(4)
def test_a_grid_has_the_cells_that_hydras_sweeper_launches(overrides, tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr("bn_experiments.config.check.check_cells", lambda *_: [])  # cells alone matter here
    config = multirun(*overrides, f"paths.output_dir={tmp_path}", f"paths.data_dir={data_dir}")
    cells, refusals, _ = cells_of("config", overrides_of(config, multirun=True), multirun=True)
    jobs = launched(config)
    assert refusals == []
    assert cells == [composed("config", job) for job in jobs]
    assert [list(cell.typed) for cell in cells] == jobs


def test_a_grid_begins_with_the_sweepers_own_parameters(tmp_path, data_dir):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n      norm: bn,none\n      optimizer.lr: 0.1,0.2\n"
    )
    search = f"hydra.searchpath=[file://{tmp_path}]"
    paths = [f"paths.output_dir={tmp_path}", f"paths.data_dir={data_dir}"]
    config = multirun(search, "experiment=mine", "model=mlp,lenet", "optimizer.lr=0.3", *paths)
    cells, refusals, _ = cells_of("config", overrides_of(config, multirun=True), multirun=True)
    assert refusals == []
    assert cells == [composed("config", [search, *job]) for job in launched(config)]
    assert [(cell.choices["norm"], cell.config["optimizer"]["lr"]) for cell in cells] == [
        (norm, 0.3) for norm in ("bn", "bn", "none", "none")
    ]


def test_a_cell_is_the_same_whether_composed_for_the_check_or_run_by_hydra():
    overrides = ["norm=none", "optimizer.lr=0.1"]
    config = GlobalHydra.instance().config_loader().load_configuration("config", overrides, RunMode.RUN)
    found = cell_of(config, config.hydra)
    assert found == cell(*overrides)
    assert Path(config.hydra.run.dir) == found.folder
    assert Path(config.hydra.sweep.dir, config.hydra.sweep.subdir) == found.folder
