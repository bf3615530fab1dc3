import pytest
import torch

from bn_experiments.config import objects
from bn_experiments.config.check import check
from bn_experiments.data.examples import Examples
from bn_experiments.data.splits import Splits
from bn_experiments.models.hidden import Dropout
from bn_experiments.models.lenet import LeNet
from bn_experiments.norms.slot import Slot, norms_of

SHAPES = {"signals": (1, 40), "digits": (1, 28, 28), "photos": (3, 32, 32)}


def splits(shape: tuple[int, ...]) -> Splits:
    """Data of one example, enough to tell a network its shape."""
    one = Examples(torch.zeros(1, *shape), torch.zeros(1, dtype=torch.long), torch.ones(1), torch.zeros(1))
    return Splits(one, one, one, tuple("0123456789"))


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    return inputs * outputs + outputs * bias


def norm_weights(norm: str, width: int) -> tuple[int, bool]:
    """Weights that a norm adds after a layer of `width`, and whether the layer keeps its bias."""
    return {
        "none": (0, True),
        "bn": (2 * width, False),
        "gn": (2 * width, False),
        "ln": (2 * width, False),
        "in": (2 * width, False),
        "rms": (width, True),
        "wn": (width, True),  # the length of each unit's weight
    }[norm]


def layer(norm: str, inputs: int, outputs: int) -> int:
    added, bias = norm_weights(norm, outputs)
    return linear(inputs, outputs, bias) + added


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("norm", ["none", "bn", "gn", "ln", "rms", "wn"])
@pytest.mark.parametrize("data", SHAPES)
@pytest.mark.few(6)
def test_mlp_has_the_weights_of_its_layers(compose_cell, norm, data):
    cell = compose_cell("model=mlp", f"norm={norm}", "model.hidden=[128,64]")
    inputs = torch.Size(SHAPES[data]).numel()
    expected = layer(norm, inputs, 128) + layer(norm, 128, 64) + linear(64, 10)
    assert count(objects.network(cell.config, splits(SHAPES[data]))) == expected


@pytest.mark.parametrize("norm", ["none", "bn", "gn", "ln", "in", "rms", "wn"])
@pytest.mark.parametrize(("data", "positions"), [("signals", 7), ("digits", 16), ("photos", 25)])
@pytest.mark.few(7)
def test_lenet_has_the_weights_of_its_layers(compose_cell, norm, data, positions):
    cell = compose_cell("model=lenet", f"norm={norm}")
    shape = SHAPES[data]
    kernel = 5 ** (len(shape) - 1)
    in_linear = "none" if norm == "in" else norm  # instance norm acts on convolutions
    expected = layer(norm, shape[0] * kernel, 6) + layer(norm, 6 * kernel, 16)
    expected += layer(in_linear, 16 * positions, 120) + layer(in_linear, 120, 84) + linear(84, 10)
    network = objects.network(cell.config, splits(shape))
    assert count(network) == expected


def test_lenet_on_cifar_has_the_published_number_of_weights(compose_cell):
    # 3x5x5x6+6, 6x5x5x16+16, 400x120+120, 120x84+84, 84x10+10: 62,006 in PyTorch's CIFAR-10 tutorial's network
    cell = compose_cell("model=lenet", "norm=none")
    assert count(objects.network(cell.config, splits((3, 32, 32)))) == 62_006


@pytest.mark.parametrize("norm", ["none", "bn", "gn", "ln", "rms", "wn"])
def test_residual_mlp_has_the_weights_of_its_links(compose_cell, norm):
    cell = compose_cell("model=residual_mlp", f"norm={norm}", "model.links=3", "model.width=20")
    added, _ = norm_weights(norm, 20)  # a link's norm reads the trunk: no layer loses its bias
    expected = linear(40, 20) + 3 * (linear(20, 20) + added) + linear(20, 10)
    assert count(objects.network(cell.config, splits((1, 40)))) == expected


@pytest.mark.parametrize(
    ("position", "placement"), [("branch", "pre"), ("branch", "post"), ("trunk", "pre"), ("last", "pre")]
)
def test_residual_links_follow_their_formula(compose_cell, position, placement):
    cell = compose_cell(
        "model=residual_mlp", "norm=bn", f"model.norm_position={position}", f"norm.placement={placement}"
    )
    network = objects.network(cell.config, splits((1, 40)))
    x = torch.randn(16, 1, 40)
    h = network.input(x.flatten(1))

    def bn(v):
        return (v - v.mean(0)) / torch.sqrt(v.var(0, unbiased=False) + 1e-5)

    for link in network.links:
        if position == "trunk":
            h = bn(h)
            h = h + link.layer(h.relu())
        elif position == "last":
            assert link.layer.bias is None
            h = h + bn(link.layer(h.relu()))
        elif placement == "pre":
            h = h + link.layer(bn(h).relu())
        else:
            h = h + link.layer(bn(h.relu()))
    torch.testing.assert_close(network(x), network.output(h))


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("shape", [(2, 23), (2, 20, 17)])
def test_lenet_equals_the_same_layers_written_out(pooling, shape):
    slot = Slot(None, placement="pre", bias="auto", scale_init="ones", layers="all")
    network = LeNet(
        shape, 5, slot, channels=[3, 4], kernel_size=5, padding=1, pooling=pooling, hidden=[7], activation="tanh",
        dropout=0.0,
    )  # fmt: skip
    functional, dim = torch.nn.functional, len(shape) - 1
    conv = getattr(functional, f"conv{dim}d")
    pool = getattr(functional, f"{'max' if pooling == 'max' else 'avg'}_pool{dim}d")
    x = torch.randn(3, *shape)
    h = x
    for i in range(2):
        weights = network.features[i].layer
        h = pool(torch.tanh(conv(h, weights.weight, weights.bias, padding=1)), 2)
    h = torch.tanh(network.hidden[0].layer(h.flatten(1)))
    torch.testing.assert_close(network(x), network.output(h))


@pytest.mark.parametrize(("size", "padding", "fits"), [(16, 0, True), (15, 0, False), (3, 2, False), (4, 2, True)])
def test_lenet_refuses_inputs_that_do_not_survive_its_poolings(compose_cell, size, padding, fits):
    cell = compose_cell("model=lenet", "norm=none", f"model.padding={padding}")
    if fits:
        assert objects.network(cell.config, splits((1, size)))(torch.zeros(1, 1, size)).shape == (1, 10)
    else:
        with pytest.raises(ValueError, match=f"examples of shape 1x{size}, too small"):
            objects.network(cell.config, splits((1, size)))


def test_a_last_norm_of_a_branch_that_is_placed_after_an_activation_is_refused(compose_cell):
    cell = compose_cell("model=residual_mlp", "norm=bn", "norm.placement=post", "model.norm_position=last")
    with pytest.raises(ValueError, match=r"norm\.placement=post: model\.norm_position=last has its norm after"):
        objects.network(cell.config, splits((1, 40)))


def test_mlp_repeats_its_hidden_layers(compose_cell):
    cell = compose_cell("model=mlp", "norm=bn", "model.hidden=[20,30]", "model.repeat=3")
    network = objects.network(cell.config, splits((1, 40)))
    assert [one.layer.out_features for one in network.hidden] == [20, 30, 20, 30, 20, 30]
    layers = layer("bn", 40, 20) + 3 * layer("bn", 20, 30) + 2 * layer("bn", 30, 20)
    assert count(network) == layers + linear(30, 10)


@pytest.mark.parametrize("norm", ["none", "bn"])
def test_mlp_without_biases_and_with_the_identity_is_a_linear_map(compose_cell, norm):
    cell = compose_cell("model=mlp", f"norm={norm}", "model.bias=false", "model.activation=identity")
    network = objects.network(cell.config, splits((1, 40)))
    assert not [name for name, _ in network.named_parameters() if name.endswith(("layer.bias", "output.bias"))]
    if norm == "none":
        product = network.output.weight @ network.hidden[1].layer.weight @ network.hidden[0].layer.weight
        x = torch.randn(5, 1, 40)
        torch.testing.assert_close(network(x), x.flatten(1) @ product.T, rtol=1e-4, atol=1e-6)


def test_lenet_pads_each_convolution_as_the_list_says(compose_cell):
    # 28 + 2 x 2 is the source's 32; 32 -> 28 -> 14 -> 10 -> 5, 61,706 weights in all
    cell = compose_cell("model=lenet", "norm=none", "model.padding=[2,0]")
    network = objects.network(cell.config, splits((1, 28, 28)))
    assert [one.layer.padding for one in network.features] == [(2, 2), (0, 0)]
    assert network.features(torch.zeros(1, 1, 28, 28)).shape == (1, 16, 5, 5)
    assert count(network) == 61_706
    with pytest.raises(ValueError, match=r"model\.padding=\[2\]: has 1 paddings for 2 convolutions; allowed: a number"):
        objects.network(compose_cell("model=lenet", "model.padding=[2]").config, splits((1, 28, 28)))


def test_no_model_names_a_norm():
    from pathlib import Path

    for file in Path(objects.__file__).parents[1].joinpath("models").glob("*.py"):
        text = file.read_text()
        for word in ("BatchNorm", "GroupNorm", "LayerNorm", "InstanceNorm", "RMSNorm", "weight_norm"):
            assert word not in text, f"{file.name} names {word}"


@pytest.mark.parametrize("model", ["mlp", "lenet", "residual_mlp"])
def test_every_hidden_layer_has_a_slot(compose_cell, model):
    cell = compose_cell(f"model={model}", "norm=bn")
    slots = {"mlp": 2, "lenet": 4, "residual_mlp": 5}[model]
    assert len(norms_of(objects.network(cell.config, splits((1, 40))))) == slots


def test_mlp_drops_units_behind_each_layer_by_its_own_probability(compose_cell):
    cell = compose_cell("model=mlp", "norm=bn", "model.hidden=[20,30,10]", "model.dropout=[0.5,0.0,0.2]")
    network = objects.network(cell.config, splits((1, 40)))
    drops = {name: module.p for name, module in network.named_modules() if isinstance(module, Dropout)}
    assert drops == {"hidden.0.dropout": 0.5, "hidden.2.dropout": 0.2}
    (refusal,) = check(compose_cell("model=mlp", "model.hidden=[20,30]", "model.dropout=[0.5]"))
    assert str(refusal).startswith(
        "model.dropout=[0.5]: 2 hidden layers have a probability each; allowed: a number, or a list of 2"
    )
    (refusal,) = check(compose_cell("model=mlp", "model.dropout=[0.5,1.5]"))
    assert "model.dropout" in str(refusal)
