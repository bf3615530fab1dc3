"""Vega: the runtime of the curves that a reader can change, as one script that the page holds."""

import functools
import importlib.util
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from bn_experiments.system.files import write_whole

PACKAGE = "vl-convert-python"


@functools.cache
def runtime() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, which sets `vegaEmbed` and fetches nothing.

    It takes a second to make, so it is kept where Python keeps what it compiles of this module, under the version of
    the package that makes it: who can write there can change this module too.
    """
    kept = Path(importlib.util.cache_from_source(__file__)).with_name(f"vega-{version(PACKAGE)}.js")
    with suppress(OSError, ValueError):
        return kept.read_bytes().decode()
    import vl_convert

    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    with suppress(OSError):  # a package that others installed
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, script)
    return script
