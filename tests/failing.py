"""A norm that works until it has trained for a while."""

from torch import nn


class Failing(nn.Module):
    def __init__(self, num_features: int):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += not x.is_meta
        if self.calls > 3:
            raise ZeroDivisionError("on purpose")
        return x
