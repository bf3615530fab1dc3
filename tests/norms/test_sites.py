"""What one forward pass shows of the norms of an existing network."""

import pytest
import torch
from torch import Tensor, nn

from bn_experiments.norms.kinds import norms_in
from bn_experiments.norms.sites import Site, look


class Block(nn.Module):
    """A residual block in which the norm stands first, and channels are last."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(self.norm(x))


class Tokens(nn.Module):
    """Patches of an image as tokens (B, T, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.block = Block(8)
        self.output = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.block(self.patches(x).flatten(2).mT).mean(1))


class Reparametrized(nn.Module):
    """A layer beside a branch that is a norm alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.branch = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = x * 2
        return self.norm(self.layer(x)) + self.branch(x)


class Normalize(nn.Module):
    """A scale of the input, which is no norm in spite of its name."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5) / 0.5


class MyRMSNorm(nn.Module):
    """A norm that only its name and its parameters tell."""

    def __init__(self, width: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x / x.square().mean(-1, keepdim=True).sqrt()


class NormLayer(nn.Sequential):
    """A layer with a norm in it, which is none itself."""


def conv_and_norm() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, bias=True), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))


def test_a_norm_has_its_width_axes_and_the_layer_before_it():
    (site,) = look(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), (3, 6, 6)).sites
    assert site == Site("1", 8, 1, 2, "0", problem=None)


def test_channels_on_the_last_axis_are_found():
    (site,) = look(Tokens(), (3, 8, 8)).sites
    assert (site.name, site.width, site.axis, site.positions, site.producer) == ("block.norm", 8, -1, 1, None)


def test_names_alone_make_no_norm():
    network = nn.Sequential(Normalize(), NormLayer(nn.Linear(4, 4), nn.BatchNorm1d(4)), MyRMSNorm(4))
    assert list(norms_in(network)) == ["1.1", "2"]


def test_a_norm_that_is_called_twice_is_counted():
    norm = nn.LayerNorm(4)
    (site,) = look(nn.Sequential(norm, nn.ReLU(), norm), (4,)).sites
    assert site.problem.startswith("is called more than once")


def test_a_norm_alone_on_a_branch_is_found():
    problems = {site.name: site.problem for site in look(Reparametrized(), (3, 6, 6)).sites}
    assert problems["norm"] is None
    assert problems["branch"].startswith("stands alone on a branch")


def test_normalizing_without_a_module_is_found():
    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.layer_norm(x, x.shape[1:])

    found = look(nn.Sequential(nn.BatchNorm1d(4), Functional()), (4,))
    assert found.functional == {"1": "layer_norm"}
    assert [site.name for site in found.sites] == ["0"]


def test_a_batch_on_the_second_axis_is_found():
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x.transpose(0, 1)).transpose(0, 1)

    (site,) = look(Turned(), (5, 4)).sites
    assert site.problem == "does not have the examples on the first axis"


@pytest.mark.parametrize("reads_a_number", [False, True])
def test_looking_changes_nothing(reads_a_number):
    class Reads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (1 if not reads_a_number or x.sum().item() >= 0 else 2)

    network = nn.Sequential(Reads(), nn.BatchNorm1d(4), nn.Dropout(0.5)).eval()
    before, state = {name: one.clone() for name, one in network.state_dict().items()}, torch.get_rng_state()
    assert len(look(network, (4,)).sites) == 1
    assert not network.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())


class Net(nn.Module):
    """A layer, a norm, and an output layer; `norm` is what a case writes."""

    def __init__(self, norm: nn.Module, width: int = 6):
        super().__init__()
        self.layer, self.norm, self.output = nn.Conv1d(3, width, 1), norm, nn.Conv1d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.norm(self.layer(x)))


class NormAct(nn.Module):
    """A norm and an activation under the name of a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.relu = nn.BatchNorm1d(6), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(x))


class BatchNormLast(nn.Module):
    """Batch norm over the last axis."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x.transpose(1, 2)).transpose(1, 2)


class PixelNorm(nn.Module):
    """A norm without parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.square().mean(1, keepdim=True).rsqrt()


class ByName(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.norm(input=self.layer(x)))


class Residual(Net):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        return self.output(h + self.norm(h).relu())


class InEvaluation(Net):
    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        return self.output(h if self.training else self.norm(h))


class AddNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), x


class OfTuple(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.norm(self.layer(x))[0])


class ByHand(Net):
    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.layer(x))
        return self.output(h / h.std(0))


class OfFunction(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.output(nn.functional.rms_norm(self.norm(self.layer(x)), (5,)))


def test_of_a_wrapper_with_the_name_of_a_norm_the_norm_of_torch_in_it_is_the_norm():
    (site,) = look(Net(NormAct()), (3, 5)).sites
    assert (site.name, site.width, site.problem) == ("norm.bn", 6, None)
    (site,) = look(Net(BatchNormLast()), (3, 5)).sites
    assert (site.name, site.width, site.positions) == ("norm.bn", 5, 1)


def test_the_bias_of_a_layer_whose_output_is_read_elsewhere_too_is_not_the_norms():
    assert look(Net(nn.BatchNorm1d(6)), (3, 5)).sites[0].producer == "layer"
    assert look(Residual(nn.BatchNorm1d(6)), (3, 5)).sites[0].producer is None


@pytest.mark.parametrize(
    ("network", "problem"),
    [
        (ByName(nn.BatchNorm1d(6)), "is given more than one tensor, or by a name"),
        (OfTuple(AddNorm(5)), "gives something else than a tensor"),
        (InEvaluation(nn.BatchNorm1d(6)), "is called in evaluation alone"),
        (Net(PixelNorm()), "has no width"),
        (Net(MyRMSNorm(5), width=5), "may have its channels on axis 1 or last"),
    ],
)
def test_norms_that_cannot_be_taken_out_say_why(network, problem):
    (site,) = look(network, (3, 5)).sites
    assert site.problem.startswith(problem)


def test_functions_that_normalize_and_spreads_that_are_taken_are_found():
    assert look(OfFunction(nn.BatchNorm1d(6)), (3, 5)).functional == {"": "rms_norm"}
    assert look(ByHand(nn.BatchNorm1d(6)), (3, 5)).spread == {"": "std"}


def test_a_parametrization_of_a_weight_is_found_as_what_it_is():
    network = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 26)), nn.BatchNorm1d(26))
    found = look(network, (4,))
    assert [site.name for site in found.sites] == ["1"]
    assert found.functional
