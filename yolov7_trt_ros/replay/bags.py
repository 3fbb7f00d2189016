"""BagReader: the images of a bag, without ROS."""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from yolov7_trt_ros.core.image_message import view_message
from yolov7_trt_ros.core.stamps import stamp_to_ns
from yolov7_trt_ros.errors import BagError, ImageError
from yolov7_trt_ros.replay.frames import BadFrame, Frame
from yolov7_trt_ros.replay.mcap_scan import McapScan
from yolov7_trt_ros.replay.pictures import natural_key
from yolov7_trt_ros.replay.rosbags_door import (
    DAMAGE,
    IMAGE_TYPES,
    load_typestore,
    RawMessage,
    Reader,
)

_PARTS = ('.mcap', '.db3')


class BagPart(Protocol):
    """One readable piece of a bag; `definitions` is the text of each message type it tells."""

    topics: dict[str, str]
    definitions: dict[str, str]
    qos: dict[str, list[Any]]
    counts: dict[str, int]
    warning: str

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage | BagError]:
        """Yield the messages of some topics in recording order."""


class BagReader:
    """
    The images of a bag: a folder, or a bare .mcap or .db3 file.

    Iterating twice reads twice. Nothing is kept open in between.

    Parameters
    ----------
    path
        Bag folder or file. A folder without metadata.yaml and an MCAP file without its index (the
        recorder crashed) are read as far as they go; `warnings` tells.
    topics
        Image topics, with or without the leading slash; none given takes all, save depth images.
    every
        Take only each n-th message of each topic.

    Attributes
    ----------
    topics
        Message type of each image topic that is read, in the order of the bag.
    qos
        Recorded QoS profiles of each topic, as rosbags gives them.
    count
        Number of messages to come; None for recovered bags.

    Raises
    ------
    BagError
        Missing, damaged beyond reading, or without the wanted topics.

    """

    kind = 'bag'
    fps: float | None = None

    def __init__(self, path: Path, *, topics: Sequence[str] = (), every: int = 1) -> None:
        self.path = path
        self._every = every
        self._parts = open_parts(path)
        self.warnings = tuple(part.warning for part in self._parts if part.warning)
        self.topics = _choose_topics(path, _merged(self._parts), topics)
        self.qos = {name: qos for part in self._parts for name, qos in part.qos.items()}
        counts = [part.counts.get(topic) for part in self._parts for topic in self.topics]
        known = [-(-count // every) for count in counts if count is not None]
        self.count: int | None = sum(known) if known and not self.warnings else None

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        """
        Yield one item per image message, in the order of recording.

        A message that cannot be used, and a part of the file that cannot be read, is a `BadFrame`.

        """
        seen: collections.Counter[str] = collections.Counter()
        for part in self._parts:
            for item in part.messages(self.topics):
                if isinstance(item, BagError):
                    yield BadFrame(item, self.path.name, sum(seen.values()), self.path)
                    continue
                index = seen[item.topic]
                seen[item.topic] += 1
                if index % self._every == 0:
                    yield self._frame(item, index // self._every)

    def _frame(self, raw: RawMessage, index: int) -> Frame | BadFrame:
        try:
            message = _deserialize(raw)
            image = view_message(message)
        except ImageError as exc:
            error = ImageError(f'{raw.topic} message {index}: {exc}')
            error.__cause__ = exc
            return BadFrame(error, raw.topic, index, self.path, raw.log_time_ns, raw.data)
        header = message.header
        stamp_ns = stamp_to_ns(header.stamp)
        return Frame(
            image, stamp_ns, header.frame_id, raw.topic, index, self.path,
            raw.log_time_ns, raw.data,
        )


def _deserialize(raw: RawMessage) -> Any:
    try:
        return load_typestore().deserialize_cdr(memoryview(raw.data), raw.msgtype)
    except DAMAGE as exc:
        raise ImageError(f'damaged: its {len(raw.data)} bytes are no {raw.msgtype}') from exc


# ---- parts


class _RosbagsPart:
    """What rosbags reads as it stands: a bag folder, or a whole file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warning = ''
        try:
            with Reader(path) as reader:
                connections = reader.connections[:]
        except DAMAGE as exc:
            raise BagError(f'cannot read {path}: {_one_line(exc)}') from exc
        self.topics = {connection.topic: connection.msgtype for connection in connections}
        self.definitions = {
            item.msgtype: item.msgdef.data
            for item in connections
            if item.msgdef.format.name == 'MSG'
        }
        self.qos = {
            item.topic: list(getattr(item.ext, 'offered_qos_profiles', ())) for item in connections
        }
        self.counts: dict[str, int] = collections.Counter()
        for connection in connections:
            self.counts[connection.topic] += connection.msgcount

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage | BagError]:
        """Yield messages; when a part of an MCAP file is damaged, what can be had of the rest."""
        given: collections.Counter[str] = collections.Counter()
        try:
            with Reader(self.path) as reader:
                wanted = [item for item in reader.connections if item.topic in topics]
                for connection, log_time_ns, data in reader.messages(wanted) if wanted else ():
                    given[connection.topic] += 1
                    # a damaged row of SQLite may hold NULL, a number or a text
                    whole = data if isinstance(data, bytes) else b''
                    yield RawMessage(connection.topic, connection.msgtype, log_time_ns, whole)
            stated = sum(self.counts[topic] for topic in topics if topic in self.counts)
            if given.total() >= stated:
                return
            error = BagError(
                f'{self.path} is damaged: it states {stated} messages, {given.total()} are there'
            )
        except DAMAGE as exc:
            error = BagError(f'{self.path} is damaged: {_one_line(exc)}')
        yield error
        for file in _files(self.path, ('.mcap',)):
            for item in McapScan(file):
                if isinstance(item, BagError):
                    continue  # told already
                if item.topic in topics:
                    given[item.topic] -= 1
                    if given[item.topic] < 0:
                        yield item


class _RecoveredPart:
    """An MCAP file without its index, read from front to back."""

    def __init__(self, path: Path) -> None:
        scan = McapScan(path)
        messages = sum(not isinstance(item, BagError) for item in scan)
        if not scan.topics:
            raise BagError(f'{path} is damaged: no message can be recovered from it')
        self.path = path
        self.topics = dict(scan.topics)
        self.definitions: dict[str, str] = {}
        self.qos: dict[str, list[Any]] = {}
        self.counts: dict[str, int] = {}
        self.warning = (
            f'{path} was not closed by its recorder or is cut off; '
            f'recovered {messages} messages from it'
        )

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage | BagError]:
        """Yield what can be read."""
        for item in McapScan(self.path):
            if isinstance(item, BagError) or item.topic in topics:
                yield item


def open_parts(path: Path) -> list[BagPart]:
    """Open a bag as a whole, else file by file."""
    if not path.exists():
        raise BagError(f'no such bag: {path}')
    if not path.is_dir():
        return [_open_file(path)]
    files = _files(path, _PARTS)
    if (path / 'metadata.yaml').exists():
        try:
            return [_RosbagsPart(path)]
        except BagError as exc:
            if not files:
                raise
            warning = str(exc)
    elif files:
        warning = f'{path} has no metadata.yaml: the recorder did not end properly'
    else:
        raise BagError(f'{path} is no bag: neither metadata.yaml nor .mcap or .db3 files in it')
    parts = [_open_file(file) for file in files]
    parts[0].warning = '; '.join(filter(None, (warning, parts[0].warning)))
    return parts


def _files(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the storage files of a bag, in the order they were recorded."""
    files = sorted(path.iterdir(), key=natural_key) if path.is_dir() else [path]
    return [file for file in files if file.suffix in suffixes]


def _open_file(path: Path) -> BagPart:
    try:
        return _RosbagsPart(path)
    except BagError:
        if path.suffix != '.mcap':
            raise
        return _RecoveredPart(path)


def _merged(parts: Sequence[BagPart]) -> dict[str, str]:
    return {topic: msgtype for part in parts for topic, msgtype in part.topics.items()}


def _choose_topics(
    path: Path, available: dict[str, str], wanted: Sequence[str]
) -> dict[str, str]:
    """Return the image topics to read and their types."""
    images = {topic: kind for topic, kind in available.items() if kind in IMAGE_TYPES}
    listed = ', '.join(images) or 'none'
    if not images:
        others = ', '.join(f'{topic} ({kind})' for topic, kind in available.items()) or 'nothing'
        raise BagError(f'{path} holds no image topics; it holds {others}')
    if not wanted:
        return {
            topic: kind for topic, kind in images.items() if not topic.endswith('/compressedDepth')
        }
    names = [topic if topic in images else f'/{topic.lstrip("/")}' for topic in wanted]
    for name in names:
        if name not in images:
            found = f'is {available[name]}' if name in available else 'is not in the bag'
            raise BagError(f'{path}: topic {name} {found}; image topics: {listed}')
    return {name: images[name] for name in images if name in names}


def _one_line(exc: BaseException) -> str:
    text = ' '.join(str(exc).split())
    return text[:200] if text else type(exc).__name__
