"""The imports of the process from which workers are forked; it ignores signals, which its parent answers."""

import signal

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)

import bn_experiments.run  # noqa: E402, F401
