"""Statistics of the activations: each hidden layer before and after its norm and its activation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from bn_experiments.data.splits import Splits
from bn_experiments.norms.slot import norms_of
from bn_experiments.probes.probe import Mode, Probe, Reading, Split, TrainingBatch, fixed_batch, networks, watch
from bn_experiments.statistics.histograms import pooled
from bn_experiments.training.replicas import Replicas

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

ELEMENTWISE = {nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish}
ELEMENTWISE |= {nn.Sigmoid, nn.Tanh, nn.Hardswish, nn.Hardtanh, nn.Hardsigmoid, nn.Softplus, nn.Softsign}
PERCENTILES = (15, 50, 85)  # the percentiles of Ioffe & Szegedy 2015, arXiv:1502.03167, figure 1


def summary_statistics(values: Tensor, bins: int) -> dict[str, Tensor]:
    """Mean, population variance, percentiles and histogram of values.

    Args:
        values: The values, of any shape.
        bins: The number of bins of the histogram, between the smallest and the largest finite value.

    Returns:
        mean, variance, percentile_15, percentile_50, percentile_85 (), histogram (bins,), edges (bins + 1,).

    >>> statistics = summary_statistics(torch.arange(101.0), bins=2)
    >>> [statistics[name].item() for name in ("mean", "variance", "percentile_15")]
    [50.0, 850.0, 15.0]
    """
    x = values.detach().cpu().double().flatten().numpy()
    finite = x[np.isfinite(x)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    with np.errstate(invalid="ignore", over="ignore"):  # a replica that diverged has nan or inf
        percentiles = np.percentile(x, PERCENTILES)
        reading = {"mean": x.mean(), "variance": x.var()}
    reading |= {f"percentile_{q}": percentile for q, percentile in zip(PERCENTILES, percentiles, strict=True)}
    reading |= {"histogram": np.histogram(finite, edges)[0], "edges": edges}
    return {name: torch.from_numpy(np.array(array)) for name, array in reading.items()}


def hidden_activations(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The signal in the hidden layers: the input and the output of each norm and of each activation.

    Labels are `<layer>.norm_in`, `<layer>.norm_out`, `<layer>.pre_activation` and `<layer>.activation`, in the order
    of the forward pass. A layer is named by the module that holds its norm or activation as `norm` or `activation`, or
    else, as in existing networks, by the norm or activation itself. What a module sees in several calls, such as the
    steps of a recurrent network, is put together.

    Args:
        network: A network.
        x: A batch (B, ...).

    Returns:
        The activations at each point, (B, F, ...), or (N,) where the calls differ in shape, by label.
    """
    seen: dict[str, list[Tensor]] = {}
    norms = norms_of(network)

    def see(name: str, before: Tensor, after: Tensor) -> None:
        path, _, leaf = name.rpartition(".")
        layer = path if leaf in ("norm", "activation") else name
        labels = ("norm_in", "norm_out") if name in norms else ("pre_activation", "activation")
        for label, tensor in zip(labels, (before, after), strict=True):
            seen.setdefault(f"{layer}.{label}".lstrip("."), []).append(tensor.detach())

    watch(network, x, {name: m for name, m in network.named_modules() if name in norms or _is_activation(name, m)}, see)
    return {label: _joined(tensors) for label, tensors in seen.items()}


def _is_activation(name: str, module: nn.Module) -> bool:
    """Whether a module is an activation: by its name, or one of torch's that works element by element."""
    return name.rpartition(".")[2] == "activation" or type(module) in ELEMENTWISE


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    if len({tensor.shape[1:] for tensor in tensors}) == 1:
        return torch.cat(list(tensors))
    return torch.cat([tensor.flatten() for tensor in tensors])


class Activations(Probe):
    """Statistics of the hidden layers' activations on a fixed batch of each replica (see `summary_statistics`).

    Readings: mean, variance, percentile_15, percentile_50, percentile_85 (R, L), histogram (R, L, bins), edges
    (R, L, bins + 1), over all units, examples and positions of each of L points of the network; each replica's bins are
    its own.

    Args:
        mode: The mode of the networks: train, with the batch's own statistics, or eval, with the running ones.
        split: The split that the batch is drawn from: train, val or test.
        examples: The size of the batch.
        bins: The number of bins of the histograms.
    """

    quantities = ("mean", "variance", "percentile_15", "percentile_50", "percentile_85", "histogram", "edges")

    def __init__(self, *, mode: Mode, split: Split, examples: PositiveInt, bins: PositiveInt):
        self.mode, self.split, self.examples, self.bins = mode, split, examples, bins

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Summarizes the activations of each replica on its batch."""
        x, _ = fixed_batch(getattr(splits, self.split), self.seeds, self.examples)
        found: list[dict[str, dict[str, Any]]] = []
        for i, network in enumerate(networks(replicas, self.mode)):  # of one network at a time, for they are many
            seen = hidden_activations(network, x[i])
            of_layers = {layer: summary_statistics(values, self.bins) for layer, values in seen.items()}
            # small arrays that stay would keep the large ones between them from being used again
            found.append({layer: {q: of[q].tolist() for q in of} for layer, of in of_layers.items()})
            del seen, of_layers
        layers = list(found[0])
        quantities = list(found[0][layers[0]]) if layers else []
        values = {q: np.array([[of[layer][q] for layer in layers] for of in found]) for q in quantities}
        return Reading("layer", layers, {q: torch.from_numpy(array) for q, array in values.items()})

    def draw(self, writer: "SummaryWriter", tag: str, reading: Reading, splits: Splits, epoch: int) -> None:
        """Draws one histogram for each layer, over all replicas."""
        for i, layer in enumerate(reading.labels):
            counts, edges = pooled(reading.values["histogram"][:, i].numpy(), reading.values["edges"][:, i].numpy())
            middles = (edges[1:] + edges[:-1]) / 2
            writer.add_histogram_raw(
                f"{tag}/{layer}",
                min=edges[0].item(),
                max=edges[-1].item(),
                num=round(counts.sum()),
                sum=(counts * middles).sum().item(),
                sum_squares=(counts * np.square(middles)).sum().item(),
                bucket_limits=edges[1:].tolist(),
                bucket_counts=counts.tolist(),
                global_step=epoch,
            )

    def training_batches(self, splits: Splits) -> list[TrainingBatch]:
        """The batch, where the networks are in training mode."""
        return [TrainingBatch.of("examples", self.examples, self.split, splits)] if self.mode == "train" else []
