"""The engine against other ways to do the same work, in turn, in one session: python -m benchmarks --help."""

import argparse
import json
import logging
import re
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import joblib
from rich.progress import track

from benchmarks import commands, contenders
from benchmarks.table import markdown
from benchmarks.workloads import EPOCHS, Workload, use_images, workloads
from bn_experiments.system import provenance

RESULTS = Path(__file__).parent / "results"
WITH_RIVALS = ("udacity_mlp", "small_net")  # MNIST, fully connected, batches of 64


def main() -> None:
    """Times everything, adds the run to this machine's file, and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each contender, in turn (default: 3)")
    parser.add_argument("--only", nargs="+", choices=EPOCHS, default=list(EPOCHS), help="protocols (default: all)")
    parser.add_argument("--images", metavar="FOLDER", help="CIFAR-10 as image files: train/<class>/, test/<class>/")
    parser.add_argument("--table", action="store_true", help="print the table of earlier runs, and time nothing")
    options = parser.parse_args()
    name = re.sub(r"[^a-z0-9]+", "-", f"{processor()} {joblib.cpu_count()} cores".lower()).strip("-")
    file = RESULTS / f"{name}.json"
    runs = json.loads(file.read_text()) if file.exists() else []
    if not options.table:
        warnings.filterwarnings("ignore")
        logging.disable(logging.WARNING)
        if options.images:
            use_images(options.images)
        runs.append(measured(options.only, options.rounds))
        RESULTS.mkdir(exist_ok=True)
        file.write_text(json.dumps(runs, indent=1) + "\n")
    print(markdown(runs))


def processor() -> str:
    """What the machine says of it."""
    return provenance.device("cpu").removeprefix("cpu: ").split(",")[0]


def measured(names: Sequence[str], rounds: int) -> dict[str, Any]:
    """One run: every contender of every workload, `rounds` times, and the commands."""
    rates = {str(w): raced(w, rounds) for w in track(workloads(names), "workloads")}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor(),
        "cores": joblib.cpu_count(),
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
        "examples_per_s": rates,
        "writing_share": {
            str(workload): [contenders.writing_share(workload) for _ in range(rounds)]
            for workload in workloads(["mnist1d_mlp", "small_net"])
        },
        "peak_bytes": {name: contenders.peak_bytes(Workload(name, "bn")) for name in names},
        "commands": commands.measured(rounds),
    }


def raced(workload: Workload, rounds: int) -> dict[str, list[float]]:
    """Examples a second of each contender, A B C A B C ...; the first round, which warms up, is not counted."""
    cores = joblib.cpu_count()
    field = {
        "ours": contenders.ours,
        "bare": contenders.bare(1),
        f"bare, {cores} threads": contenders.bare(cores),
        "ten replicas": contenders.ten_replicas,
    }
    if workload.name in WITH_RIVALS:
        field |= {"notebook": contenders.notebook, "plain Lightning": contenders.plain_lightning}
    contenders.ours(workload)
    rates: dict[str, list[float]] = {name: [] for name in field}
    for _ in range(rounds):
        for name, contender in field.items():
            rates[name].append(contender(workload))
    return rates


if __name__ == "__main__":
    main()
