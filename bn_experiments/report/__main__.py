"""The command: python -m bn_experiments.report FOLDER [--markdown FILE] [--atlas FILE]."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bn_experiments.refusal import one_line
from bn_experiments.report import FILE, write_page


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the report; the exit status is 1, after a line that says why, where there is nothing to show."""
    parser = argparse.ArgumentParser(
        prog="python -m bn_experiments.report",
        description=f"Writes FOLDER/{FILE}, a page that needs nothing else, from finished results; nothing is trained.",
    )
    parser.add_argument(
        "folder", metavar="FOLDER", type=Path, help="a sweep's folder, or a folder of sweeps, such as outputs"
    )
    parser.add_argument(
        "--markdown", metavar="FILE", type=Path, help="also the verdicts and published numbers, as Markdown for a FILE"
    )
    parser.add_argument(
        "--atlas", metavar="FILE", type=Path, help="also the atlas of the literature's claims, with figures beside FILE"
    )
    options = parser.parse_args(arguments)
    try:
        print(write_page(options.folder))
        if options.markdown:
            print(_markdown(options.folder, options.markdown))
        if options.atlas:
            print(_atlas(options.folder, options.atlas))
    except (OSError, ValueError) as error:
        print(one_line(error), file=sys.stderr)
        return 1
    return 0


def _markdown(folder: Path, file: Path) -> Path:
    from bn_experiments.report.contents import collect
    from bn_experiments.report.page import markdown
    from bn_experiments.system.files import write_whole

    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, markdown(collect(folder)))
    return file


def _atlas(folder: Path, file: Path) -> Path:
    from bn_experiments.report.contents import collect
    from bn_experiments.report.page import atlas
    from bn_experiments.system.files import write_whole

    write_whole(file, atlas(collect(folder), file.with_suffix("")))
    return file


if __name__ == "__main__":
    sys.exit(main())
