"""How sweeps scale: python -m benchmarks.scaling prints what each part costs with 10,000 cells.

The results are a real cell's, written 10,000 times with other learning rates; the workers of the larger sweeps are
simulated by tasks that do nothing, so that what is left is the sweep's own cost.
"""

import argparse
import dataclasses
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, cast

from benchmarks.contenders import most_resident_bytes
from benchmarks.workloads import CONF, composed
from bn_experiments import report
from bn_experiments.claims import summary
from bn_experiments.config.cells import Cell
from bn_experiments.records import results
from bn_experiments.run import run

SMALL = ["replicas=10", "trainer.max_epochs=1", "data.train_examples=500", "trainer.accelerator=cpu"]


def main() -> None:
    """Prints a line for each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--checked", type=int, default=200, help="cells of the grid that is composed and checked")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "grid"
        written, _, _ = alone(write_results, folder, arguments.cells)
        print(f"{arguments.cells} results, {written / 1e3:.0f} kB each")
        print(f"imports                    peak {alone(nothing)[2] / 1e9:.2f} GB")
        for what, function in {"which are done": which_are_done, "summary": summarise, "report": build_report}.items():
            _, seconds, peak = alone(function, folder)
            print(f"{what:16} {seconds:7.1f} s  peak {peak / 1e9:.2f} GB", flush=True)
    handing, _, peak = alone(dispatch, arguments.cells)
    print(f"Ray, two workers: {handing * 1e3:.1f} ms a cell  peak {peak / 1e9:.2f} GB")
    (composing, checking), _, peak = alone(compose_and_check, arguments.checked)
    print(f"Hydra composes a cell in {composing:.3f} s; this checks one in {checking:.3f} s, {peak / 1e9:.2f} GB")


def alone(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
    """What a function gives in a process of its own, the seconds it takes, and the process's peak in bytes."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(_measured, function, arguments).result()


def _measured(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float, float]:
    started = time.perf_counter()
    found = function(*arguments)
    return found, time.perf_counter() - started, most_resident_bytes()


def write_results(folder: Path, count: int) -> float:
    """Writes results into folders of their own; gives the bytes of one."""
    from hydra import initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        cells = {
            norm: composed("config", [*SMALL, f"norm={norm}", f"paths.output_dir={folder.parent}", "name=template"])
            for norm in ("bn", "none")
        }
    made = {norm: run(cell) for norm, cell in cells.items()}
    for i in range(count // 2):
        for norm, result in made.items():
            setting = f"optimizer.lr={0.1 + i / count:.6f}"
            cell = {**result.cell, "overrides": [*result.cell["overrides"], setting]}
            place = folder / f"mnist1d-mlp-{norm}-sgd-{setting}"
            place.mkdir(parents=True)
            same_hash = dataclasses.replace(result, cell=cell, config_hash=f"{norm}{i}")
            same_hash.write(place)
            (place / "metrics.csv").write_bytes((cells[norm].folder / "metrics.csv").read_bytes())
    return (place / results.FILE).stat().st_size


def nothing() -> None:
    """What the imports take."""


def which_are_done(folder: Path) -> int:
    """How many cells are, asked as a sweep asks."""
    return sum(bool(results.runs(path)) for path in folder.iterdir())


def summarise(folder: Path) -> None:
    """What a sweep writes at its end, less the report."""
    summary.write(summary.summarise(results.done_below(folder), "none"), "none", folder)


def build_report(folder: Path) -> None:
    """The page."""
    report.write_page(folder)


def compose_and_check(count: int) -> tuple[float, float]:
    """Seconds a cell: to compose as Hydra does for each job, and for the check of the whole grid."""
    from hydra import compose, initialize_config_dir

    from bn_experiments.config.composition import cells_of

    grid = [*SMALL, "norm=bn,none", f"data.split_seed=range(0,{count // 2})"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cells_of("config", SMALL, multirun=False)  # what is done once
        started = time.perf_counter()
        for seed in range(10):
            compose("config", [*SMALL, "norm=bn", f"data.split_seed={seed}"], return_hydra_config=True)
        composing = (time.perf_counter() - started) / 10
        started = time.perf_counter()
        cells, refusals, _ = cells_of("config", grid, multirun=True)
        assert len(cells) == count
        assert not refusals
        return composing, (time.perf_counter() - started) / count


def dispatch(count: int) -> float:
    """Seconds a cell that a sweep takes to hand cells to a Ray cluster and to hear of their end, if they do nothing."""
    import ray

    from bn_experiments.sweeps.launchers.ray import RayLauncher

    class Idle(RayLauncher):
        def ended(self, number: int, cell: Cell, loss: str | None) -> None:
            assert loss is None

    launcher = Idle(None, num_cpus=1, num_gpus=0, retries=2)
    launcher.worker = cast(Any, None)
    as_task: Any = ray.remote(num_cpus=1)
    launcher.task = as_task(_nothing_done)
    started = time.perf_counter()
    launcher.run({number: Cell({}, {}, Path(f"cell-{number}"), ()) for number in range(count)})
    return (time.perf_counter() - started) / count


def _nothing_done(worker: None, number: int, cell: Cell) -> None:
    pass


if __name__ == "__main__":
    main()
