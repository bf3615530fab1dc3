"""Images: the figures of a sweep's report, as TensorBoard shows them."""

import sys
from collections.abc import Iterator, Sequence
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


class Images:
    """The figures of a report as the run `report` of TensorBoard, each setting's beside those of the others.

    It is one run for all settings, since TensorBoard shows none of more than 40 runs until one is chosen. An error
    costs the images alone, and a line says what it is.

    Args:
        folder: The folder of the sweep.
        sections: The sections of its report.
    """

    def __init__(self, folder: Path, sections: Sequence[Section]):
        self.folder = folder / FOLDER
        self.settings = in_short([section.context for section in sections])
        cells = (arm.folder for section in sections for arm in section.arms.values())
        self.written_ns = max(map(results.written_ns, cells), default=0)
        self.events: list[Event] = []

    def draw(self, section: Section) -> list[Drawing]:
        """The drawings of a section, of which the images are kept."""
        found = drawings(section)
        with _attempted():
            epoch = max(arm.result.config["trainer"]["max_epochs"] for arm in section.arms.values())
            self.events += [_image(drawing, epoch, self.settings[section.context]) for drawing in found]
        return found

    def write(self) -> None:
        """Writes the images that were drawn, in place of those of an earlier command."""
        with _attempted():
            events.remove(self.folder)
            events.write(self.folder, self.events, self.written_ns / 1e9)


def _image(drawing: Drawing, epoch: int, settings: str) -> Event:
    tag = "/".join(filter(None, ("report", drawing.name, settings)))
    title = ", ".join(filter(None, (drawing.title, settings)))
    return events.image(tag, epoch, *drawing.png(), title, f"{drawing.caption} {drawing.alt}")


@contextmanager
def _attempted() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of a full disk, or of a figure of a user's own
        print(f"no figures in TensorBoard: {one_line(error)}", file=sys.stderr)
