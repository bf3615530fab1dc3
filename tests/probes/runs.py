"""What the tests of the probes share: small runs, and what they leave behind."""

from pathlib import Path

import numpy as np
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from bn_experiments.config import build, objects
from bn_experiments.config.cells import Cell
from bn_experiments.config.check import check
from bn_experiments.data.splits import Splits
from bn_experiments.training.replicas import Replicas

TINY = ("model.hidden=[8,6]", "data.batch_size=50", "seed=3")
SIZES = "+probes.sizes={_target_:tests.probes.sizes.Sizes,examples:30,at_start:true,every_n_epochs:2,at_end:true}"
FILES = {file.stem: file for file in sorted((Path(__file__).parents[2] / "conf" / "probes").glob("*.yaml"))}
NAMES = list(FILES)
CPU = torch.device("cpu")


def measures(name: str, network: nn.Module) -> bool:
    """Whether a probe measures a network of two inputs, whatever its options are."""
    probe = get_class(OmegaConf.load(FILES[name])._target_)
    return not probe.refusals(object.__new__(probe), network, torch.zeros(2, 2))


OF_MLPS = [
    name for name in NAMES if measures(name, nn.Sequential(nn.Linear(2, 2)))
]  # the others are of recurrent networks


def model_for(name: str) -> list[str]:
    """The override that makes a network which a probe measures."""
    return [] if name in OF_MLPS else ["model=rnn"]


def npz(cell: Cell) -> dict[str, np.ndarray]:
    with np.load(cell.folder / "probes.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def events(cell: Cell) -> EventAccumulator:
    kinds = ("images", "histograms", "scalars", "tensors", "compressedHistograms")
    return EventAccumulator(str(cell.folder), size_guidance=dict.fromkeys(kinds, 0)).Reload()


def steps(drawn: list) -> list[int]:
    return [event.step for event in drawn]


def splits_of(cell: Cell) -> Splits:
    return objects.splits(cell.config).to(CPU, torch.float32)


def saved(cell: Cell) -> Replicas:
    """The replicas as the run left them."""
    (file,) = (cell.folder / "checkpoints").iterdir()
    replicas = build.replicas(cell.config, splits_of(cell), "cpu")
    state = torch.load(file, weights_only=True)["state_dict"]
    replicas.load_state_dict({name.removeprefix("replicas."): tensor for name, tensor in state.items()})
    return replicas


def refusals(cell: Cell) -> list[str]:
    return [str(refusal) for refusal in check(cell)]


def refusal_of_one(key: str, value: int, split: str, count: int) -> str:
    """The line about an option that makes a batch of one example."""
    probe = key.split(".")[1]
    return (
        f"{key}={value}: makes a batch of one of the {count} examples of {split}, and the norm needs two; allowed: two "
        f"or more; change it or the split, or leave {probe} out of probes=[...]"
    )
