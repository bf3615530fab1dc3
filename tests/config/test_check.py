"""Every error of a config is one line: the key, what it got, what is allowed, what to do."""

import copy
import functools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from torch import nn

from bn_experiments.config import build, network_check
from bn_experiments.config import check as checks
from bn_experiments.config.cells import GROUPS, cell_of, spelled_out
from bn_experiments.config.check import Once
from bn_experiments.norms.slot import Slot
from bn_experiments.system import memory

ABOVE_0, FROM_0 = "a whole number above 0", "a whole number of at least 0"
WIDTHS = "a list of 1 or more whole numbers above 0"
NAME = "a folder's name: letters, digits and . + = , - _, the first a letter, a digit or _"
PROBABILITY = "a number of at least 0 and below 1"
SHARE = "a number above 0 and below 1"
ACTIVATIONS = "relu, sigmoid, tanh, gelu, silu, elu, leaky_relu, softplus or identity"
RATE = "a number above 0"
DATA = "bn_experiments.data.augmentation"
REPLICAS = "a whole number above 0; for a grid also numbers that rise, 10..80 or [10,20,40], until all is decided"
TOP = (
    "augmentation, baseline, data, experiment, init, loss, model, name, norm, optimizer, paths, probes, replicas, "
    "scheduler, seed, stale, trainer, tune"
)


class Shorter:
    draws = 1

    def __call__(self, x, u):
        return x[..., 1:]


class Drawing(Shorter):
    def __call__(self, x, u):
        return x + torch.rand(1)


class Mixing(Shorter):
    def __call__(self, x, u):
        return x - x.mean()


class Raising(Shorter):
    def __init__(self):
        raise ValueError("no such mode")


def check(*arguments, **keywords):
    return [str(refusal) for refusal in checks.check(*arguments, **keywords)]


def check_cells(*arguments, **keywords):
    return [str(refusal) for refusal in checks.check_cells(*arguments, **keywords)]


@pytest.fixture(scope="module")
def cell_with(data_dir, tmp_path_factory):
    """As `compose_cell`, from one string; Hydra composes each choice of groups once, settings go onto a copy."""
    small = [f"paths.data_dir={data_dir}", f"paths.output_dir={tmp_path_factory.mktemp('out')}", "replicas=2"]
    small += ["data.train_examples=250", "trainer.accelerator=cpu"]

    @functools.cache
    def start(*choices):
        with initialize_config_dir(str(Path(__file__).parents[2] / "conf"), version_base="1.3"):
            return compose("config", [*choices, *small], return_hydra_config=True)

    def cell(overrides):
        choices = [override for override in overrides.split() if override.split("=")[0] in GROUPS]
        settings = [override for override in overrides.split() if override not in choices]
        config = copy.deepcopy(start(*choices))
        ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(settings), config)
        return cell_of(config, config.hydra)

    return cell


@pytest.mark.parametrize(
    ("overrides", "allowed"),
    [
        ("name=a/b", NAME),
        ("name=..", NAME),
        ("name=3", NAME),
        ("seed=-1", f"{FROM_0} and below {2**63}"),
        (f"seed={2**63}", f"{FROM_0} and below {2**63}"),
        ("replicas=0", REPLICAS),
        ("replicas=null", REPLICAS),
        ("replicas=1.5", REPLICAS),
        ("init=foo", "torch, he_uniform, xavier_uniform or own"),
        ("paths.data_dir=null", "text that is not empty"),
        ("data.batch_size=0", f"{ABOVE_0} or full"),
        ("data.batch_size=foo", f"{ABOVE_0} or full"),
        ("data.shuffle=1", "true or false"),
        ("data.train_examples=0", f"{ABOVE_0} or null"),
        ("data.val_split=foo", "tail, random or test"),
        ("data.val_fraction=0", SHARE),
        ("data.val_fraction=1", SHARE),
        ("data.mean=foo", "a number or a list of numbers"),
        ("model.hidden=64", WIDTHS),
        ("model.hidden=[]", WIDTHS),
        ("model.hidden=[64,0]", WIDTHS),
        ("model.hidden=[1.5]", WIDTHS),
        ("model.activation=rellu", ACTIVATIONS),
        ("model.dropout=1", f"{PROBABILITY} or a list of {PROBABILITY.replace('a number', 'numbers')}"),
        ("model=lenet model.pooling=min", "max or average"),
        ("model=lenet model.padding=-1", f"{FROM_0} or a list of 1 or more whole numbers of at least 0"),
        ("model=residual_mlp model.width=0", ABOVE_0),
        ("norm.placement=mid", "pre or post"),
        ("norm.affine=foo", "true or false"),
        ("norm.scale_init=foo", "ones, uniform, kept or a number"),
        ("norm=gn norm.num_groups=0", ABOVE_0),
        ("optimizer.lr=0", RATE),
        ("optimizer.lr=-0.1", RATE),
        ("optimizer.lr=nan", RATE),
        ("optimizer.lr=inf", RATE),
        ("optimizer.lr=fast", RATE),
        ("optimizer=adam optimizer.betas=[0.9]", "a list of 2 numbers"),
        ("scheduler=step scheduler.step_size=0", ABOVE_0),
        ("scheduler=exponential scheduler.gamma=-1", RATE),
        ("scheduler=cosine scheduler.T_max=0", f"{ABOVE_0} or null"),
        ("trainer.max_epochs=-1", "a whole number of at least 0"),
        ("trainer.threads=null", ABOVE_0),
        ("trainer.cuda_graph=null", "true or false"),
        ("trainer.precision=16", "32-true, 64-true or bf16-mixed"),
        ("trainer.stack_replicas=foo", "auto, true or false"),
        ("trainer.gradient_clip_norm=0", f"{RATE} or null"),
    ],
)
def test_a_wrong_value_is_refused_with_the_values_of_its_key(cell_with, overrides, allowed):
    last = overrides.split()[-1]
    expected = f"{last}: wrong value; allowed: {allowed}; change it, or leave it out for the default"
    assert check(cell_with(overrides), lost=GROUPS) == [expected]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("+foo=1", f"foo: no such key; allowed: {TOP}; leave it out"),
        (
            "+model.foo=1",
            "model.foo: no such key; allowed: model.activation, model.bias, model.dropout, model.hidden, model.repeat;",
        ),
        ("++paths.data=1", "paths.data: no such key; allowed: paths.data_dir, paths.output_dir; did you mean"),
        ("+trainer.max_epoch=3", "did you mean trainer.max_epochs?"),
        ("~trainer.cuda_graph", "trainer.cuda_graph: is missing; allowed: true or false"),
        ("+optimizer.lrr=1", "did you mean optimizer.lr?"),
        ("~seed", f"seed: is missing; allowed: {FROM_0}"),
        ("~model.hidden", f"model.hidden: is missing; allowed: {WIDTHS}; set it with +model.hidden=..., or leave out"),
        ("~norm.layers", "norm.layers: is missing; allowed: all, conv or linear; set it with +norm.layers=..."),
        ("~optimizer.lr", f"optimizer.lr: is missing; allowed: {RATE}"),
        ("~optimizer._target_", "optimizer._target_: is missing; allowed: the dotted path of a class or function"),
        ("~norm", "norm: is missing; allowed: a group of keys; leave out what deletes or replaces it"),
        ("norm._target_=foo.Bar", "norm._target_=foo.Bar: cannot be imported"),
        ("model._target_=torch.foo", "model._target_=torch.foo: there is no foo in torch;"),
        ("norm._target_=torch.nn.LayerNrm", "did you mean LayerNorm?"),
        ("model._target_=torch.pi", "model: does not work as set (3.14"),
    ],
)
def test_a_key_that_is_unknown_or_missing_is_named_with_a_way_out(cell_with, override, line):
    (found,) = check(cell_with(override))
    assert line in found


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ("model=rnn norm=evonorm_s0", "norm=evonorm_s0: has an activation of its own"),
        ("norm=none norm._target_=foo.Bar", "norm=foo.Bar: cannot be imported"),
        ("norm=none norm._target_=torch.nn.LayerNorm norm.layers=conv", "norm=torch.nn.LayerNorm: adds nothing to"),
        ("norm=bn norm._target_=foo.Bar", "norm._target_=foo.Bar: cannot be imported"),
    ],
)
def test_a_class_that_is_refused_is_named_as_it_was_typed(compose_cell, overrides, line):
    (found,) = check_cells([compose_cell(*overrides.split())])
    assert str(found).startswith(line)
    assert "; allowed: " in found


class Small(nn.Sequential):
    """A network of one's own."""

    def __init__(self, num_classes: int):
        super().__init__(nn.Flatten(), nn.Linear(40, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes))


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            "norm=tests.norms.test_slot.Doubling model.hidden=[8]",
            "checking MLP with Doubling: two steps of two replicas",
        ),
        ("model=own model.target=tests.config.test_check.Small norm=none", "checking Small with no norm: two steps"),
        ("norm=bn model.hidden=[8]", ""),  # is known
    ],
)
def test_the_terminal_says_what_is_tried_before_it_trains(compose_cell, capsys, overrides, line):
    assert check_cells([compose_cell(*(each for text in overrides.split() for each in spelled_out(text)))]) == []
    told = capsys.readouterr().out
    assert told.startswith(line)
    assert told.count("\n") == bool(line)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            "norm=gn norm.num_groups=7",
            "norm.num_groups=7: does not divide the 100 features of a layer; allowed: 1, 2, 4, 5, 10, 20, 25, 50, 100; "
            "choose one, or change the width",
        ),
        (
            "data.batch_size=224",
            "data.batch_size=224: leaves a batch of one of the 225 training examples, and the norm needs two; allowed: "
            "a size that leaves none or more than one; change it, or set data.drop_last=true",
        ),
        (
            "data.batch_size=1",
            "data.batch_size=1: leaves a batch of one of the 225 training examples, and the norm needs two; allowed: "
            "a size that leaves none or more than one; change it, or change the norm",
        ),
        (
            "data.batch_size=226 data.drop_last=true",
            "data.batch_size=226: more than the 225 training examples, and data.drop_last leaves no batch; allowed: 1 "
            "to 225; lower it, or set data.drop_last=false",
        ),
        (
            "norm=none norm._target_=tests.failing.Narrowing",
            "model, norm: does not work as set (hidden.0.norm, Narrowing, gives (100, 3) for (100, 100)); allowed: ",
        ),
        (
            "model=own model.target=torchvision.models.resnet18 norm=kept",
            "model: takes no examples of the shape 1x40 that the data has (",
        ),
        ("data.train_examples=4001", "data.train_examples=4001: the training set has 4000; allowed: 1 to 4000; lower"),
        (
            "data.val_fraction=0.001",
            "data.val_fraction=0.001: leaves 250 of 250 examples to train on and 0 to validate",
        ),
        ("model=lenet model.kernel_size=30", "too small for 2 convolutions of 30 with poolings; allowed: at least 91"),
        (
            "model.hidden=[1000000,1000000]",
            "model: has 1,000,043,000,000 or more weights in each of 2 replicas; allowed",
        ),
        ("model.hidden=[99999999999999999999]", "model: has too many weights in each of 2 replicas; allowed: "),
        ("replicas=1000000000", "weights in each of 1000000000 replicas; allowed: "),
        (
            "norm=in",
            "norm=in: adds nothing to model=mlp with norm.layers=conv, so it would be norm=none; allowed: a norm that "
            "has a place in the model; choose another model or norm, or set norm.layers",
        ),
        ("norm.scale_init=uniform norm.affine=false", "norm.scale_init=uniform: the norm has no scale; allowed: ones"),
        (
            "norm=none norm._target_=torch.nn.Flatten",
            "model, norm: does not work as set (hidden.0.norm, Flatten, does not take (100, 100): Dimension out of",
        ),
        ("optimizer.momentum=-1", "optimizer.momentum=-1: torch.optim.SGD refuses this (Invalid momentum value: -1)"),
        (
            "optimizer.nesterov=true optimizer.momentum=0",
            "optimizer.momentum=0, optimizer.dampening=0.0, optimizer.nesterov=true: torch.optim.SGD refuses this",
        ),
        ("data=image_folder data.train_examples=null", "no images in "),
        (
            "+augmentation.mine=3",
            "augmentation.mine: is no augmentation; allowed: keys with a _target_; choose one with",
        ),
        (
            f"+augmentation.mine._target_={DATA}.Crop +augmentation.mine.padding=4",
            "augmentation.crop: crops images, and an example is of the shape (1, 40); allowed: data of images "
            "(channels, H, W); leave it out, or choose shift",
        ),
        (
            f"+augmentation.mine._target_={DATA}.Shift +augmentation.mine.points=40",
            "augmentation.shift.points=40: not smaller than an example of the shape (1, 40); allowed: 1 to 39; lower",
        ),
        (
            f"+augmentation.mine._target_={DATA}.Shift +augmentation.mine.points=0",
            "augmentation.mine.points=0: wrong value; allowed: a whole number above 0; change it",
        ),
        (
            f"+augmentation.mine._target_={DATA}.Scale",
            "augmentation.mine.amount: is missing; allowed: a number above 0 and below 1; set it with",
        ),
        ("+augmentation.mine._target_=my.Own", "augmentation.mine._target_=my.Own: cannot be imported ("),
        *(
            (
                f"+augmentation.mine._target_={__name__}.{name}",
                f"augmentation.mine._target_={__name__}.{name}: {got}; allowed: examples of the same type and shape, "
                "each of its own x and u alone; change it",
            )
            for name, got in {
                "Shorter": "makes torch.float32 (2, 1, 39) of torch.float32 (2, 1, 40)",
                "Drawing": "draws from the global random generators",
                "Mixing": "makes of an example what depends on the others",
            }.items()
        ),
        (f"+augmentation.mine._target_={__name__}.Raising", "augmentation.mine: does not work as set (no such mode)"),
    ],
)
def test_what_the_options_make_is_tried_and_refused_in_one_line(cell_with, overrides, line):
    (found,) = check(cell_with(overrides))
    assert line in found
    assert "; allowed: " in found
    assert "\n" not in found


def test_a_stack_that_has_to_be_and_cannot_is_refused(compose_cell):
    cell = compose_cell("norm.momentum=null", "trainer.stack_replicas=true")  # it reads a number off a tensor
    (found,) = check_cells([cell])
    assert found.startswith("trainer.stack_replicas=true: the network cannot be stacked (")
    assert found.endswith("allowed: auto or false; set it to auto")


def test_a_scheduler_that_refuses_its_options_is_refused(cell_with):
    (line,) = check_cells([cell_with("scheduler.factor=7")])
    assert line.startswith("scheduler.factor=7: torch.optim.lr_scheduler.ConstantLR refuses this (")


@pytest.mark.parametrize(("steps", "epochs", "ends"), [(3, 1, True), (2, 1, False), (5, 2, False), (6, 2, True)])
def test_a_scheduler_that_ends_before_the_run_is_refused(cell_with, steps, epochs, ends):
    keys = f"scheduler=one_cycle scheduler.total_steps={steps} trainer.max_epochs={epochs} data.batch_size=100"
    found = check_cells([cell_with(keys)])  # 225 examples, so three steps in an epoch
    assert bool(found) != ends
    for line in found:
        assert line.startswith(
            f"scheduler.total_steps={steps}: torch.optim.lr_scheduler.OneCycleLR refuses this (Tried"
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_an_accelerator_that_is_not_there_is_refused_with_those_that_are(cell_with):
    (line,) = check(cell_with("trainer.accelerator=gpu"))
    assert line.startswith("trainer.accelerator=gpu: there is none here; allowed: auto, cpu")


def test_device_and_memory_of_this_machine_are_not_judged_where_cells_train_elsewhere(cell_with, monkeypatch):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(total=1000))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (line,) = check(cell_with(""))
    assert line.startswith("model: has ")
    for cell in (cell_with(""), cell_with("trainer.accelerator=gpu"), cell_with("trainer.accelerator=auto")):
        assert check(cell, elsewhere=True) == []
    (line,) = check(cell_with("trainer.accelerator=gpu norm=gn norm.num_groups=7"), elsewhere=True)
    assert line.startswith("norm.num_groups=7: "), "all else is"


@pytest.mark.slow
def test_a_network_too_deep_to_make_is_refused_before_it_is_made(cell_with, monkeypatch):
    monkeypatch.setattr(memory, "MOST_TENSORS", 50)
    assert check(cell_with("model=residual_mlp model.links=11")) == []  # 4 tensors a link, and 4
    line = "model: has more than 50 tensors of weights; allowed: 50; make the model less deep"
    assert check(cell_with("model=residual_mlp model.links=1000000")) == [line]


@pytest.mark.parametrize(
    "overrides",
    [
        "model=mlp norm=bn",
        "model=mlp norm=wn",
        "model=lenet norm=gn",
        "model=lenet norm=in",
        "model=residual_mlp norm=ln",
        "model=residual_mlp norm=rms",
        "norm.momentum=null",  # its number of batches is read off a tensor, so it cannot be stacked
        "data.batch_size=224 data.drop_last=true",
        "data.batch_size=1 norm=ln",
        "data.batch_size=500",
        "data.batch_size=full",
        f"+augmentation.mine._target_={DATA}.Cutout +augmentation.mine.size=39",
        "optimizer=adamw scheduler=cosine trainer.gradient_clip_norm=1",
        "+optimizer.maximize=true",
        "norm=none norm._target_=bn_experiments.norms.rms.RMSNorm +norm.over=example +norm.eps=0.1 +norm.affine=false",
    ],
)
def test_what_can_train_is_not_refused(cell_with, overrides):
    assert check(cell_with(overrides)) == []


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_an_optimizer_whose_step_is_captured_is_not_refused(cell_with, monkeypatch, optimizer):
    monkeypatch.setattr(build, "captures", lambda config: True)  # as on a GPU, of which the check does without
    assert check_cells([cell_with(f"optimizer={optimizer}")]) == []


def test_all_errors_of_a_cell_are_found_at_once(cell_with):
    wrong = ["seed=-1", "data.batch_size=0", "norm.placement=mid", "optimizer.lr=0", "trainer.max_epochs=-1"]
    assert [line.split(":")[0] for line in check(cell_with(" ".join(wrong)))] == wrong
    made = ["scheduler.gama=1", "norm.num_groups=7", "optimizer.momentum=-1"]  # an option, and two things made of some
    lines = check(cell_with(f"scheduler=step norm=gn +{made[0]} {made[1]} {made[2]}"))
    assert [line.split(":")[0] for line in lines] == ["scheduler.gama", *made[1:]]


@pytest.mark.parametrize("folder", ["file/below", "/proc/nothing"])
def test_an_output_folder_that_cannot_be_made_is_refused(cell_with, tmp_path, folder):
    (tmp_path / "file").touch()
    output = tmp_path / folder  # joined to a path that begins at the root, it is that path
    (line,) = check(cell_with(f"paths.output_dir={output}"))
    assert line.startswith(f"paths.output_dir={output}: cannot be written (")
    assert line.endswith("; allowed: a folder that can be written; set paths.output_dir to one")


def test_the_check_leaves_nothing_in_the_output_folder(compose_cell, tmp_path):
    assert check_cells([compose_cell()]) == []
    assert list(tmp_path.iterdir()) == []


def test_a_line_tells_how_many_cells_it_is_about_unless_all_are(compose_cell):
    cells = [compose_cell("optimizer.lr=0"), compose_cell("optimizer.lr=0", "seed=-1")]
    all_cells, some = check_cells(cells)
    assert all_cells.startswith("optimizer.lr=0: ")
    assert all_cells.endswith("for the default")
    assert some.startswith("seed=-1: ")
    assert some.endswith(f" (1 of 2 cells: {cells[1].folder.name})")


def test_what_a_lost_setting_would_have_made_is_not_judged(cell_with):
    cell = cell_with("norm=gn norm.num_groups=7 optimizer.momentum=-1")
    groups, momentum = check_cells([cell])
    assert groups.startswith("norm.num_groups=7: ")
    assert check_cells([cell], ["model"]) == [momentum]
    assert check_cells([cell], ["optimizer"]) == [groups]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("name", "ab"),
        ("trainer.threads", "12"),
        *((f"trainer.{key}", ["true", "false"]) for key in ("progress_bar", "cuda_graph")),
    ],
)
def test_values_that_change_no_number_make_no_second_cell(compose_cell, key, values):
    (line,) = check_cells([compose_cell(f"{key}={value}") for value in values])
    assert line.startswith(f"{key}: its values change no number, so cells of the grid are the same (data=mnist1d ")


def test_two_ways_to_write_one_cell_are_refused_with_both(compose_cell):
    (line,) = check_cells([compose_cell("optimizer.lr=0.5"), compose_cell("optimizer.lr=5e-1")])
    assert "optimizer.lr=5e-1" in line.split(": the same cell as ")[0]
    assert "optimizer.lr=0.5" in line.split(": the same cell as ")[1]


def test_cells_that_differ_in_one_setting_are_not_alike(compose_cell):
    assert check_cells([compose_cell("seed=1"), compose_cell("seed=2"), compose_cell("norm=none")]) == []


def test_a_damaged_file_of_the_cells_data_is_named_once(compose_cell, tmp_path):
    file = Path(tmp_path / "data" / "mnist1d" / "mnist1d.npz")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"damaged")
    cells = [compose_cell(f"paths.data_dir={tmp_path}/data", f"norm={norm}") for norm in ("bn", "none")]
    (line,) = check_cells(cells)
    assert str(file) in line


@pytest.mark.parametrize("key", ["model", "norm", "optimizer"])
def test_a_module_that_ends_the_process_is_refused_as_one_that_cannot_be_imported(
    cell_with, tmp_path, monkeypatch, key
):
    (tmp_path / "script.py").write_text("import sys; sys.exit(0)")  # a program without a main guard
    monkeypatch.syspath_prepend(str(tmp_path))
    (line,) = check(cell_with(f"{key}._target_=script.Thing"))
    assert line.startswith(f"{key}._target_=script.Thing: cannot be imported (0); allowed: ")


# What cells have in common is looked at once, and no answer is taken for another cell's.


def test_a_function_is_asked_once_for_configurations_that_agree_in_the_keys_it_reads():
    asked = []
    once = Once()

    def look(config, more="none"):
        asked.append((config, more))
        return len(asked)

    assert once(look, {"a": 1, "b": 1}, "a") == once(look, {"a": 1, "b": 2}, "a") == 1
    assert once(look, {"a": 2, "b": 2}, "a") == 2
    assert once(look, {"a": 2, "b": 2}, "a", more="some") == 3
    assert asked == [({"a": 1}, "none"), ({"a": 2}, "none"), ({"a": 2}, "some")]


def test_a_function_that_reads_another_key_fails_loudly():
    with pytest.raises(KeyError):
        Once()(lambda config: config["b"], {"a": 1, "b": 2}, "a")


# one key of each group, and what it may be beside its default
VALUES = ["model.hidden=[7]", "norm.eps=0.5", "optimizer.lr=0.3", "trainer.max_epochs=2", "data.batch_size=50"]
VALUES += ["init=he_uniform", "replicas=3", "seed=9", "model=lenet", "norm=ln", "data.val_split=random"]
WRONG = ["model.hidden=[0]", "norm.eps=-1", "optimizer.lr=0", "trainer.max_epochs=-1", "data.batch_size=0", "seed=-1"]
WRONG += ["init=foo", "replicas=0", "norm=gn norm.num_groups=3", "data.val_fraction=0.0001"]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.few(4)
def test_a_cell_is_refused_in_company_as_it_is_alone(compose_cell, wrong):
    bad = compose_cell(*wrong.split())
    company = [compose_cell(), compose_cell("seed=4"), bad]
    alone = check(bad)
    assert alone
    found = check_cells(company)
    assert found == [f"{line} (1 of {len(company)} cells: {bad.folder.name})" for line in alone]


def test_cells_that_differ_in_a_key_that_networks_depend_on_are_each_tried(compose_cell, monkeypatch):
    tried = []
    network = network_check.network
    monkeypatch.setattr(network_check, "network", lambda *arguments: tried.append(arguments[0]) or network(*arguments))
    cells = [compose_cell(value) for value in VALUES]
    assert check_cells(cells) == []
    alike = [value for value in VALUES if value.startswith(("optimizer", "seed"))]
    assert len(tried) == len(VALUES) - len(alike) + 1


class ReadsNumbers(nn.Module):
    """A network whose constructor reads numbers off a tensor, and which keeps one in a plain attribute."""

    def __init__(self, input_shape, num_classes, norm):
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0.5, 1, 2)]
        self.scale = torch.tensor([0.5])
        self.fc, self.output = nn.Linear(40, 8), nn.Linear(8, num_classes)
        made = norm.fill(self.fc)
        self.bn1 = nn.Identity() if made is None else made

    def forward(self, x):
        return self.output(self.bn1(self.fc(x.flatten(1)) * self.scale * self.rates[0]))


class Asserts(nn.Module):
    """A norm that asserts that there is something to normalize."""

    def __init__(self, num_features):
        super().__init__()

    def forward(self, x):
        spread = x.std(0)
        if self.training:
            assert bool(x.isfinite().all()), "nan in the input"
            assert bool((spread > 0).all()), "no spread"
        return (x - x.mean(0)) / spread


class IgnoresTheSlot(ReadsNumbers):
    """A network with a norm of its own that never asks for the arm's."""

    def __init__(self, input_shape, num_classes, norm):
        super().__init__(input_shape, num_classes, Slot(None, layers="all"))
        self.norm = nn.LayerNorm(8)


def of_class(cell, name, **norm):
    config = {**cell.config, "model": {"_target_": f"{__name__}.{name}"}, "init": "own"}
    config["norm"] = {**config["norm"], **norm}
    return replace(cell, config=config)


def test_a_network_may_read_numbers_keep_tensors_and_name_its_norms_as_it_likes(compose_cell):
    assert check_cells([of_class(compose_cell("norm=bn"), "ReadsNumbers")]) == []


def test_a_norm_may_assert_what_is_true_of_data(compose_cell):
    cell = compose_cell("norm=none", f"norm._target_={__name__}.Asserts")
    assert check_cells([cell]) == []


def test_a_network_that_ignores_the_slot_is_refused_with_a_norm(compose_cell):
    (refusal,) = check_cells([of_class(compose_cell("norm=bn"), "IgnoresTheSlot")])
    assert "norm=bn: adds nothing to model=mlp" in str(refusal)


class TakesThreeAxes(nn.Module):
    """A norm that takes three axes alone, and does not say so."""

    def __init__(self, width):
        super().__init__()

    def forward(self, x):
        if x.dim() != 3:
            raise AssertionError
        return x


def test_a_norm_that_refuses_a_shape_is_named_with_its_layer_and_the_shape(compose_cell):
    cell = compose_cell(
        "norm=none", "norm._target_=tests.config.test_check.TakesThreeAxes", "model.hidden=[8]", "data.batch_size=50"
    )
    assert [str(one) for one in check(cell)] == [
        "model, norm: does not work as set (hidden.0.norm, TakesThreeAxes, does not take (50, 8): AssertionError); "
        "allowed: what the class takes; change the keys of model, norm"
    ]


@pytest.mark.parametrize(
    ("models", "norms", "left_out"),
    [
        (["mlp", "lenet"], ["bn", "in"], {"mnist1d-mlp-in": "norm=in: adds nothing to model=mlp"}),
        (["mlp", "lstm"], ["evonorm_s0"], {"mnist1d-lstm-evonorm_s0": "norm=evonorm_s0: has an activation of its own"}),
        (["mlp"], ["bn", "in"], {}),  # in one network it is refused
        (["mlp", "residual_mlp"], ["bn", "in"], {}),  # and so is a norm without a place in any of them
    ],
)
def test_a_grid_of_several_networks_leaves_out_the_cells_whose_norm_has_no_place(cell_with, models, norms, left_out):
    cells = [cell_with(f"model={model} norm={norm}") for model in models for norm in norms]
    left, lines = checks.placed(cells, checks.Once())
    assert [cell.folder.name.partition("-sgd")[0] for cell in cells if cell not in left] == list(left_out)
    for line, (name, reason) in zip(lines, left_out.items(), strict=True):
        assert line.startswith(f"left out: {reason}")
        assert f"(1 of {len(cells)} cells: {name}-" in line


def test_what_is_wrong_beside_the_norms_place_is_no_reason_to_leave_a_cell_out(cell_with):
    cells = [cell_with(f"model={model} norm=in data.batch_size=0") for model in ("mlp", "lenet")]
    assert checks.placed(cells, checks.Once()) == (cells, [])
