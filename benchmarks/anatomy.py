"""The anatomy of a step: what its time is spent on, and what the arithmetic alone would take.

python -m benchmarks.anatomy
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.workloads import Workload, use_images
from bn_experiments.config import build, objects, stacking
from bn_experiments.run import flushed_denormals
from bn_experiments.training.steps import Steps

STEPS, REPEATS = 50, 7
# which operations belong together, by what their names contain; the first that fits
KINDS = {
    "matrix products": ("mm", "linear"),
    "convolutions": ("convolution",),
    "normalization": ("batch_norm",),
    "pooling": ("pool",),
    "optimizer": ("Optimizer", "_fused"),
    "activations and loss": ("relu", "clamp", "threshold", "sigmoid", "softmax", "nll_loss", "cross_entropy"),
    "sums, products and copies": ("::sum", "::mul", "::add", "::copy_", "::fill_", "index_select", "::mean", "::div"),
}
BOOKKEEPING = "bookkeeping: views, autograd's nodes, dispatch, Python"
FLOAT_BYTES = 4


def main() -> None:
    """Prints the anatomy of the steps that most runs consist of."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anatomy", description=__doc__)
    parser.add_argument("--images", metavar="FOLDER", help="CIFAR-10 as image files: train/<class>/, test/<class>/")
    if images := parser.parse_args().images:
        use_images(images)
    torch.set_num_threads(1)
    flops, bandwidth = flops_per_s(), bytes_per_s()
    console = Console(markup=False, highlight=False)
    console.print(
        f"one thread: {flops / 1e9:.0f} GFLOP/s in a product of 1024 x 1024, {bandwidth / 1e9:.1f} GB/s in a copy"
    )
    for name in ("mnist1d_mlp", "mnist1d_lenet", "uc3m_lenet"):
        for replicas in (1, 10):
            with flushed_denormals():
                console.print(anatomy(Workload(name, "bn"), replicas, flops, bandwidth))


def anatomy(workload: Workload, replicas: int, flops_per_s: float, bytes_per_s: float) -> Table:
    """Milliseconds for each step by kind of operation, and those that the arithmetic and the memory would take."""
    config = workload.cell(Path(), replicas).config
    splits = objects.splits(config).to(torch.device("cpu"), torch.float32)
    networks = build.replicas(config, splits, stacking.stacks(config, splits, "cpu")).train()
    make, loss = objects.optimizer(config), objects.losses(config).train
    steps = [(Steps(part, [make(part.module)], loss, None), part.replicas) for part in networks.parts()]
    index = torch.randint(len(splits.train), (replicas, STEPS, config["data"]["batch_size"]))

    def block() -> None:
        for step, which in steps:
            step(splits.train, index[which].movedim(-2, 0))

    whole = quickest(block) / STEPS
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        block()
    spent = dict.fromkeys([*KINDS, BOOKKEEPING], 0.0)
    for event in profiler.key_averages():
        kinds = (kind for kind, parts in KINDS.items() if any(part in event.key for part in parts))
        spent[BOOKKEEPING if "Backward" in event.key else next(kinds, BOOKKEEPING)] += event.self_cpu_time_total
    scale = whole / max(whole, sum(spent.values()) / 1e6 / STEPS)  # the profiler takes time itself, in each operation
    seconds_of = {kind: spent[kind] / 1e6 / STEPS * scale for kind in spent}
    seconds_of[BOOKKEEPING] += whole - sum(seconds_of.values())
    arithmetic, traffic = work(networks.replica(0), *splits.train.take(index[0, 0]))
    table = Table(title=f"{workload.name}, {replicas} replicas: {whole * 1e3:.2f} ms a step", title_justify="left")
    for heading in ("ms", "share"):
        table.add_column(heading, justify="right")
    table.add_column("what")
    rows = [(seconds, kind) for kind, seconds in seconds_of.items() if seconds]
    rows.append((replicas * arithmetic / flops_per_s, f"limit: {replicas * arithmetic / 1e6:.1f} MFLOP"))
    rows.append((replicas * traffic / bytes_per_s, f"limit: {replicas * traffic / 1e6:.2f} MB through memory"))
    for seconds, what in rows:
        table.add_row(f"{seconds * 1e3:.3f}", f"{seconds / whole:.0%}", what)
    return table


def work(network: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Floating-point operations of a step, and bytes that it moves at the least.

    Bytes: every activation written and read, its gradient too; every weight read twice, its gradient written and
    read, the optimizer's step reading and writing weight and momentum.
    """
    activations: list[int] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output: activations.append(output.numel()))
        for module in network.modules()
        if not list(module.children())
    ]
    with FlopCounterMode(display=False) as counter:
        nn.functional.cross_entropy(network.train()(x), y).backward()
    for hook in hooks:
        hook.remove()
    weights = sum(parameter.numel() for parameter in network.parameters())
    return float(counter.get_total_flops()), FLOAT_BYTES * (4 * sum(activations) + 8 * weights + 2 * x.numel())


def flops_per_s() -> float:
    """The floating-point operations a second of a product of two matrices that fits the cache."""
    a = torch.randn(1024, 1024)
    return 2 * 1024**3 / quickest(lambda: torch.mm(a, a))


def bytes_per_s() -> float:
    """The bytes a second that a copy of 256 MB reads and writes."""
    a, b = torch.ones(2**26), torch.empty(2**26)
    return 2 * a.nbytes / quickest(lambda: b.copy_(a))


def quickest(function: Callable[[], object]) -> float:
    """Seconds of a call, the least of several."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    main()
