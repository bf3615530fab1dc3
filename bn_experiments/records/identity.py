"""Identity: which configurations give the same numbers."""

import hashlib
import json
from typing import Any

NO_NUMBERS = ("progress_bar", "threads", "cuda_graph")  # keys of the trainer that change at most the last digit


def config_hash(config: dict[str, Any]) -> str:
    """The first 16 hex digits of SHA-256 over the part of the config that decides a cell's numbers.

    Left out are the sweep's name, the folders of data and outputs, the progress bar, and the use of the machine.

    >>> a = {"name": "a", "paths": {}, "data": {"root": "x"}, "trainer": {"progress_bar": True}, "seed": 0}
    >>> config_hash(a) == config_hash({**a, "name": "b"}) != config_hash({**a, "seed": 1})
    True
    """
    kept = {key: value for key, value in config.items() if key not in ("name", "paths")}
    kept["trainer"] = {key: value for key, value in config["trainer"].items() if key not in NO_NUMBERS}
    # the folder of a download changes no number; a user's own folder of images is the data itself
    own_images = str(config["data"].get("_target_")).endswith(".image_folder")
    if not own_images and config["data"].get("root") == config["paths"].get("data_dir"):
        kept["data"] = {key: value for key, value in config["data"].items() if key != "root"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
