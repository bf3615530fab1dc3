"""Images: the figures of a sweep's report, as TensorBoard shows them."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event

from bn_experiments.claims.contexts import in_short
from bn_experiments.figures.drawing import Drawing
from bn_experiments.records import events, results
from bn_experiments.refusal import one_line
from bn_experiments.report.contents import Section
from bn_experiments.report.drawings import drawings

FOLDER = "report"


def shown(folder: Path, sections: Sequence[Section]) -> Callable[[Section], list[Drawing]]:
    """A function that gives the drawings of a section, and writes them as the run `report/<settings>` of TensorBoard.

    What an earlier command wrote is removed. Where the images cannot be written, a line says why.

    Args:
        folder: The folder of the sweep.
        sections: The sections of the sweep.
    """
    settings = in_short([section.context for section in sections])
    with _attempted():
        events.remove(folder / FOLDER)

    def drawn(section: Section) -> list[Drawing]:
        found = drawings(section)
        with _attempted():
            run = folder / FOLDER / events.as_folder(settings[section.context])
            arms = section.arms.values()
            epoch = max(arm.result.config["trainer"]["max_epochs"] for arm in arms)
            written_s = max(results.written_ns(arm.folder) for arm in arms) / 1e9
            events.write(run, (_image(drawing, epoch) for drawing in found), written_s)
        return found

    return drawn


def _image(drawing: Drawing, epoch: int) -> Event:
    about = f"{drawing.caption} {drawing.alt}"
    return events.image(f"report/{drawing.name}", epoch, *drawing.png(), drawing.title, about)


@contextmanager
def _attempted() -> Iterator[None]:
    """Within it, an error costs the images alone."""
    try:
        yield
    except Exception as error:  # of a full disk, or of a figure of a user's own
        print(f"no figures in TensorBoard: {one_line(error)}", file=sys.stderr)
