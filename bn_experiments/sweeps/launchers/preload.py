"""What the process imports that workers are forked from; it is deaf to signals, which its parent answers."""

import signal

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)

import bn_experiments.run  # noqa: E402, F401
