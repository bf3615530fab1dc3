"""Rivals: the same training as people write it today, and with nothing around it."""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import transforms

from bn_experiments.config import objects
from bn_experiments.config.cells import Cell
from bn_experiments.data.examples import Examples
from bn_experiments.data.splits import Splits


def network_of(cell: Cell, splits: Splits) -> nn.Module:
    """The cell's network as its first replica starts."""
    return objects.initial_network(cell.config, splits, cell.config["seed"])


def bare_loop(cell: Cell) -> float:
    """Tensors in memory, indexing, and the validation of every epoch in large batches; nothing else.

    Where the cell augments its images, so does the loop, as one writes it in a line with torchvision: a whole batch is
    cropped and flipped by one draw, which is less work than a draw for each example.

    Returns:
        Seconds of training.
    """
    config = cell.config
    splits = objects.splits(config).to(torch.device("cpu"), torch.float32)
    x, y = splits.train.normalize(splits.train.x), splits.train.y
    val_x, val_y = splits.val.normalize(splits.val.x), splits.val.y
    network = network_of(cell, splits)
    optimizer = objects.optimizer(config)(network)
    batch_size, shuffle = config["data"]["batch_size"], config["data"]["shuffle"]
    changed: Callable[[Tensor], Tensor] = nn.Identity()
    if config["augmentation"]:
        crop = transforms.RandomCrop(x.shape[-1], padding=4)
        changed = transforms.Compose([crop, transforms.RandomHorizontalFlip()])
    started = time.perf_counter()
    for _ in range(config["trainer"]["max_epochs"]):
        network.train()
        order = torch.randperm(len(y)) if shuffle else torch.arange(len(y))
        for index in order.split(batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(changed(x[index])), y[index])
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            for at in torch.arange(len(val_y)).split(config["data"]["eval_batch_size"]):
                logits = network(val_x[at])
                F.cross_entropy(logits, val_y[at])
                (logits.argmax(1) == val_y[at]).sum()
    return time.perf_counter() - started


class Images(Dataset[tuple[Tensor, int]]):
    """A data set that does for each sample what torchvision's MNIST and CIFAR10 do."""

    def __init__(self, examples: Examples, transform: Callable[[Any], Tensor]):
        self.x = examples.x.movedim(1, -1).squeeze(-1).numpy()  # gray as H x W, colours last
        self.y = examples.y.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.x[i])), self.y[i]


def loader(cell: Cell, examples: Examples, shuffle: bool) -> DataLoader[Any]:
    """A DataLoader with its defaults."""
    normalize = [transforms.Normalize([0.5], [0.5])] if cell.config["data"]["normalization"] == "given" else []
    images = examples.x.dtype == torch.uint8
    data: Dataset[Any] = TensorDataset(examples.x, examples.y)
    if images:
        data = Images(examples, transforms.Compose([transforms.ToTensor(), *normalize]))
    return DataLoader(data, batch_size=cell.config["data"]["batch_size"], shuffle=shuffle)


def notebook(cell: Cell) -> float:
    """The notebooks' way: a transform a sample, a DataLoader, `loss.item()` at each step.

    Returns:
        Seconds of training.
    """
    config = cell.config
    splits = objects.splits(config)
    train, val = loader(cell, splits.train, config["data"]["shuffle"]), loader(cell, splits.val, False)
    network = network_of(cell, splits)
    optimizer = objects.optimizer(config)(network)
    criterion = nn.CrossEntropyLoss()
    started = time.perf_counter()
    for _ in range(config["trainer"]["max_epochs"]):
        network.train()
        running_loss = 0.0
        for x, y in train:
            optimizer.zero_grad()
            loss = criterion(network(x), y)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        network.eval()
        val_loss, hits = 0.0, 0
        with torch.no_grad():
            for x, y in val:
                logits = network(x)
                val_loss += criterion(logits, y).item()
                hits += (logits.argmax(1) == y).sum().item()
    return time.perf_counter() - started


class PlainModule(LightningModule):
    """A network under automatic optimization, its loss logged at each step."""

    def __init__(self, network: nn.Module, optimizer: Callable[..., torch.optim.Optimizer]):
        super().__init__()
        self.network = network
        self.optimizer = optimizer

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The cell's optimizer."""
        return self.optimizer(self)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """A mini-batch."""
        x, y = batch
        loss = F.cross_entropy(self.network(x), y)
        self.log("train/running_loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """A mini-batch."""
        x, y = batch
        logits = self.network(x)
        self.log("val/loss", F.cross_entropy(logits, y))
        self.log("val/acc", (logits.argmax(1) == y).float().mean())


def plain_lightning(cell: Cell) -> float:
    """Lightning as its first pages show it: DataLoader, automatic optimization, `self.log`, TensorBoard.

    Returns:
        Seconds of training.
    """
    config = cell.config
    splits = objects.splits(config)
    train, val = loader(cell, splits.train, config["data"]["shuffle"]), loader(cell, splits.val, False)
    module = PlainModule(network_of(cell, splits), objects.optimizer(config))
    trainer = Trainer(
        max_epochs=config["trainer"]["max_epochs"],
        accelerator="cpu",
        logger=TensorBoardLogger(cell.folder, name="", version=""),
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    started = time.perf_counter()
    trainer.fit(module, train, val)
    return time.perf_counter() - started
