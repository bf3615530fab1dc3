"""The probe: one measurement of every replica, what is kept of it, and when it is taken."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from bn_experiments.data.batches import BatchSize, size_of
from bn_experiments.data.examples import Examples, of_replicas
from bn_experiments.data.splits import Splits
from bn_experiments.refusal import Refusal
from bn_experiments.seeds import generator
from bn_experiments.training.replicas import Part, Replicas

if TYPE_CHECKING:  # the check of a grid imports the probes, and answers before TensorBoard could be imported
    from torch.utils.tensorboard import SummaryWriter

Mode = Literal["train", "eval"]
Split = Literal["train", "val", "test"]


class Reading(NamedTuple):
    """What was measured at one time.

    Args:
        axis: The name of the axis that follows the replicas', such as layer.
        labels: The L labels of that axis.
        values: The values of each quantity, (R, L) or (R, L, ...), on the CPU.
    """

    axis: str
    labels: list[str]
    values: dict[str, Tensor]


@dataclass(frozen=True)
class Schedule:
    """The epochs at which a probe measures.

    Args:
        at_start: Whether it measures the initial networks, as epoch 0.
        every_n_epochs: The n of every n-th epoch, at whose end it measures; None for no such epochs.
        at_end: Whether it measures at the end of the last epoch.
    """

    at_start: bool
    every_n_epochs: PositiveInt | None
    at_end: bool

    def is_due(self, epoch: int, max_epochs: int) -> bool:
        """Whether to measure after `epoch` epochs of `max_epochs`.

        >>> [epoch for epoch in range(8) if Schedule(True, 3, True).is_due(epoch, max_epochs=7)]
        [0, 3, 6, 7]
        """
        if (epoch == 0 and self.at_start) or (epoch == max_epochs and self.at_end):
            return True
        return bool(self.every_n_epochs and epoch and epoch % self.every_n_epochs == 0)


class TrainingBatch(NamedTuple):
    """The smallest batch of a split that a probe puts through networks in training mode.

    Args:
        option: The probe's option that sets the size of the batch.
        split: The split that the batch is taken from: train, val or test.
        size: The number of its examples.
    """

    option: str
    split: str
    size: int

    @classmethod
    def of(cls, option: str, size: BatchSize, split: str, splits: Splits) -> "TrainingBatch":
        """The batch that an option asks for: `size` examples of a split, or all of them if they are fewer."""
        count = len(getattr(splits, split))
        return cls(option, split, min(size_of(size, count), count))

    @classmethod
    def of_whole(cls, option: str, size: BatchSize, split: str, splits: Splits) -> "list[TrainingBatch]":
        """The batches into which `scoring.logits_on` cuts a whole split: one of `size` examples, and a smaller rest."""
        batch = cls.of(option, size, split, splits)
        rest = len(getattr(splits, split)) % batch.size
        return [batch, cls(option, split, rest)] if rest > 1 else [batch]


class Probe(ABC):
    """A measurement of R replicas, which also shows in TensorBoard what it found."""

    seeds: Sequence[int]  # the seeds of the replicas, set before anything is measured
    quantities: tuple[
        str, ...
    ] = ()  # the names of its values, for claims to be checked; (): not known before a reading

    @abstractmethod
    def measure(self, replicas: Replicas, splits: Splits) -> Reading:
        """Takes a reading.

        Args:
            replicas: A copy of the replicas, which may be changed.
            splits: The data, on the replicas' device.
        """

    def draw(self, writer: "SummaryWriter", tag: str, reading: Reading, splits: Splits, epoch: int) -> None:
        """Shows a reading in TensorBoard, under tags that start with `tag`/.

        By default it shows the mean over replicas of each quantity (R, L), as the scalars `<tag>/<label>/<quantity>`,
        or `<tag>/<label>` where there is one such quantity alone.
        """
        means = {name: values.mean(0).tolist() for name, values in reading.values.items() if values.dim() == 2}
        for quantity, by_label in means.items():
            for label, mean in zip(reading.labels, by_label, strict=True):
                writer.add_scalar(f"{tag}/{label}" if len(means) == 1 else f"{tag}/{label}/{quantity}", mean, epoch)

    def follow(self, parts: Sequence[Part], optimizers: Sequence[Sequence[torch.optim.Optimizer]]) -> None:
        """Is told what will be trained, before the first step; a probe that looks at steps sets its hooks here.

        What a hook does is captured with the step on a GPU, so it works on tensors of its own, in their place.

        Args:
            parts: The parts of the replicas.
            optimizers: The optimizers of each part, which step in their order.
        """
        return

    def start_epoch(self, epoch: int) -> None:
        """Is told that an epoch, counted from 1, starts or goes on after a cut."""
        return

    def state(self) -> dict[str, Any]:
        """What it keeps between readings, tensors and numbers, for a run that is cut."""
        return {}

    def take_over(self, state: dict[str, Any]) -> None:
        """Takes over a state that a checkpoint brought along; it comes before `follow`."""
        return

    def refusals(self, network: nn.Module, batch: Tensor) -> list[Refusal]:
        """What keeps it from measuring a network, asked before anything trains; by default nothing does.

        Args:
            network: The network, which is left as it is; its weights are any numbers.
            batch: A batch (B, ...) to try it with.
        """
        return []

    def training_batches(self, splits: Splits) -> list[TrainingBatch]:
        """The batches that it puts through networks in training mode, one of each size; by default none.

        One that a network does not take is refused before anything trains: one example, where the norm needs two.

        Args:
            splits: The data that will be measured.
        """
        return []


def fixed_batch(examples: Examples, seeds: Sequence[int], size: int) -> tuple[Tensor, Tensor]:
    """A batch for each replica, drawn by its seed: the same at every epoch and in every arm.

    Args:
        examples: The examples that the batch is drawn from, without replacement.
        seeds: The seeds of the R replicas.
        size: B; where there are fewer examples, all of them are drawn.

    Returns:
        x (R, B, ...) and y (R, B).
    """
    drawn = [torch.randperm(len(examples), generator=generator(seed, "probe batch"))[:size] for seed in seeds]
    return examples.take(of_replicas(torch.stack(drawn).to(examples.y.device), len(examples)))


def networks(replicas: Replicas, mode: Mode) -> list[nn.Module]:
    """Each replica as an ordinary network, in training mode (`train`) or evaluation mode (`eval`)."""
    return [replicas.replica(i).train(mode == "train") for i in range(replicas.size)]


def watch(
    network: nn.Module, x: Tensor, modules: Mapping[str, nn.Module], see: Callable[[str, Tensor, Tensor], None]
) -> None:
    """Puts a batch through a network, with gradients in training mode alone, and looks at what its modules make of it.

    Args:
        network: The network, in the mode that it is to be watched in.
        x: The batch (B, ...).
        modules: Modules of the network by name.
        see: The function that is called with the name, the input and the output of a module at each of its calls;
            not where one of them is no tensor.
    """

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def seen(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                see(name, inputs[0], output)

        return seen

    hooks = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        with torch.set_grad_enabled(network.training):  # by which some norms know the mode
            network(x.clone())  # which it may change in place
    finally:
        for each in hooks:
            each.remove()
