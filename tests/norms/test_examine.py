"""What is found of a norm equals what is known from its formula."""

import functools
import subprocess
import sys

import pytest
import torch
from torch import nn

from bn_experiments.norms.examine.__main__ import main, option
from bn_experiments.norms.examine.findings import Findings, examine
from bn_experiments.norms.examine.page import command, page, verdict
from bn_experiments.norms.examine.perturbation import WRONG, Others, dependence
from bn_experiments.refusal import Refusal

B, F = 8, 6  # which differ, as torch's instance norm takes (B, F) for channels and positions
BATCH_NORM = "torch.nn.BatchNorm{dim}d"
RIGHT = {"input": None, "weight": None, "bias": None}
HERE = "tests.norms.test_examine"


class Doubled(torch.autograd.Function):
    """The input, with twice its gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


class WrongGradient(nn.Module):
    """The features times a scale, with a wrong gradient of the features alone."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return Doubled.apply(x) * self.weight.view(-1, *(1,) * (x.dim() - 2))


class Flat(nn.Module):
    """A shape that is none of the input's."""

    def __init__(self, width: int):
        super().__init__()

    def forward(self, x):
        return x.flatten()


class SinglePrecision(nn.Module):
    """Numbers in float32, whatever comes."""

    def __init__(self, width: int, gamma: float = 1.0):
        super().__init__()
        self.gamma = nn.Parameter(torch.tensor(gamma))

    def forward(self, x):
        return x.float() * self.gamma.float()


class Cumulative(nn.Module):
    """Less the mean of all positions up to each."""

    def __init__(self, width: int):
        super().__init__()

    def forward(self, x):
        return x - x.cumsum(-1) / torch.arange(1, x.shape[-1] + 1, dtype=x.dtype)


class NoModule:
    def __init__(self, width: int):
        pass


@functools.cache
def found(path: str, **options) -> Findings:
    return examine(path if "." in path else f"benchmarks.people.{path}", options, F, B)


def counts(findings: Findings, mode: str, shape: str = "(B, F, L)") -> tuple[tuple[int, int], ...]:
    return tuple((others.low, others.high) for others in findings.depends[shape][mode].values())


NONE, ALL = (0, 0), {"example": (B - 1, B - 1), "channel": (F - 1, F - 1), "position": (6, 6)}


@pytest.mark.parametrize(
    ("path", "options", "training", "evaluation"),
    [
        (BATCH_NORM, {}, (ALL["example"], NONE, ALL["position"]), (NONE, NONE, NONE)),
        (BATCH_NORM, {"track_running_stats": False}, *[(ALL["example"], NONE, ALL["position"])] * 2),
        ("torch.nn.InstanceNorm{dim}d", {"affine": True}, *[(NONE, NONE, ALL["position"])] * 2),
        ("torch.nn.GroupNorm", {"num_groups": 2}, *[(NONE, (2, 2), ALL["position"])] * 2),
        (
            "bn_experiments.norms.rms.RMSNorm",
            {"over": "example", "eps": 1e-5, "affine": True},
            *[(NONE, ALL["channel"], ALL["position"])] * 2,
        ),
        ("Mixing", {}, *[tuple(ALL.values())] * 2),
        ("Ghost", {}, *[((3, 3), NONE, NONE)] * 2),
        ("AssignedBuffers", {}, (ALL["example"], NONE, ALL["position"]), (NONE, NONE, NONE)),
        ("PlainAttributes", {}, (ALL["example"], NONE, ALL["position"]), (NONE, NONE, NONE)),
        ("Noisy", {}, (NONE, NONE, NONE), (NONE, NONE, NONE)),
        (f"{HERE}.Cumulative", {}, *[(NONE, NONE, (0, 6))] * 2),
    ],
)
@pytest.mark.few(4)
def test_an_output_depends_on_what_its_formula_has_in_it(path, options, training, evaluation):
    findings = found(path, **options)
    assert counts(findings, "training") == training
    assert counts(findings, "evaluation") == evaluation


@pytest.mark.parametrize("path", ["torch.nn.LayerNorm", "torch.nn.RMSNorm"])
def test_a_norm_of_the_last_axis_is_for_linear_layers_alone(path):
    findings = found(path)
    assert findings.usable == ["(B, F)"]
    assert counts(findings, "training", "(B, F)") == (NONE, ALL["channel"])
    assert "shape" in findings.takes["(B, F, L)"]["training"]
    assert "in linear layers, not in 1-D convolutions and 2-D convolutions" in verdict(findings)


def test_a_norm_that_needs_positions_is_for_convolutions_alone_and_the_command_says_so():
    findings = found("torch.nn.InstanceNorm{dim}d", affine=True)
    assert findings.usable == ["(B, F, L)", "(B, F, H, W)"]
    (line,) = command("torch.nn.InstanceNorm{dim}d", [], findings)
    assert "'norm=none,\"torch.nn.InstanceNorm{dim}d\"'" in line
    assert "model=lenet norm.layers=conv" in line


@pytest.mark.parametrize(
    ("path", "state", "made"),
    [
        (BATCH_NORM, ["running_mean", "running_var", "num_batches_tracked"], []),
        ("AssignedBuffers", ["moving_mean", "moving_var"], []),
        ("PlainAttributes", ["moving_mean", "moving_var"], ["moving_mean", "moving_var"]),
        ("Counting", ["steps"], []),
        ("Ghost", [], []),
    ],
)
def test_the_state_is_what_a_training_step_changes(path, state, made):
    findings = found(path)
    assert findings.state == {"training": state, "evaluation": []}
    assert findings.made_buffers == made


def test_scale_and_shift_are_known_by_their_names():
    assert found(BATCH_NORM).parameters == {"weight": (F,), "bias": (F,)}
    assert found(f"{HERE}.SinglePrecision").parameters == {"gamma": ()}
    text = page("x", [], F, B, found(f"{HERE}.SinglePrecision"))
    assert "no scale (named weight), no shift (named bias); others" in text


@pytest.mark.parametrize(
    ("path", "training", "evaluation", "repeats"),
    [
        ("Noisy", ["torch"], [], False),
        ("NoisyByPython", ["Python"], [], False),
        ("NoisyByNumPy", ["NumPy"], ["NumPy"], False),
        ("Ghost", [], [], True),
        ("Counting", [], [], True),
    ],
)
def test_draws_are_found_by_the_generator_that_they_move(path, training, evaluation, repeats):
    findings = found(path)
    assert findings.draws == {"constructor": [], "training": training, "evaluation": evaluation}
    assert findings.repeats == {"training": repeats, "evaluation": True}
    assert all((agreement.alone is None) == (not training) for agreement in findings.agreements.values())


def test_a_constructor_that_draws_is_found():
    assert found("DrawsInConstructor").draws["constructor"] == ["torch"]


def test_gradients_are_derivatives_but_where_they_are_wrong_or_stopped():
    assert found(BATCH_NORM).gradients == {"training": RIGHT, "evaluation": RIGHT}
    assert found("Noisy").gradients["training"] == RIGHT
    wrong = {"input": WRONG, "weight": None}
    assert found(f"{HERE}.WrongGradient").gradients == {"training": wrong, "evaluation": wrong}
    assert found("AssignedRenorm").gradients == {"training": RIGHT | {"input": WRONG}, "evaluation": RIGHT}
    assert found(f"{HERE}.SinglePrecision").gradients["training"] == "it does not take float64"


def test_a_dtype_that_is_not_kept_is_found():
    assert found(BATCH_NORM).moves == {**found(BATCH_NORM).moves, "float64": None, "bfloat16": None}
    assert "torch.float32" in found(f"{HERE}.SinglePrecision").moves["bfloat16"]


@pytest.mark.parametrize(("path", "behind"), [("Remembering", ["last"]), ("LazyState", ["moving_mean"]), ("Ghost", [])])
def test_a_tensor_outside_the_buffers_stays_behind_and_keeps_a_norm_out_of_stacks(path, behind):
    findings = found(path)
    assert findings.left_behind == behind
    assert all(bool(agreement.alone) == bool(behind) for agreement in findings.agreements.values())
    assert ("one replica after the other" in verdict(findings)) == bool(behind)


def test_an_evaluation_that_needs_a_step_before_it_is_noted():
    assert "no evaluation before its first training step" in found("LazyState").notes["(B, F)"]
    assert not found("AssignedBuffers").notes


def test_a_state_that_no_checkpoint_holds_is_found():
    assert all(agreement.anew for agreement in found("OpaqueState").agreements.values())
    assert not any(agreement.anew for agreement in found("Counting").agreements.values())


def test_a_parameter_of_integers_is_no_direction_of_a_derivative():
    assert found("IntegerParameter").gradients["training"] == RIGHT


@pytest.mark.parametrize("name", ["Metered", "NumPyState"])
def test_a_state_in_an_object_or_an_array_that_evaluation_reads_is_no_state_of_a_checkpoint(name):
    assert all("which a checkpoint does not hold" in agreement.anew for agreement in found(name).agreements.values())
    assert "cut, continued        no (the network keeps" in page(name, [], F, B, found(name))


def test_other_batch_sizes_are_tried():
    assert set(found("Ghost").sizes["training"]) == {B - 1, 1}
    assert "invalid" in found("Ghost").sizes["evaluation"][B - 1]
    sizes = found(BATCH_NORM).sizes
    assert "more than 1 value" in sizes["training"][1]
    assert (sizes["training"][B - 1], sizes["evaluation"]) == (None, {B - 1: None, 1: None})


def test_a_ghost_norm_is_tried_with_a_batch_that_it_can_cut():
    assert found("Ghost").usable
    assert not examine("benchmarks.people.Ghost", {}, F, B + 1).usable


def test_torchs_batch_norm_takes_its_own_time():
    for cost in found(BATCH_NORM).costs.values():
        assert cost["forward"].low <= 1.5
        assert cost["forward"].high >= 1 / 1.5
        assert cost["backward"].n == 9


def test_nonlinear_dependence_is_found():
    class Largest(nn.Module):
        def forward(self, x):
            return x - x.amax(0)

    x = torch.randn(5, 3, dtype=torch.float64)
    assert dependence(Largest(), x, training=True) == {"example": Others(4, 4, 4), "channel": Others(0, 0, 2)}


@pytest.mark.parametrize("path", [BATCH_NORM, "Ghost", "LazyState", "NoisyByNumPy", f"{HERE}.SinglePrecision"])
def test_the_page_fits_a_screen(path):
    *lines, last = page(path, [], F, B, found(path)).splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= 80
    assert last.startswith("  python train.py")


def test_options_of_a_norm_are_for_its_arm_alone():
    findings = found("torch.nn.GroupNorm", num_groups=2)
    with_norm, without = command("torch.nn.GroupNorm", ["num_groups=2"], findings)
    assert with_norm.endswith("norm=torch.nn.GroupNorm +norm.num_groups=2")
    assert without == "python train.py -m norm=none"


def test_the_exit_status_is_one_where_a_norm_cannot_be_used(capsys):
    assert main([f"{HERE}.Flat"]) == 1
    printed = capsys.readouterr().out
    assert "takes (B, F)          no (it gives the shape (768,) for (32, 24))" in printed
    assert "The bench cannot train it." in printed
    assert "train.py" not in printed


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["torch.nn.NoSuchNorm"], "norm._target_=torch.nn.NoSuchNorm: there is no NoSuchNorm in torch.nn"),
        (["torch.nn.GroupNorm", "num_groups=2", "afine=true"], "did you mean norm.affine?"),
        (["torch.nn.GroupNorm", "num_groups=5"], "norm.num_groups=5: does not divide the 24 features"),
        (["torch.nn.GroupNorm", "num_groups"], "num_groups: is no option; allowed: key=value"),
        ([HERE], "is a module, not a class in it; allowed: the dotted path of an installed class; write tests.norms."),
        ([f"{HERE}.NoModule"], "makes no module"),
        (["bn_experiments.norms.weight.weight_norm"], "is a parametrization"),
        ([BATCH_NORM, "--batch-size=24"], "cannot tell examples from features"),
        ([BATCH_NORM, "layers=most"], "allowed: all, conv or linear"),
    ],
)
def test_what_cannot_be_imported_or_made_is_refused_in_one_line(arguments, line, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert line in printed.err
    assert (printed.err.count("\n"), printed.out) == (1, "")


def test_an_option_is_read_as_train_py_reads_it():
    assert option("+norm.strength=[1,2.5]") == ("strength", [1, 2.5])
    with pytest.raises(Refusal):
        option("strength")


def test_neither_lightning_nor_the_configuration_is_loaded():
    code = "import sys, bn_experiments.norms.examine.__main__; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pytorch_lightning", "bn_experiments.config"} & set(ran.stdout.split())
