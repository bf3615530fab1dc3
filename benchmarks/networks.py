"""Which norm trains in which network: python -m benchmarks.networks tries every pair, in half an hour.

Each pair is checked as a command is, and trains two replicas for an epoch. What is neither refused nor trained to a
finite loss is a fault of this package.
"""

import argparse
import logging
import tempfile
import warnings
from string import ascii_lowercase

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
    "timm": [*IMAGES, "model.name=vit_tiny_patch16_224", "+model.patch_size=8"],
}
TRAINS, ALONE, DIVERGES = "yes", "one by one", "diverges"
NORMS = sorted(file.stem for file in (CONF / "norm").glob("*.yaml"))
COMMON = ["replicas=2", "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.progress_bar=false", "probes=[]"]


def outcome(network: str, norm: str) -> str:
    """What becomes of a pair: that it trains, that it diverges, or the reason why it is refused.

    The reason is without the names of the pair, so that other pairs share it.
    """
    with tempfile.TemporaryDirectory() as folder:
        arm = [f"model={network}", f"norm={norm}", f"paths.output_dir={folder}"]
        cells, refusals, _ = cells_of("config", [*COMMON, *arm, *NETWORKS[network]], multirun=False)
        if refusals:
            got = refusals[0].got.replace("|", "\\|")
            return got.replace(f"model={network}", "the model").replace(f"norm={norm}", "the norm")
        result = run(cells[0])
    if any(result.diverged):
        return DIVERGES
    return ALONE if any(note.startswith(ONE_BY_ONE) for note in result.notes) else TRAINS


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="these alone")
    parser.add_argument("--norms", nargs="+", choices=NORMS, default=NORMS, help="these alone")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)  # what fails is raised
    torch.set_num_threads(1)
    pairs = [(norm, network) for norm in options.norms for network in options.networks]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = {pair: outcome(pair[1], pair[0]) for pair in track(pairs, "pairs", transient=True)}
    reasons = [text for text in dict.fromkeys(found.values()) if text not in (TRAINS, ALONE, DIVERGES)]
    letters = dict(zip(reasons, ascii_lowercase, strict=False))
    rows = [
        {"norm": f"`{norm}`", **{name: letters.get(found[norm, name], found[norm, name]) for name in options.networks}}
        for norm in options.norms
    ]
    print("\n".join([*table(rows), "", *(f"- {letter}: {reason}" for reason, letter in letters.items())]))


if __name__ == "__main__":
    main()
