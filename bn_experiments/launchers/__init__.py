"""Launchers: where the cells of a sweep train, chosen with hydra/launcher=local, ray or slurm."""

from importlib import import_module

from hydra.core.plugins import Plugins

PREFIX = "hydra_plugins.bn_experiments."  # Hydra 1.3 takes launchers from its own name space alone


def provide(name: str) -> str | None:
    """Makes a launcher known to Hydra under the name that its preset gives, which `PREFIX` begins.

    Args:
        name: The `_target_`; one that is not ours is left to Hydra.

    Returns:
        What is wrong, in a line for a person.
    """
    if not name.startswith(PREFIX):
        return None
    module, _, launcher = name.removeprefix(PREFIX).rpartition(".")
    try:
        found = getattr(import_module(f"{__name__}.{module}"), launcher)
    except (ImportError, AttributeError) as error:
        missing = error.name
        return (
            f"hydra/launcher={module}: {missing} is not installed; allowed: a launcher whose packages are installed; "
            f'pip install "bn-experiments[{missing}]", or use hydra/launcher=local'
        )
    Plugins.instance().class_name_to_class[name] = found
    return None
