"""Norms that work until they have trained for a while."""

import os
import signal

from torch import nn


class Failing(nn.Module):
    def __init__(self, num_features: int):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += not x.is_meta
        if self.calls > 3:
            self.end()
        return x

    def end(self):
        raise ZeroDivisionError("on purpose")


class Killing(Failing):
    def end(self):
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does where memory is short
