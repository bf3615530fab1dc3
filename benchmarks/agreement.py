"""What agrees: python -m benchmarks.agreement tries norms, optimizers and networks as people write them.

For each it says whether a stack of replicas becomes what each becomes alone, whether the arms and the replicas start
from the same weights, whether a run that was cut goes on, and whether probes change a number. It takes three minutes.
"""

import argparse
import copy
import inspect
import logging
import re
import tempfile
import textwrap
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from hydra import initialize_config_dir
from hydra.utils import get_object
from rich.progress import track

from benchmarks import people
from benchmarks.workloads import CONF, composed
from bn_experiments.config import objects, stacking
from bn_experiments.config.cells import Cell
from bn_experiments.run import flushed_denormals, run
from bn_experiments.training.agreement import Agreement

PAGE = Path(__file__).resolve().parents[1] / "docs" / "replicas.md"
BEGIN, END = "<!-- written by python -m benchmarks.agreement --markdown -->", "<!-- to here -->"
SMALL = ["replicas=3", "trainer.max_epochs=1", "data.train_examples=800", "trainer.accelerator=cpu"]
SMALL += ["trainer.progress_bar=false"]
PROBES = "activations,modes,classes"
ROUNDS = 3  # of each check in the table
COSTS = {"mlp": [], "lenet": ["model=lenet"], "lstm": ["model=lstm"]}

PEOPLE = [name for name, it in vars(people).items() if isinstance(it, type) and issubclass(it, people.Affine)][1:]
NORMS: list[tuple[str, dict[str, Any]]] = [
    *((f"benchmarks.people.{name}", {}) for name in PEOPLE),
    *((f"torch.nn.{name}", {}) for name in ("BatchNorm1d", "LayerNorm", "RMSNorm", "SyncBatchNorm")),
    ("torch.nn.BatchNorm1d", {"momentum": None}),
    ("torch.nn.GroupNorm", {"num_groups": 4}),
    *((f"timm.layers.{name}", {}) for name in ("LayerNorm", "GroupNorm1", "RmsNorm")),
]
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "torch.optim.SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "decay": "weights"},
    "torch.optim.Adam": {"lr": 0.01, "decay": "all"},
    "torch.optim.AdamW": {"lr": 0.01, "weight_decay": 0.1, "decay": "weights"},
    "torch.optim.NAdam": {"lr": 0.01, "decay": "all"},
    "torch.optim.Rprop": {"lr": 0.01, "decay": "all"},
    "torch.optim.Adafactor": {"lr": 0.01, "decay": "all"},
    "benchmarks.people.adamw_by_axes": {"lr": 0.01, "weight_decay": 0.1, "decay": "all"},
    "benchmarks.people.adamw_by_names": {"lr": 0.01, "weight_decay": 0.1, "decay": "all"},
    "benchmarks.people.Lars": {"lr": 0.01, "decay": "all"},
    "benchmarks.people.GloballyClipped": {"lr": 0.1, "momentum": 0.9, "decay": "all"},
    "benchmarks.people.LazyMomentum": {"lr": 0.01, "decay": "all"},
    "benchmarks.people.Lookahead": {"lr": 0.1, "decay": "all"},
    "timm.optim.Lamb": {"lr": 0.01, "decay": "all"},
}
NETWORKS = ("Tokens", "Attention", "Kaiming", "Shared", "Frozen")


class Subject(NamedTuple):
    """What is tried: a norm, an optimizer or a network.

    Args:
        kind: The group of the configuration that it belongs to.
        target: Its import path.
        options: The other keys of its group.
    """

    kind: str
    target: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        path, _, name = self.target.rpartition(".")
        if path != "benchmarks.people":
            options = self.options.items() if self.kind == "norm" else ()
            return ", ".join([f"`{self.target}`", *(f"{key}={value}" for key, value in options)])
        text = re.sub(r"\s*\([^)]*\)", "", inspect.getdoc(get_object(self.target)) or "")  # without citations
        return f"`{name}`: " + " ".join(text.split()).partition(". ")[0].rstrip(".")

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration of a cell with it."""
        changed = copy.deepcopy(dict(config))
        own = {"_target_": self.target, **self.options}
        if self.kind == "norm":
            changed["norm"] = {**changed["norm"], **own}
        else:
            changed[self.kind] = own
        return changed | ({"init": "own"} if self.kind == "model" else {})


def subjects() -> Iterator[Subject]:
    """All that are tried; of what is not installed a line says that it is skipped."""
    found = [Subject("norm", name, options) for name, options in NORMS]
    found += [Subject("optimizer", name, options) for name, options in OPTIMIZERS.items()]
    found += [Subject("model", f"benchmarks.people.{name}", {}) for name in NETWORKS]
    for subject in found:
        try:
            get_object(subject.target)
        except Exception:  # Hydra raises what the import raises
            print(f"{subject.target} is skipped, for it is not installed")
        else:
            yield subject


def main() -> None:
    """Prints the tables, and writes them into the page where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help=f"also write the tables into {PAGE.name}")
    parser.add_argument("--only", metavar="TEXT", default="", help="those alone whose import path contains this")
    parser.add_argument("--rounds", type=int, default=10, help="of the check of each network in the table of costs")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)  # what fails is raised
    torch.set_num_threads(1)
    chosen = [subject for subject in subjects() if options.only in subject.target]
    with flushed_denormals(), initialize_config_dir(str(CONF), version_base="1.3"):
        rows = [row(subject) for subject in track(chosen, "trials", transient=True)]
        costs = [cost(name, options.rounds) for name in track(COSTS, "costs", transient=True)]
    kinds = [[row for row in rows if kind in row] for kind in ("norm", "optimizer", "model")]
    text = "\n\n".join("\n".join(table(lines)) for lines in [*kinds, costs] if lines)
    print(text)
    if options.markdown:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


def table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The lines of a table in Markdown."""
    lines = [f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|"]
    return [*lines, *(f"| {' | '.join(row.values())} |" for row in rows)]


def row(subject: Subject) -> dict[str, str]:
    """What a trial and two runs of three replicas show."""
    base = composed("config", [*SMALL, f"norm={'none' if subject.kind == 'norm' else 'bn'}"])
    config = subject.config(base.config)
    seconds, found = zip(*(checked(config) for _ in range(ROUNDS)), strict=True)
    alone, anew = found[0].alone, found[0].anew
    return {
        subject.kind: str(subject),
        "in a stack": f"one by one: {short(alone)}" if alone else "equal",
        "start": paired(config),
        "after a cut": f"starts anew: {short(anew)}" if anew else "goes on",
        "with probes": measured(subject),
        "check, s": f"{median(seconds):.2f}",
    }


def checked(config: Mapping[str, Any]) -> tuple[float, Agreement]:
    """The seconds of the trial of a configuration, and what it shows."""
    splits = objects.splits(config)
    started = time.perf_counter()
    found = stacking.tried(config, splits, "cpu", stacked=True)
    return time.perf_counter() - started, found


def paired(config: Mapping[str, Any]) -> str:
    """Whether the second replica starts as alone, and each layer as in the arm without a norm."""
    splits = objects.splits(config)
    baseline = {**config, "norm": {**composed("config", ["norm=none"]).config["norm"]}}

    def weights(config: Mapping[str, Any], seed: int) -> dict[str, torch.Tensor]:
        return objects.initial_network(config, splits, seed).state_dict()

    weights(config, 0)
    second = weights(config, 1)
    torch.manual_seed(torch.seed())  # whatever was drawn before
    alone, other = weights(config, 1), weights(baseline, 1)
    differing = [name for name in second if not torch.equal(second[name], alone[name])]
    differing += [name for name in other if name in second and not torch.equal(second[name], other[name])]
    return f"{short(differing[0])} differs" if differing else "paired"


def measured(subject: Subject) -> str:
    """Whether a run with probes gives the numbers of one without them, bit for bit."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        for probes in (PROBES, ""):
            where = f"paths.output_dir={name}/{'with' if probes else 'without'}"
            arm = f"norm={'none' if subject.kind == 'norm' else 'bn'}"
            cell: Cell = composed("config", [*SMALL, arm, where, f"probes=[{probes}]"])
            found.append(run(replace(cell, config=subject.config(cell.config))).metrics)
    return "equal" if found[0] == found[1] else "differs"


def short(reason: str) -> str:
    """A reason without the place in the network, in a few words."""
    first = re.split(r", which|\. ", reason.removeprefix("vmap: It looks like you're "))[0]
    words = [word.rpartition("norm.")[2] for word in first.split()]
    return textwrap.shorten(" ".join(words), 70, placeholder=" ...").replace("|", "\\|")


def cost(name: str, rounds: int) -> dict[str, str]:
    """The seconds of the check of a network with a norm that has to be tried, and of the training that follows."""
    base = composed("config", ["trainer.accelerator=cpu", "norm=none", *COSTS[name]])
    config = Subject("norm", "benchmarks.people.PlainAttributes", {}).config(base.config)
    checked(config)
    seconds = [checked(config)[0] for _ in range(rounds)]
    return {
        "network": f"`{name}`",
        "batch": str(config["data"]["batch_size"]),
        "the check, s": f"{median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f}), n = {rounds}",
    }


if __name__ == "__main__":
    main()
