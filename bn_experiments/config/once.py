"""Once: what several cells have in common is looked at once."""

import json
from collections.abc import Callable
from typing import Any

from bn_experiments.config.objects import Config


class Once:
    """The answers of functions of a configuration, each asked once for all cells that agree in the keys it reads."""

    def __init__(self) -> None:
        self.answers: dict[tuple[Any, ...], Any] = {}

    def __call__(self, function: Callable[..., Any], config: Config, *keys: str, **more: str) -> Any:
        """The answer of a function.

        Args:
            function: The function. It is given a configuration of these keys alone, so it cannot read another.
            config: The configuration of a cell.
            keys: The keys that the answer depends on.
            more: Further arguments of the function.
        """
        read = {key: config[key] for key in keys}
        mark = (function, json.dumps(read), *more.items())
        if mark not in self.answers:
            self.answers[mark] = function(read, **more)
        return self.answers[mark]
