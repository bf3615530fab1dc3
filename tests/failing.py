"""Norms, and a probe, that work for a while."""

import os
import signal

import torch
from torch import nn

from bn_experiments.probes.probe import Probe, Reading


class Failing(nn.Module):
    def __init__(self, num_features: int):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += not x.is_meta
        if self.calls > 10:
            self.end()
        return x

    def end(self):
        raise ZeroDivisionError("on purpose")


class Killing(Failing):
    def end(self):
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does where memory is short


class Hungry(Failing):
    def end(self):
        torch.empty(2**55)  # 128 PB


class Narrowing(nn.Module):
    """A norm that gives fewer features than it is given."""

    def __init__(self, num_features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x[:, :3] * self.weight


class BadProbe(Probe):
    """Fails at its second reading."""

    def __init__(self):
        self.calls = 0

    def measure(self, replicas, splits):
        self.calls += 1
        if self.calls > 1:
            raise ZeroDivisionError("on purpose")
        return Reading("none", [], {})

    def draw(self, writer, tag, reading, splits, epoch):
        pass


class Saying(Failing):
    """Prints as a library does that knows of no Python."""

    def end(self):
        if self.calls == 11:
            os.write(2, b"said by a worker\n")
