"""Provenance: the code, the packages and the machine that a result comes from."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy", "mnist1d")


def of_this_process(device_kind: str) -> dict[str, Any]:
    """The fields of a result that say where it comes from.

    Args:
        device_kind: cpu, cuda or mps.
    """
    return {"device": device(device_kind), "versions": versions(), "git_commit": git_commit()}


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a number may depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def git_commit() -> str | None:
    """The commit of the code, with -dirty if files were changed since; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    folder = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def device(kind: str) -> str:
    """The kind and name of the device, and on a CPU the number of threads in use."""
    if kind == "cuda":
        return f"cuda: {torch.cuda.get_device_name()}"
    if kind == "mps":
        return f"mps: {platform.processor()}"
    threads = torch.get_num_threads()
    return f"cpu: {_processor()}, {threads} thread{'s' * (threads != 1)}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
