"""Identity: which configurations give the same numbers."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEEDS = ("seed", "replicas")  # which replicas of a cell are trained; they decide no replica's numbers
OF_COMMAND = ("name", "paths", "baseline", "stale")  # keys that say what a command does with its cells
NO_NUMBERS = ("progress_bar", "threads", "cuda_graph")  # keys of the trainer that change at most the last digit


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a configuration that decide the numbers of a replica with a given seed, with their values.

    Left out are the seeds, the sweep's name, the folders of data and outputs, the progress bar, the use of the machine,
    and what a slot without a norm does not use.

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
