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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes longest goes first, so that the workers end together."""
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
