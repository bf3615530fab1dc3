"""Groups: which options the folders below `conf/` offer."""

from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType

CONF = Path(__file__).resolve().parents[2] / "conf"


def options_of(loader: ConfigLoader, group: str, **search: Any) -> list[str]:
    """The options of a group, those of its folders too, such as `notebooks/udl_residual` of `experiment`.

    Args:
        loader: Hydra's loader of configurations.
        group: The folder's path below `conf/`; any other text has no options.
        search: The arguments with which Hydra finds the folders: `config_name` and `overrides`.
    """
    found = loader.get_group_options(group, ObjectType.CONFIG, **search)
    for folder in loader.get_group_options(group, ObjectType.GROUP, **search):
        found += [f"{folder}/{option}" for option in options_of(loader, f"{group}/{folder}", **search)]
    return found
