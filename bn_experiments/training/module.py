"""The LightningModule: the training step of R replicas, and what is measured of them."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import islice, zip_longest
from typing import Any, NamedTuple

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from bn_experiments.data.augmented import Trained
from bn_experiments.data.batches import Block, EvaluationBatches
from bn_experiments.seeds import Stream
from bn_experiments.system import interruption
from bn_experiments.training.attributes import attributes, restore
from bn_experiments.training.captured import CapturedSteps
from bn_experiments.training.losses import Losses
from bn_experiments.training.optimizers import keep_form, put_rates_on_device
from bn_experiments.training.replicas import Replicas, SeparateReplicas, Unstackable
from bn_experiments.training.schedules import RateSchedule, advance
from bn_experiments.training.steps import Clip, Steps

BESIDE = "beside_the_weights"  # the key in a checkpoint of the state that modules keep outside parameters and buffers


class Recipe(NamedTuple):
    """How some of the replicas are trained.

    Args:
        replicas: Which of all replicas.
        optimizer: The function that makes an optimizer of a network or a stack.
        elementwise: Whether the optimizer acts element by element. If not, each replica of a stack has its own.
        schedule: How the learning rate changes.
    """

    replicas: range
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    elementwise: bool
    schedule: RateSchedule

    @property
    def shares(self) -> list[range]:
        """The replicas that share an optimizer."""
        return [self.replicas] if self.elementwise else [range(i, i + 1) for i in self.replicas]


class Classification(LightningModule):
    """Trains R replicas of a network, in blocks of mini-batches.

    Lightning is handed a block at a time, so that what it does for each batch is done once a block; the
    module takes the steps on a block's mini-batches in manual optimization. For Lightning a block is a batch and a
    step: its `global_step` counts blocks.

    Args:
        replicas: The R networks.
        recipes: How they are trained, in their order: all in one way, or some with other rates than others.
        losses: What training minimizes, and what validation and test are scored with.
        clip: The function that limits the gradients of each replica. None: no clipping.
        captured: Whether the step is captured as a CUDA graph.
        streams: A random stream for each part of the replicas, for networks that draw as they train; none for others.
    """

    def __init__(
        self,
        replicas: Replicas,
        recipes: Sequence[Recipe],
        losses: Losses,
        clip: Clip | None,
        captured: bool,
        streams: Sequence[Stream] = (),
    ):
        super().__init__()
        self.automatic_optimization = False
        self.replicas = replicas
        self.recipes = recipes
        (self.interval,) = {recipe.schedule.interval for recipe in recipes}
        self.losses = losses
        self.clip = clip
        self.captured = captured
        self.streams = streams
        self.steps: list[tuple[slice | int, Callable[[Trained, Tensor], Tensor]]] = []
        self.metrics: dict[str, Tensor] = {}

    def configure_optimizers(self) -> Any:
        """An optimizer with its scheduler for each share of the replicas that is trained in one way."""
        self.parts = self.replicas.parts([share for recipe in self.recipes for share in recipe.shares])
        recipe_of = {i: recipe for recipe in self.recipes for i in recipe.replicas}
        optimizers = []
        self.schedulers: list[LRScheduler] = []
        for part in self.parts:
            for network, place in zip(part.networks, part.places, strict=True):
                recipe = recipe_of[place if isinstance(place, int) else place.start]
                optimizer = recipe.optimizer(network)
                optimizers.append(optimizer)
                self.schedulers.append(recipe.schedule.make(optimizer))
                keep_form(optimizer)
                if self.captured:
                    put_rates_on_device(optimizer)
        return optimizers, self.schedulers

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what parameters and buffers do not hold: the plain attributes of the networks, and their streams."""
        checkpoint[BESIDE] = {
            "attributes": attributes(self.replicas.content),
            "streams": [stream.state for stream in self.streams],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes over what was added."""
        held = checkpoint.get(BESIDE, {"attributes": {}, "streams": []})  # older versions saved none
        device = self.trainer.strategy.root_device  # to which Lightning moves the module after this
        restore(self.replicas.content, held["attributes"], device)
        for stream, state in zip(self.streams, held["streams"], strict=False):
            stream.state = state
        for name, tensor in checkpoint["state_dict"].items():  # a buffer may come into being as a network trains
            path, _, leaf = name.rpartition(".")
            buffers = self.get_submodule(path)._buffers
            if buffers.get(leaf, tensor) is None:
                buffers[leaf] = torch.empty_like(tensor, device=device)

    def on_train_start(self) -> None:
        """Makes the steps, now that networks and optimizers are where and what they will be."""
        self.steps.clear()
        by_step = self.schedulers if self.interval == "step" else []
        optimizers, schedulers = iter(self.trainer.optimizers), iter(by_step)
        for part in self.parts:
            own, rates = list(islice(optimizers, len(part.networks))), list(islice(schedulers, len(part.networks)))
            steps = Steps(part, own, self.losses.train, self.clip, rates)
            self.steps.append((part.replicas, CapturedSteps(steps) if self.captured else steps))

    def training_step(self, block: Block, block_index: int) -> dict[str, Tensor]:
        """Trains each part on a block, on its own; gives the loss of each mini-batch and replica, `losses` (K, R)."""
        losses = []
        for (replicas, take), stream in zip_longest(self.steps, self.streams):
            with stream.drawn() if stream else nullcontext():
                losses.append(take(block.examples, block.index[replicas].movedim(-2, 0)))
        if not all(part.shares_memory() for part in self.parts):
            raise Unstackable("the optimizer gives parameters another memory")
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()  # Lightning counts the steps of optimizers that it wraps: here, a step a block
        progress.increment_completed()
        return {"losses": torch.cat([loss.view(len(block), -1) for loss in losses], dim=1)}

    def notes(self) -> list[str]:
        """What was done in another way than asked for, known after training."""
        refused = [take.refused for _, take in self.steps if isinstance(take, CapturedSteps) and take.refused]
        return [f"steps are not captured as a CUDA graph, for {reason}" for reason in dict.fromkeys(refused)]

    def on_train_epoch_end(self) -> None:
        """Steps the schedulers that step by epoch."""
        for scheduler in self.schedulers if self.interval == "epoch" else ():
            advance(scheduler)

    def validation_step(self, batches: EvaluationBatches, batch_index: int) -> None:
        """Scores the split, in evaluation mode."""
        self._score(batches, "val")

    def test_step(self, batches: EvaluationBatches, batch_index: int) -> None:
        """Scores the test set, in evaluation mode."""
        self._score(batches, "test")

    def _score(self, batches: EvaluationBatches, split: str) -> None:
        """Sets the metrics `<split>/loss` and `<split>/acc`, the mean loss and accuracy of each replica, (R,) each."""
        losses, hits = [], []
        streams = [Stream(stream.seed, "evaluation", split) for stream in self.streams]
        for x, y in batches.batches():
            if split == "test":
                interruption.check()  # the trained networks are saved, and the same command tests them
            logits = self._logits(x, streams)
            labels = y.expand(logits.shape[:-1])
            losses.append(self.losses.score(logits, labels).sum(1))
            hits.append((logits.argmax(-1) == labels).sum(1))
        count = len(batches.examples)
        self.metrics[f"{split}/loss"] = torch.stack(losses).sum(0) / count
        self.metrics[f"{split}/acc"] = torch.stack(hits).sum(0) / count

    def _logits(self, x: Tensor, streams: Sequence[Stream]) -> Tensor:
        """The logits (R, B, C) of each replica for x (1 or R, B, ...); networks that draw do so from their streams."""
        if not isinstance(self.replicas, SeparateReplicas) or not streams:
            return self.replicas(x)
        logits = []
        batches = x.expand(len(streams), *x.shape[1:])
        for network, stream, batch in zip(self.replicas.networks, streams, batches, strict=True):
            with stream.drawn():
                logits.append(network(batch.clone()))
        return torch.stack(logits)
