"""Events: TensorBoard's files, written whole from what is known already, and the same for the same content."""

import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.plugins.custom_scalar import metadata as custom
from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MarginChartContent
from tensorboard.summary.writer.record_writer import RecordWriter

from bn_experiments.system.files import write_whole

FILES = "events.out.tfevents.*"
LONGEST = 120  # bytes of a folder's name


def scalar(tag: str, step: int, number: float, description: str) -> Event:
    """A point of a curve, with a description of the curve in Markdown."""
    value = Summary.Value(tag=tag, simple_value=number, metadata=_metadata("scalars", tag, description))
    return Event(step=step, summary=Summary(value=[value]))


def image(tag: str, png: bytes, size: tuple[int, int], title: str, description: str) -> Event:
    """An image, of a width and a height in pixels, with a title and a description in Markdown."""
    encoded = Summary.Image(width=size[0], height=size[1], colorspace=3, encoded_image_string=png)  # RGB
    value = Summary.Value(tag=tag, image=encoded, metadata=_metadata("images", title, description))
    return Event(summary=Summary(value=[value]))


def margins(category: str, charts: Mapping[str, tuple[str, str, str]]) -> Event:
    """What Custom Scalars shows: under a heading, charts by title, each of the tags of a curve and of its band."""
    drawn = []
    for title, (value, lower, upper) in charts.items():
        series = MarginChartContent.Series(value=value, lower=lower, upper=upper)
        drawn.append(Chart(title=title, margin=MarginChartContent(series=[series])))
    layout = Layout(category=[Category(title=category, chart=drawn)]).SerializeToString(deterministic=True)
    tensor = TensorProto(dtype="DT_STRING", string_val=[layout], tensor_shape={})
    value = Summary.Value(tag=custom.CONFIG_SUMMARY_TAG, tensor=tensor, metadata=custom.create_summary_metadata())
    return Event(summary=Summary(value=[value]))


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
    """A text as the name of a folder, which is that of a run; one that is changed for it ends in a digest.

    >>> as_folder("model=mlp optimizer.lr=0.1"), as_folder("data.root=/a")
    ('model=mlp optimizer.lr=0.1', 'data.root=_a-f3d8d0b1')
    """
    name = re.sub(r"[^\w.=,+() \[\]-]", "_", text).encode()[:LONGEST].decode(errors="ignore").strip(" .")
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _metadata(plugin: str, title: str, description: str) -> SummaryMetadata:
    named = SummaryMetadata.PluginData(plugin_name=plugin)
    return SummaryMetadata(display_name=title, summary_description=description, plugin_data=named)
