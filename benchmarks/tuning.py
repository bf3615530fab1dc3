"""Nine rates and ten seeds as one stack, against nine cells one after another: python -m benchmarks.tuning."""

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from hydra import initialize_config_dir

from benchmarks.workloads import CONF
from bn_experiments.config import space
from bn_experiments.config.cells import Cell
from bn_experiments.config.composition import cells_of
from bn_experiments.records.tuning import FOLDER
from bn_experiments.run import run
from bn_experiments.tuning import tried

RATES = "1e-3..10:9"
COMMON = ["trainer.accelerator=cpu", "trainer.progress_bar=false", "probes=[]"]


def seconds(work: Callable[[], object]) -> float:
    """How long some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def one_cell(*overrides: str) -> Cell:
    """The cell of some overrides."""
    (cell,), refusals, _ = cells_of("config", [*COMMON, *overrides], multirun=False)
    assert not refusals, refusals
    return cell


def main() -> None:
    """Prints the seconds of both ways, in turn, and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each way, in turn (default: 3)")
    parser.add_argument("overrides", nargs="*", default=["model=mlp", "norm=bn"], help="of the cell")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {"one stack": [], "one after another": []}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        rates = space.values_of("optimizer.lr", RATES)
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                where = [*options.overrides, f"paths.output_dir={folder}"]
                cell = one_cell(*where, f"++tune.optimizer.lr={rates}".replace(" ", ""))
                seeds = range(space.SEED, space.SEED + space.REPLICAS)
                trials = cell.of_seeds(seeds, cell.folder / FOLDER)
                alone = [one_cell(*where, f"optimizer.lr={rate}", f"seed={space.SEED}") for rate in rates]
                found["one stack"].append(seconds(partial(tried, trials, {})))
                found["one after another"].append(sum(seconds(partial(run, each)) for each in alone))
            print({way: [round(each, 1) for each in times] for way, times in found.items()}, flush=True)
    ratios = [two / one for one, two in zip(*found.values(), strict=True)]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"{len(rates)} rates, ten seeds each: {median(ratios):.2f} times as fast ({spread})")


if __name__ == "__main__":
    main()
