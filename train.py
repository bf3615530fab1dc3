"""The command line: one cell, or with -m a grid and the comparison at its end (python train.py --help)."""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from bn_experiments.config.cells import cell_of
from bn_experiments.sweeps.command_line import command_line
from bn_experiments.sweeps.train_cell import train_cell


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    """Trains the cell that Hydra composed; the cells of a grid are composed and trained by `sweeps.sweeper`."""
    train_cell(cell_of(config, HydraConfig.get()))


if __name__ == "__main__":
    command_line(main)
