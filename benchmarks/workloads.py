"""Workloads: the protocols whose training is timed, both arms of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hydra import compose, initialize_config_dir

from bn_experiments.config.cells import Cell, cell_of

CONF = Path(__file__).resolve().parents[1] / "conf"
ARMS = ("bn", "none")
# epochs that take seconds; an epoch is the unit of what a run does beside its steps
EPOCHS = {
    "sigmoid_mlp": 5,
    "udacity_mlp": 2,
    "uc3m_mlp": 3,
    "uc3m_lenet": 1,
    "relu_then_bn_mlp": 2,
    "small_net": 3,
    "mnist1d_mlp": 20,
    "mnist1d_lenet": 20,
    "resnet20": 1,
}
# in each, what is not said is the experiment's or the default
OVERRIDES = {
    "sigmoid_mlp": ["experiment=notebooks/sigmoid_mlp"],
    "udacity_mlp": ["experiment=notebooks/udacity_mlp"],
    "uc3m_mlp": ["experiment=notebooks/uc3m_mlp"],
    "uc3m_lenet": ["experiment=notebooks/uc3m_lenet"],
    "relu_then_bn_mlp": ["experiment=notebooks/relu_then_bn_mlp"],
    "small_net": ["data=mnist", "data.batch_size=64", "model.hidden=[64,128,64]", "optimizer=adam"],
    "mnist1d_mlp": ["model=mlp"],
    "mnist1d_lenet": ["model=lenet"],
    "resnet20": ["model=resnet", "data=cifar10", "data.train_examples=2000", "augmentation=[crop,flip]"],
}


def composed(config_name: str, overrides: Sequence[str]) -> Cell:
    """The cell that these overrides give, as Hydra composes it."""
    config = compose(config_name, overrides=list(overrides), return_hydra_config=True)
    return cell_of(config, config.hydra)


def use_images(folder: str) -> None:
    """Takes CIFAR-10 from image files, where its own cannot be had."""
    for name in ("uc3m_lenet", "resnet20"):
        OVERRIDES[name] += ["data=image_folder", f"data.root={folder}"]


@dataclass(frozen=True)
class Workload:
    """A protocol with one of its arms.

    Args:
        name: The name of the protocol.
        arm: The norm.
    """

    name: str
    arm: str

    def __str__(self) -> str:
        return f"{self.name} {self.arm}"

    def cell(self, folder: Path, replicas: int, *overrides: str) -> Cell:
        """The cell to train, with nothing measured but the curves, its output below `folder`."""
        fixed = [
            f"norm={self.arm}",
            f"replicas={replicas}",
            f"paths.output_dir={folder}",
            f"trainer.max_epochs={EPOCHS[self.name]}",
            "trainer.progress_bar=false",
        ]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cell = composed("config", [*OVERRIDES[self.name], *fixed, *overrides])
        return replace(cell, config={**cell.config, "probes": {}})


def workloads(names: Sequence[str]) -> list[Workload]:
    """Both arms of each protocol."""
    return [Workload(name, arm) for name in names for arm in ARMS]
