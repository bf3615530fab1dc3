"""How a cell is computed: its replicas stacked or not, its steps captured as a CUDA graph or not."""

import inspect

import torch

from bn_experiments.config import objects
from bn_experiments.config.objects import Config
from bn_experiments.data.splits import Splits
from bn_experiments.training.replicas import Replicas, SeparateReplicas, StackedReplicas

# Above this many floating-point operations a forward step of one replica, stacking gains nothing on a CPU,
# and grouped convolutions lose; measured on two cores with fully connected and convolutional networks.
STACKING_PAYS_BELOW_FLOPS = 30e6


def replicas(config: Config, splits: Splits, device: str) -> Replicas:
    """All replicas, initialized from their seeds, stacked or not."""
    networks = objects.networks(config, splits)
    return StackedReplicas(networks) if stacks(config, splits, device) else SeparateReplicas(networks)


def stacks(config: Config, splits: Splits, device: str) -> bool:
    """Whether the replicas are trained as one stacked network.

    With `auto` they are where it pays and the network can be stacked. It pays on an accelerator always, and on a
    CPU where a step of one replica is small. This is a rule on the work, never a timing, so that the same
    configuration gives the same numbers.
    """
    choice = objects.trainer(config).stack_replicas
    if choice != "auto":
        return bool(choice)
    pays = device != "cpu" or forward_flops(config, splits) < STACKING_PAYS_BELOW_FLOPS
    return config["replicas"] > 1 and pays and can_be_stacked(config, splits)


def can_be_stacked(config: Config, splits: Splits) -> bool:
    """Whether `torch.vmap` takes the network.

    It does not where the network reads a number off a tensor, as a cumulative batch norm does, nor in mixed
    precision, for which torch's rules for norms are not made.
    """
    if config["trainer"]["precision"] == "bf16-mixed":
        return False
    with torch.device("meta"):
        pair = StackedReplicas([objects.network(config, splits) for _ in range(2)])
        try:
            pair(torch.empty(2, config["data"]["batch_size"], *splits.input_shape))
        except Exception:
            return False
    return True


def forward_flops(config: Config, splits: Splits) -> int:
    """Floating-point operations of one replica's forward pass on a mini-batch, counted without doing them."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        objects.network(config, splits).eval()(torch.empty(config["data"]["batch_size"], *splits.input_shape))
    return counter.get_total_flops()


def captures(config: Config) -> bool:
    """Whether the training step is captured as a CUDA graph.

    It is not in mixed precision, nor where a step reads a number off the device or counts in Python: with a
    cumulative batch norm, and with optimizers that torch does not make capturable.
    """
    make = objects.target(config, "optimizer")
    counts_on_device = make is torch.optim.SGD or "capturable" in inspect.signature(make).parameters
    cumulative = config["norm"].get("momentum", 0.1) is None
    options = objects.trainer(config)
    possible = (
        objects.device(config) == "cuda" and options.precision != "bf16-mixed" and counts_on_device and not cumulative
    )
    return options.cuda_graph and possible
