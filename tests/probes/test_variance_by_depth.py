import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bn_experiments.claims.protocol import Published, parse
from bn_experiments.models.lenet import LeNet
from bn_experiments.models.mlp import MLP
from bn_experiments.models.residual_mlp import ResidualMLP
from bn_experiments.norms.slot import Slot
from bn_experiments.probes.probe import fixed_batch
from bn_experiments.probes.variance_by_depth import stages, unit_variance, variance_by_depth
from bn_experiments.probes.variance_by_depth_figures import QUANTITIES, exponential_fit, linear_fit
from bn_experiments.report import words
from bn_experiments.run import run
from bn_experiments.training.initialization import initialize
from tests.probes.drawn import EPOCHS, draw, numbers
from tests.probes.runs import TINY, events, npz, refusal_of_one, refusals, splits_of, steps

NO_NORM = Slot(None, placement="pre", bias="auto", scale_init="ones", layers="all")
BATCH_NORM = Slot(
    "torch.nn.BatchNorm{dim}d",
    placement="pre",
    bias="auto",
    scale_init="ones",
    layers="all",
    eps=1e-5,
    momentum=0.1,
    affine=True,
)
SMALL = {"activation": "relu", "dropout": 0.0}
PLAIN = {"repeat": 1, "bias": True}
UNSCALED = {"branch_scale": "none", "branch_scale_start": 0.0}
LENET = {"channels": [2, 3], "kernel_size": 3, "padding": 0, "pooling": "max", "hidden": [5]}


def gaussian(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_unit_variance_is_the_mean_over_units_of_numpys_variance_over_the_batch():
    x = (gaussian(13, 6) * torch.arange(1.0, 7) + torch.arange(6.0) * 10).double()
    assert unit_variance(x).item() == pytest.approx(x.numpy().var(axis=0).mean(), rel=1e-12)
    assert unit_variance(x).item() < 0.5 * x.numpy().var(), "the units' means do not count"


def test_unit_variance_of_features_with_positions_is_over_batch_and_positions():
    x = (gaussian(4, 3, 5, 2) + torch.arange(5.0).view(5, 1)).double()
    assert unit_variance(x).item() == pytest.approx(x.numpy().var(axis=(0, 2, 3)).mean(), rel=1e-12)


def test_the_stages_are_named_in_the_order_of_the_signal():
    shape = (1, 14, 14)
    mlp = MLP(shape, 3, BATCH_NORM, hidden=[4, 5], **PLAIN, **SMALL)
    lenet = LeNet(shape, 3, BATCH_NORM, **LENET, **SMALL)
    residual = ResidualMLP(shape, 3, BATCH_NORM, links=2, width=4, norm_position="branch", **UNSCALED, **SMALL)
    expected = {
        mlp: ["hidden.0", "hidden.1", "output"],
        lenet: ["features.0", "features.1", "hidden.0", "output"],
        residual: ["input", "links.0", "links.1", "output"],
    }
    for network, names in expected.items():
        assert list(stages(network)) == names
        assert list(variance_by_depth(network, gaussian(3, *shape))) == ["x", *names]


def test_each_stage_has_the_variance_of_its_output():
    network = MLP((1, 6), 3, NO_NORM, hidden=[4, 5], **PLAIN, **SMALL).double()
    x = gaussian(9, 1, 6).double()
    found = variance_by_depth(network, x)
    h = x.flatten(1).numpy()
    expected = [h.var(axis=0).mean()]
    for layer in (network.hidden[0].layer, network.hidden[1].layer, network.output):
        h = h @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        h = h if layer is network.output else np.maximum(h, 0)
        expected.append(h.var(axis=0).mean())
    np.testing.assert_allclose([variance.item() for variance in found.values()], expected, rtol=1e-10)
    assert not any(module._forward_hooks for module in network.modules())


def wide(norm: Slot, norm_position: str) -> list[float]:
    """The variances of the input and the links of a wide network at its he_uniform start, for Gaussian input."""
    network = ResidualMLP((1, 512), 2, norm, links=6, width=1024, norm_position=norm_position, **UNSCALED, **SMALL)
    initialize(network, seed=0, init="he_uniform", scale_init="ones")
    found = variance_by_depth(network.train(), gaussian(512, 1, 512))
    return [variance.item() for name, variance in found.items() if name != "output"]


# He's weights w have variance 2 / F, so a branch w f(u) over F units has, over the weights, the variance 2 Var f(u)
# over the batch, and no covariance with the trunk. f = relu, two examples whose units u, u' are N(0, s^2) with
# correlation rho: E f(u)^2 = s^2 / 2, and 2 E f(u) f(u') = s^2 k(rho) with the arc-cosine kernel of Cho & Saul 2009,
# k(rho) = (sqrt(1 - rho^2) + rho (pi - arccos rho)) / pi, equation 6; rho is not zero where units have means.
#   norm in the branch: u ~ N(0, 1), rho = 0: a link adds 1 - k(0) = 1 - 1/pi (De & Smith 2020, arXiv:2002.10444);
#   norm on the trunk: h = u + w f(u), so that every link ends at 1 + 1 - 1/pi;
#   no norm: s^2 doubles in each link (De & Smith 2020), the covariance c of two examples grows by s^2 k(c / s^2), and
#   the variance over the batch is s^2 - c: the first link multiplies it by 2 - 1/pi, later ones by less.
# Tolerance: a unit's branch is w' S w with the features' covariance S, of relative variance at most 2 / r for normal
# weights, where r = (tr S)^2 / tr S^2 is some hundred; the mean of 1024 units has a standard error of at most
# sqrt(2 / 1024 r) < 1% of it. Twice the covariance with a trunk of variance v adds 2 sqrt(v / (1024 r)) < 2% for v
# up to 6. Of tr S, 1024 units' variances of relative error sqrt(2 / 512) each: another 1%. Three times their root
# sum of squares is 7%.
GAIN = 1 - 1 / math.pi
TOLERANCE = 0.07


def test_with_batch_norm_in_the_branch_each_link_adds_one_less_one_over_pi():
    x, first, *links = wide(BATCH_NORM, "branch")
    assert x == pytest.approx(1, rel=0.02)  # 512 x 512 normal numbers: a standard error of sqrt(2) / 512 = 0.3%
    assert first == pytest.approx(2, rel=TOLERANCE)  # linear, of weights with variance 2 / fan_in
    np.testing.assert_allclose(np.diff([first, *links]), GAIN, rtol=TOLERANCE)


def test_with_batch_norm_on_the_trunk_every_link_ends_at_the_same_variance():
    _, _, *links = wide(BATCH_NORM, "trunk")
    np.testing.assert_allclose(links, 1 + GAIN, rtol=TOLERANCE)


def test_without_a_norm_the_variance_grows_by_the_arc_cosine_law():
    _, first, *links = wide(NO_NORM, "branch")
    square, covariance, expected = 2.0, 0.0, []
    for _ in links:
        rho = covariance / square
        covariance += square * (math.sqrt(1 - rho**2) + rho * (math.pi - math.acos(rho))) / math.pi
        square *= 2
        expected.append(square - covariance)
    assert expected[0] / 2 == pytest.approx(1 + GAIN)
    assert first == pytest.approx(2, rel=TOLERANCE)
    factors, laws = (np.divide(series[1:], series[:-1]) for series in ([first, *links], [2.0, *expected]))
    np.testing.assert_allclose(factors, laws, rtol=TOLERANCE)
    assert links[-1] / links[0] > 10, "exponential: with the norm it would be (2 + 6 GAIN) / (2 + GAIN) = 2.3"


STAGES = ["x", "hidden.0", "hidden.1", "output"]
PROBE = (*TINY, "probes=[variance_by_depth]")


def test_its_readings_hold_every_stage_and_tensorboard_shows_their_means(compose_cell):
    cell = compose_cell("norm=bn", *PROBE, "trainer.max_epochs=5")
    result = run(cell)
    arrays, drawn = npz(cell), events(cell)
    assert arrays["variance_by_depth/epochs"].tolist() == [0, 5]
    assert arrays["variance_by_depth/stage"].tolist() == STAGES
    names = ("epochs", "stage", "variance")
    assert set(arrays) == {f"variance_by_depth/{name}" for name in names}
    assert arrays["variance_by_depth/variance"].shape == (2, 2, 4)
    assert list(result.probes["variance_by_depth"]["variance"]) == STAGES
    for j, stage in enumerate(STAGES):
        points = drawn.Scalars(f"variance_by_depth/{stage}")
        assert steps(points) == [0, 5]
        means = arrays["variance_by_depth/variance"][:, :, j].mean(1)
        np.testing.assert_allclose([point.value for point in points], means, rtol=1e-5)


def test_the_batch_is_the_same_at_every_epoch_and_in_both_arms_and_a_replicas_own(compose_cell):
    # the variance of the input, the first stage, tells which batch it was
    options = ["probes.variance_by_depth.every_n_epochs=1", "probes.variance_by_depth.examples=30"]
    inputs = []
    for norm in ("bn", "none"):
        cell = compose_cell(f"norm={norm}", *PROBE, *options, "trainer.max_epochs=2")
        run(cell)
        inputs.append(npz(cell)["variance_by_depth/variance"][:, :, 0])
    assert inputs[0].shape == (3, 2)
    assert (np.concatenate(inputs) == inputs[0][0]).all()
    assert inputs[0][0, 0] != inputs[0][0, 1]


def test_without_epochs_the_initial_networks_are_measured_once(compose_cell):
    from bn_experiments.config import build

    cell = compose_cell("norm=bn", *PROBE, "trainer.max_epochs=0")
    run(cell)
    splits = splits_of(cell)
    initial = build.replicas(cell.config, splits, "cpu").replica(1).train()
    x, _ = fixed_batch(splits.train, (4,), 200)
    variance = initial(x[0]).var(0, correction=0).mean().item()
    arrays = npz(cell)
    assert arrays["variance_by_depth/epochs"].tolist() == [0]
    assert arrays["variance_by_depth/variance"][0, 1, -1] == pytest.approx(variance, rel=1e-4)


def test_the_variance_of_the_input_stays_finite_in_a_replica_that_diverged(compose_cell):
    wild = ["optimizer.lr=1e6", "trainer.max_epochs=2", "model.hidden=[100,100]"]
    result = run(compose_cell("norm=none", *PROBE, *wild))
    assert result.diverged == [True, True]
    assert None not in result.probes["variance_by_depth"]["variance"]["x"]


def test_a_batch_of_one_is_refused_where_the_norm_needs_two(compose_cell):
    one = ["norm=bn", "probes=[variance_by_depth]", "probes.variance_by_depth.examples=1"]
    line = refusal_of_one("probes.variance_by_depth.examples", 1, "train", 225)
    assert refusals(compose_cell(*one)) == [line]
    line = refusal_of_one("probes.variance_by_depth.examples", 1, "val", 25)
    assert refusals(compose_cell(*one, "probes.variance_by_depth.split=val")) == [line]
    assert refusals(compose_cell(*one, "probes.variance_by_depth.mode=eval")) == []
    assert refusals(compose_cell("norm=ln", *one[1:])) == []


def read(norm):
    values = numbers(norm, 6)
    variances = np.stack([values[:, :3], values[:, 3:] * [1, 2, 3]])
    return {"epochs": [0, EPOCHS], "stage": ["x", "hidden.0", "output"], "variance": variances}


def growth_claimed():
    grows = {"arm": "bn", "metric": "variance_by_depth/variance", "labels": ["x", "hidden.0", "output"]}
    claim = {"claim": "It grows exponentially", "rule": "exponential_over_linear", "values": grows}
    arms = {"bn": {"norm": "bn"}, "none": {"norm": "none"}}
    published = [{**grows, "values": [1.0, 2.0, 4.0]}]
    about = {"name": "small", "title": "A small experiment", "source": "A notebook", "arms": arms}
    protocol, lines = parse({**about, "published": published, "claims": [claim]})
    assert not lines
    return protocol


def test_the_report_draws_the_variances_at_the_end_with_those_of_the_start_in_its_numbers(tmp_path):
    drawn = draw(tmp_path, "variance_by_depth", read)
    assert set(drawn) == {"variance_by_depth"}
    data = drawn["variance_by_depth"].data
    for norm in ("bn", "none"):
        for moment, at in {"start": 0, "end": -1}.items():
            own = data[(data["arm"] == norm) & (data["moment"] == moment)]
            assert own["stage"].tolist() == ["x", "hidden.0", "output"]
            assert own["mean"].tolist() == pytest.approx(read(norm)["variance"][at].mean(0).tolist(), rel=1e-6)
    assert drawn["variance_by_depth"].caption.endswith("after the last epoch.")


def test_the_report_draws_the_growth_that_is_claimed_and_the_published_run(tmp_path):
    drawn = draw(tmp_path, "variance_by_depth", read, growth_claimed())["variance_by_depth"]
    assert "Fits are to the logarithm of the means" in drawn.caption
    assert "Large circles are the published run." in drawn.caption
    for name in ("linear fit", "exponential fit", "published"):
        assert name in drawn.svg


def test_the_report_draws_variances_that_are_not_finite_as_none(tmp_path):
    def diverged(norm):
        found = read(norm)
        found["variance"][-1] = np.nan
        return found

    data = draw(tmp_path, "variance_by_depth", diverged)["variance_by_depth"].data
    assert data[data["moment"] == "end"]["n"].tolist() == [0] * 6


def test_the_report_has_words_for_its_quantity():
    published = Published("bn", "variance_by_depth/variance", label="output", moment="start")
    assert words.quantity(published, QUANTITIES) == "variance by depth, output at the start"


def test_each_fit_finds_its_own_curve():
    k = np.arange(6)
    assert linear_fit(2 + 3.0 * k) == pytest.approx(2 + 3.0 * k, rel=2e-3)
    assert linear_fit(20 - 3.0 * k) == pytest.approx(20 - 3.0 * k, rel=2e-3)
    assert exponential_fit(2 * 1.7**k) == pytest.approx(2 * 1.7**k)
