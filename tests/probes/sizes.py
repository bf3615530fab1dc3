"""A probe of the tests' own, for what is true of every probe."""

import torch

from bn_experiments.probes.probe import Probe, Reading, TrainingBatch, fixed_batch, networks

PLACES = ["x", "logits"]


class Sizes(Probe):
    """The mean square of a fixed training batch and of its logits in training mode, and those of each example.

    Readings: size (R, 2), sizes (R, 2, examples).
    """

    def __init__(self, *, examples: int):
        self.examples = examples

    def measure(self, replicas, splits):
        x, _ = fixed_batch(splits.train, self.seeds, self.examples)
        with torch.no_grad():
            logits = torch.stack([network(x[i]) for i, network in enumerate(networks(replicas, "train"))])
        sizes = torch.stack([x.flatten(2).square().mean(2), logits.square().mean(2)], dim=1).cpu()
        return Reading("place", PLACES, {"size": sizes.mean(2), "sizes": sizes})

    def training_batches(self, splits):
        return [TrainingBatch.of("examples", self.examples, "train", splits)]
