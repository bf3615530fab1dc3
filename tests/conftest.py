"""What several tests need: composed cells, trained cells, and MNIST-1D made once."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir
from omegaconf import DictConfig

from bn_experiments.config.cells import Cell
from bn_experiments.config.composition import Composer, base
from bn_experiments.data.sources import mnist1d

torch.set_num_threads(1)  # the suite's networks are tiny: threads would only wait for each other

CONF = Path(__file__).parents[1] / "conf"


@pytest.hookimpl(tryfirst=True)  # before the slow ones are taken out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of tests marked as few, all but n are slow. The file that takes longest goes first, so that workers end together.

    The n sets of parameters are spread evenly over those that are not slow by themselves.
    """
    tests: dict[tuple[Path, str], list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("few") and not item.get_closest_marker("slow"):
            tests.setdefault((item.path, item.nodeid.partition("[")[0]), []).append(item)
    for alike in tests.values():
        n = alike[0].get_closest_marker("few").args[0]  # type: ignore[union-attr]
        kept = {i * len(alike) // n for i in range(n)}
        for i, item in enumerate(alike):
            if i not in kept:
                item.add_marker("slow")
    items.sort(key=lambda item: item.path.name != "test_sweeper.py")


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data folder that holds MNIST-1D."""
    folder = str(tmp_path_factory.mktemp("data"))
    mnist1d(folder)
    return folder


@pytest.fixture
def compose_cell(data_dir: str, tmp_path: Path) -> Iterator[Callable[..., Cell]]:
    """Composes a cell from overrides, with its output below tmp_path and a small budget."""
    small = [
        f"paths.data_dir={data_dir}",
        f"paths.output_dir={tmp_path}/outputs",
        "replicas=2",
        "trainer.max_epochs=1",
        "data.train_examples=250",
        "trainer.accelerator=cpu",
        "trainer.progress_bar=false",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):

        def cell(*overrides: str) -> Cell:
            keys = {override.split("=")[0] for override in overrides}
            everything = [o for o in small if o.split("=")[0] not in keys] + list(overrides)
            composer = Composer("config", everything)
            composer.base = composed_once
            made, wrong = composer.cell(everything)
            assert not wrong
            return made

        yield cell


@functools.cache
def composed_once(*chosen: str) -> tuple[DictConfig, dict[str, str]]:
    """What Hydra composes of choices of groups, once for all tests, for it is what takes the time."""
    return base("config", *chosen)
