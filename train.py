"""The command line: one cell, or with -m a grid and the comparison at its end (python train.py --help)."""

import hydra
from omegaconf import DictConfig

from bn_experiments.sweeps.sweep import command_line, run_cell


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    """Trains the cell that Hydra composed."""
    run_cell(config)


if __name__ == "__main__":
    command_line(main)
