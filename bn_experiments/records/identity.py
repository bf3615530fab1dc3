"""Identity: which configurations give the same numbers."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeGuard

SEEDS = ("seed", "replicas")  # which replicas of a cell are trained; they decide no replica's numbers
OF_COMMAND = ("name", "paths", "baseline", "stale")  # keys that say what a command does with its cells
BASELINE = "none"  # the arm without a norm, with which others are compared where the command names none
TUNED = "tune."  # with which a key begins that says what is tried of another one
NO_NUMBERS = ("progress_bar", "threads", "cuda_graph")  # keys of the trainer that change at most the last digit


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a configuration that decide the numbers of a replica with a given seed, with their values.

    Left out are the seeds, the sweep's name, the folders of data and outputs, the progress bar, the use of the machine,
    what a slot without a norm does not use, and the keys that are tuned, whose values are found.

    Args:
        config: The resolved configuration of a cell.

    Returns:
        The values by key, such as `data.batch_size`.

    >>> config = {"name": "a", "seed": 0, "norm": {"_target_": None, "placement": "pre"}, "trainer": {"threads": 1}}
    >>> settings(config)
    {'norm._target_': None}
    """
    found = flat({key: value for key, value in config.items() if key not in (*SEEDS, *OF_COMMAND)})
    left_out = {f"trainer.{key}" for key in NO_NUMBERS}
    if found.get("norm._target_", "") is None:
        left_out |= {key for key in found if key.startswith("norm.") and key != "norm._target_"}
    left_out |= {key.removeprefix(TUNED) for key in found if key.startswith(TUNED)}
    # the folder of a download changes no number; a user's own folder of images is the data itself
    own_images = str(found.get("data._target_")).endswith(".image_folder")
    if not own_images and found.get("data.root") == config.get("paths", {}).get("data_dir"):
        left_out.add("data.root")
    return {key: value for key, value in found.items() if key not in left_out}


def flat(config: Mapping[str, Any], parent: str = "") -> dict[str, Any]:
    """The values of a nested configuration by dotted key.

    >>> flat({"seed": 0, "probes": {"sizes": {"examples": 8}}, "scheduler": {}})
    {'seed': 0, 'probes.sizes.examples': 8}
    """
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{parent}{key}.") if isinstance(value, Mapping) else {f"{parent}{key}": value}
    return found


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a setting is a number, which true and false are not.

    >>> is_number(0.1), is_number(True), is_number("1")
    (True, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool)


def identity(config: Mapping[str, Any]) -> str:
    """The digest of what decides a cell's numbers; the replicas of cells with the same identity count together."""
    return digest(settings(config))


def config_hash(config: Mapping[str, Any]) -> str:
    """The digest of what decides the numbers of a run: those of a cell, and the seeds of its replicas.

    >>> a = {"name": "a", "paths": {}, "data": {"root": "x"}, "trainer": {"progress_bar": True}, "seed": 0}
    >>> config_hash(a) == config_hash({**a, "name": "b"}) != config_hash({**a, "seed": 1})
    True
    """
    return digest({**settings(config), **{key: config[key] for key in SEEDS if key in config}})


def digest(values: Mapping[str, Any]) -> str:
    """The first 16 hex digits of SHA-256 over values by key."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def arm_name(choices: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The name of a cell's arm: the norm's option, or the class that replaces its own, with the keys that were set.

    Args:
        choices: The option of each group, and `overrides`, every other key that was set.
        config: The resolved configuration of the cell.

    >>> arm_name({"norm": "gn", "overrides": ["norm.num_groups=4", "seed=1"]}, {})
    'gn num_groups=4'
    """
    given = (text.removeprefix("norm.") for text in choices["overrides"] if text.startswith("norm."))
    tuned = flat(config.get("tune") or {})  # whose values are found
    own = {key: value for key, _, value in (text.partition("=") for text in given) if f"norm.{key}" not in tuned}
    option = str(choices["norm"])
    if own.pop("_target_", None) is not None:
        path = config["norm"]["_target_"]
        option = BASELINE if path is None else str(path).rpartition(".")[2]
    return " ".join([option, *(f"{key}={value}" for key, value in own.items())])
