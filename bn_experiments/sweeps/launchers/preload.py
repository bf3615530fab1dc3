"""The imports of the process from which workers are forked; it ignores signals, which its parent answers."""

import signal

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)

import bn_experiments.run  # noqa: E402, F401
from bn_experiments.config.origin import code  # noqa: E402

code({})  # the digests of what was imported just now, which may be edited before a worker trains
