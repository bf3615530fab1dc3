"""Which norm trains in which network: python -m benchmarks.networks tries every pair, in half an hour.

Each pair is checked as a command is, and trains two replicas for an epoch. What is neither refused nor trained to a
finite loss is a fault of this package.
"""

import argparse
import logging
import math
import tempfile
import warnings
from collections.abc import Sequence

import torch
from hydra import initialize_config_dir
from rich.progress import track

from benchmarks.agreement import table
from benchmarks.workloads import CONF
from bn_experiments.config.build import ONE_BY_ONE
from bn_experiments.config.composition import cells_of
from bn_experiments.run import run

IMAGES = ["data=gaussian", "data.shape=[3,32,32]", "data.examples=192"]
SIGNALS = ["data.train_examples=800"]
NETWORKS = {
    "mlp": SIGNALS,
    "lenet": SIGNALS,
    "vgg": SIGNALS,
    "resnet": [*IMAGES, "model.depth=8"],
    "residual_mlp": SIGNALS,
    "transformer": SIGNALS,
    "rnn": SIGNALS,
    "lstm": SIGNALS,
    "torchvision": [*IMAGES, "model.name=resnet18"],
    "timm": [*IMAGES, "model.name=vit_tiny_patch16_224", "+model.img_size=32", "+model.patch_size=8"],
}
NORMS = sorted(file.stem for file in (CONF / "norm").glob("*.yaml"))
COMMON = ["replicas=2", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.progress_bar=false", "probes=[]"]


class Reasons:
    """The reasons why pairs are refused, each with its letter."""

    def __init__(self) -> None:
        self.letters: dict[str, str] = {}

    def __call__(self, reason: str) -> str:
        """The letter of a reason."""
        return self.letters.setdefault(reason, chr(ord("a") + len(self.letters)))


def outcome(network: str, norm: str, reasons: Reasons) -> str:
    """What becomes of a pair: `yes`, `one by one`, or the letter of the reason why it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        arm = [f"model={network}", f"norm={norm}", f"paths.output_dir={folder}"]
        cells, refusals = cells_of("config", [*COMMON, *arm, *NETWORKS[network]], multirun=False)
        if refusals:
            return reasons(said(refusals[0].got, network, norm))
        result = run(cells[0])
    losses = result.metrics["train/loss"] if "train/loss" in result.metrics else result.metrics["test/loss"]
    if not all(loss is not None and math.isfinite(loss) for loss in losses):
        return "diverges"
    return "one by one" if any(note.startswith(ONE_BY_ONE) for note in result.notes) else "yes"


def said(got: str, network: str, norm: str) -> str:
    """A reason without the names of the pair, so that other pairs share it."""
    return got.replace(f"model={network}", "the model").replace(f"norm={norm}", "the norm").replace("|", "\\|")


def rows(networks: Sequence[str], norms: Sequence[str], reasons: Reasons) -> list[dict[str, str]]:
    """A row for each norm, with what becomes of it in each network."""
    pairs = [(norm, network) for norm in norms for network in networks]
    found = {pair: outcome(pair[1], pair[0], reasons) for pair in track(pairs, "pairs", transient=True)}
    return [{"norm": f"`{norm}`", **{name: found[norm, name] for name in networks}} for norm in norms]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="these alone")
    parser.add_argument("--norms", nargs="+", choices=NORMS, default=NORMS, help="these alone")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)  # what fails is raised
    torch.set_num_threads(1)
    reasons = Reasons()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        lines = table(rows(options.networks, options.norms, reasons))
    print("\n".join([*lines, "", *(f"- {letter}: {reason}" for reason, letter in reasons.letters.items())]))


if __name__ == "__main__":
    main()
