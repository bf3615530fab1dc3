"""Moments: what each layer and each norm puts out, in training mode and in evaluation mode."""

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from bn_experiments.data.batches import BatchSize, size_of
from bn_experiments.data.splits import Splits
from bn_experiments.norms.slot import norms_of
from bn_experiments.probes.layers import MAPS
from bn_experiments.probes.precise import estimate_population_statistics, refusals_of_precise
from bn_experiments.probes.probe import Probe, Reading, TrainingBatch, fixed_batch, watch
from bn_experiments.probes.scoring import MODES
from bn_experiments.refusal import Refusal
from bn_experiments.training.replicas import Replicas


def moments(z: Tensor) -> dict[str, Tensor]:
    """The moments of numbers z over examples and units, and positions where there are any.

    second_moment is E z^2, fourth_moment E z^4, rectified E max(z, 0), largest max |z|; variance is the mean over units
    of the population variance over examples and positions.

    Shapes: (N, F, ...) to () each.

    >>> {name: value.item() for name, value in moments(torch.tensor([[1.0], [-1.0]])).items()}
    {'second_moment': 1.0, 'variance': 1.0, 'fourth_moment': 1.0, 'rectified': 0.5, 'largest': 1.0}
    """
    z = z.double()
    return {
        "second_moment": z.square().mean(),
        "variance": z.transpose(0, 1).flatten(1).var(dim=1, correction=0).mean(),
        "fourth_moment": z.pow(4).mean(),
        "rectified": z.clamp(min=0).mean(),
        "largest": z.abs().max(),
    }


def outputs(network: nn.Module, batches: Tensor) -> dict[str, Tensor]:
    """What each linear or convolutional layer and each norm puts out, (K B, F, ...) by name, in the order of calls.

    Args:
        network: The network, in the mode that it is to be measured in.
        batches: K batches (K, B, ...).
    """
    norms = norms_of(network)
    places = {name: each for name, each in network.named_modules() if name in norms or isinstance(each, MAPS)}
    found: dict[str, list[Tensor]] = {}
    for x in batches:
        # of copies, which the next module cannot change in place
        watch(network, x, places, lambda name, _, z: found.setdefault(name, []).append(_units_second(places[name], z)))
    return {name: torch.cat(parts) for name, parts in found.items()}


def _units_second(module: nn.Module, z: Tensor) -> Tensor:
    """A copy of an output with its units on the second axis; those of torch's own maps and layer norms are last."""
    has_units_last = type(module) in (nn.Linear, nn.LayerNorm, nn.RMSNorm)
    return (z.movedim(-1, 1) if has_units_last else z).detach().clone()


class Moments(Probe):
    """The moments of what L places put out, the linear and convolutional layers and the norms (see `moments`).

    In training mode they are those of batches of B with their own statistics, and with dropout; in evaluation mode, of
    the same examples with precise statistics (see `precise`), so that the two differ by the modes alone.

    Readings: train_second_moment, train_variance, train_fourth_moment, train_rectified, train_largest, and the same
    with eval_ (R, L).

    Args:
        batch_size: B; full: one batch of the training split.
        examples: The number of examples, which each replica's seed draws; a rest that fills no batch is left out.
    """

    quantities = (
        "train_second_moment",
        "train_variance",
        "train_fourth_moment",
        "train_rectified",
        "train_largest",
        "eval_second_moment",
        "eval_variance",
        "eval_fourth_moment",
        "eval_rectified",
        "eval_largest",
    )

    def __init__(self, *, batch_size: BatchSize, examples: PositiveInt):
        self.batch_size, self.examples = batch_size, examples

    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Measures each replica on its examples."""
        size = min(size_of(self.batch_size, len(splits.train)), len(splits.train))
        count = max(min(self.examples, len(splits.train)) // size, 1)
        x, _ = fixed_batch(splits.train, self.seeds, count * size)
        found: list[dict[str, dict[str, Tensor]]] = []
        for i in range(replicas.size):  # one network at a time, for wide ones are large
            network, batches = replicas.replica(i), x[i].unflatten(0, (-1, size))
            of_modes = {"train": outputs(network.train(), batches)}
            estimate_population_statistics(network, batches)
            of_modes["eval"] = outputs(network.eval(), batches)
            found.append(
                {
                    name: {
                        f"{mode}_{kind}": value
                        for mode in MODES
                        for kind, value in moments(of_modes[mode][name]).items()
                    }
                    for name in of_modes["train"]
                }
            )
        places = list(found[0])
        kinds = list(found[0][places[0]])
        values = {kind: torch.tensor([[own[place][kind] for place in places] for own in found]) for kind in kinds}
        return Reading("place", places, values)

    def refusals(self, network: nn.Module, batch: Tensor) -> list[Refusal]:
        """Running statistics that cannot be estimated anew keep it from measuring."""
        return refusals_of_precise(network, batch)

    def training_batches(self, splits: Splits) -> list[TrainingBatch]:
        """The batches in training mode."""
        return [TrainingBatch.of("batch_size", self.batch_size, "train", splits)]
