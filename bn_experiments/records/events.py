"""Events: TensorBoard's files, written whole from what is known already, and the same for the same content."""

import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.plugins.custom_scalar import metadata as of_charts
from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MarginChartContent
from tensorboard.plugins.image import metadata as of_images
from tensorboard.plugins.scalar import metadata as of_scalars
from tensorboard.summary.writer.record_writer import RecordWriter

from bn_experiments.system.files import write_whole

FILES = "events.out.tfevents.*"
LONGEST = 100  # bytes of a folder's name


def scalar(tag: str, step: int, number: float, about: str) -> Event:
    """A point of a curve.

    Args:
        tag: The name of the curve, the same in all runs that one chart shows.
        step: The point's place on the horizontal axis.
        number: The number, which becomes a float32.
        about: What the chart shows, in Markdown.
    """
    tensor = TensorProto(dtype="DT_FLOAT", float_val=[number], tensor_shape={})
    return _event(tag, step, tensor, of_scalars.create_summary_metadata(tag, about))


def image(tag: str, step: int, png: bytes, size: tuple[int, int], title: str, about: str) -> Event:
    """An image, with a title.

    Args:
        tag: The name of the image, the same in all runs that show it side by side.
        step: The epoch that it is of.
        png: The image as a PNG file.
        size: Its width and its height in pixels.
        title: The title.
        about: What it shows, in Markdown.
    """
    parts = [*(str(length).encode() for length in size), png]
    tensor = TensorProto(dtype="DT_STRING", string_val=parts, tensor_shape={"dim": [{"size": len(parts)}]})
    return _event(tag, step, tensor, of_images.create_summary_metadata(title, about))


def margins(heading: str, charts: Mapping[str, str]) -> Event:
    """What Custom Scalars shows under a heading: charts by title, each with the tag of a curve that has an interval."""
    drawn = []
    for title, tag in charts.items():
        low, high = interval_tags(tag)
        series = MarginChartContent.Series(value=tag, lower=low, upper=high)
        drawn.append(Chart(title=title, margin=MarginChartContent(series=[series])))
    layout = Layout(category=[Category(title=heading, chart=drawn)]).SerializeToString(deterministic=True)
    tensor = TensorProto(dtype="DT_STRING", string_val=[layout], tensor_shape={})
    return _event(of_charts.CONFIG_SUMMARY_TAG, 0, tensor, of_charts.create_summary_metadata())


def _event(tag: str, step: int, tensor: TensorProto, metadata: SummaryMetadata) -> Event:
    return Event(step=step, summary=Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata)]))


def interval_tags(tag: str) -> tuple[str, str]:
    """The tags of the lower and the upper end of the interval of what a tag names, all of them in one group."""
    return f"interval/{tag}/low", f"interval/{tag}/high"


def write(folder: Path, events: Iterable[Event], written_s: float) -> None:
    """Writes the one event file of a run, whole.

    Its name holds a digest of its content, so that a TensorBoard that is open reads another content as a new file; it
    then drops what it has read of the run, for the file says that the run starts anew.

    Args:
        folder: The folder of the run, which is made.
        events: What the file holds.
        written_s: The time of all events, in seconds since 1970.
    """
    buffer = io.BytesIO()
    records = RecordWriter(buffer)
    starts = [Event(file_version="brain.Event:2"), Event(session_log=SessionLog(status=SessionLog.START))]
    for event in (*starts, *events):
        event.wall_time = written_s
        records.write(event.SerializeToString(deterministic=True))
    content = buffer.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    name = FILES.replace("*", f"{written_s:.0f}.{hashlib.sha256(content).hexdigest()[:8]}")
    write_whole(folder / name, content)


def remove(folder: Path) -> None:
    """Removes the event files at and below a folder, and the folders that they leave empty."""
    for file in sorted(folder.rglob(FILES)):
        file.unlink()
    for place in sorted([*folder.rglob("*"), folder], reverse=True):  # the deepest first
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()


def as_folder(text: str) -> str:
    """A text as the name of a folder, which TensorBoard shows; one that is changed for it ends in a digest.

    >>> as_folder("model=mlp optimizer.lr=0.1"), as_folder("data.root=/a")
    ('model=mlp optimizer.lr=0.1', 'data.root=_a-7d0f75b3')
    """
    name = re.sub(r"[^\w.=,+() \[\]-]", "_", text).encode()[:LONGEST].decode(errors="ignore").strip(" .")
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
