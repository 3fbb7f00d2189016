"""OpenBag: the files of a bag, compared with metadata.yaml, and their problems."""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterator, Sequence
import contextlib
from pathlib import Path
from typing import Protocol
import weakref

from yolov7_trt_ros.core.plain_text import listed
from yolov7_trt_ros.errors import BagError, InputError
from yolov7_trt_ros.replay.bags.bag_metadata import BagMetadata, NAME, read_metadata
from yolov7_trt_ros.replay.bags.mcap_file import MCAP_MAGIC, McapFile
from yolov7_trt_ros.replay.bags.rosbags_adapter import RawMessage
from yolov7_trt_ros.replay.bags.sqlite_file import SQLITE_MAGIC, SqliteFile
from yolov7_trt_ros.replay.bags.unpacking import unpack_file, ZSTD_MAGIC
from yolov7_trt_ros.replay.file_kinds import BAG_SUFFIXES, natural_key, read_head, recordings_in
from yolov7_trt_ros.temporary_folder import TemporaryFolder

_PACKED_SUFFIX = '.zstd'
_SHOWN = 5


class BagPart(Protocol):
    """One file of a bag, with its message definitions and QoS profiles as text."""

    topics: dict[str, str]
    definitions: dict[str, str]
    qos: dict[str, str]
    counts: dict[str, int]
    warning: str

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage | BagError]:
        """Yield the messages of some topics in recording order."""


class OpenBag:
    """
    The files of a bag. No file stays open.

    Parameters
    ----------
    path
        Bag folder, or a single .mcap or .db3 file, also one compressed with zstd.

    Attributes
    ----------
    parts
        The files that could be opened, in recording order.
    topics
        Message type by topic, from metadata.yaml and the files.
    stated
        Number of messages by topic, the larger of metadata.yaml and the files.
    warnings
        Problems without loss.
    errors
        Lost parts.

    Raises
    ------
    BagError
        Missing, not a bag, or none of its files can be read.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self.errors: list[BagError] = []
        if not path.exists():
            raise BagError(f'no such bag: {path}')
        metadata = BagMetadata((), {}, {})
        files = [path]
        if path.is_dir():
            try:
                metadata = read_metadata(path)
            except BagError as exc:
                self.warnings.append(str(exc))
            files = self._choose_files(metadata)
        self.parts = self._open(files)
        self.warnings += [part.warning for part in self.parts if part.warning]
        self.topics = dict(metadata.topics)
        held: collections.Counter[str] = collections.Counter()
        for part in self.parts:
            self.topics |= part.topics
            held.update(part.counts)
        self._compare_counts(metadata, held)
        self.stated = {
            topic: max(metadata.counts.get(topic, 0), held[topic]) for topic in self.topics
        }

    def missing(self, topics: Collection[str], found: collections.Counter[str]) -> list[BagError]:
        """Return an error for each topic with fewer messages than stated."""
        return [
            BagError(
                f'{self.path}: {topic} should have {self.stated[topic]} messages, '
                f'{found[topic]} could be read'
            )
            for topic in topics
            if found[topic] < self.stated.get(topic, 0)
        ]

    def _choose_files(self, metadata: BagMetadata) -> list[Path]:
        """Return the storage files of a folder: those in metadata.yaml, else all."""
        found = _storage_files(self.path)
        named = [self.path / name for name in metadata.files]
        lost = [file.name for file in named if not file.is_file()]
        if not found and not named:
            inner, _ = recordings_in(self.path)
            raise BagError(
                f'{self.path} is not a bag: it has neither {NAME} nor .mcap or .db3 files'
                + (f'; give the bags in it: {listed(inner, _SHOWN)}' if inner else '')
            )
        if not named:
            return found
        if lost:
            self.errors.append(BagError(
                f'{self.path}: {NAME} names missing files: {listed(lost, _SHOWN)}'
            ))
            return found
        others = [file.name for file in found if file not in named]
        if others:
            self.warnings.append(
                f'{self.path}: not read, because {NAME} does not name it: {listed(others, _SHOWN)}'
            )
        return named

    def _open(self, files: Sequence[Path]) -> list[BagPart]:
        parts: list[BagPart] = []
        for file in files:
            try:
                parts.append(_open_file(file))
            except InputError as exc:
                self.errors.append(exc if isinstance(exc, BagError) else BagError(str(exc)))
        if not parts:
            raise self.errors[0]
        return parts

    def _compare_counts(self, metadata: BagMetadata, held: collections.Counter[str]) -> None:
        """Warn if the files have more messages than metadata.yaml states."""
        if not metadata.files:
            return
        differ = [topic for topic in held if held[topic] > metadata.counts.get(topic, 0)]
        if differ:
            topic = differ[0]
            self.warnings.append(
                f'{self.path}: {NAME} is wrong for {len(differ)} of {len(self.topics)} topics: it '
                f'states {metadata.counts.get(topic, 0)} messages of {topic}, the files have '
                f'{held[topic]}; the files are used'
            )


def _storage_files(folder: Path) -> list[Path]:
    """Return the storage files in a folder, in the order they were recorded."""
    try:
        files = sorted(folder.iterdir(), key=natural_key)
    except OSError as exc:
        raise BagError(f'cannot read {folder}: {exc.strerror}') from exc
    found = [file for file in files if file.name.lower().endswith(BAG_SUFFIXES)]
    names = {file.name for file in found}
    # `ros2 bag play` leaves unpacked files beside the packed ones
    return [
        file for file in found
        if not (file.suffix == _PACKED_SUFFIX and file.name.removesuffix(_PACKED_SUFFIX) in names)
    ]


def _open_file(path: Path) -> BagPart:
    """Open a storage file by its content, whatever its suffix."""
    head = read_head(path)
    if head.startswith(ZSTD_MAGIC):
        return _open_packed(path)
    if head.startswith(SQLITE_MAGIC):
        return SqliteFile(path)
    if head.startswith(MCAP_MAGIC):
        return McapFile(path)
    if not any(head):
        raise BagError(f'{path} is empty: nothing was written to it before the recorder ended')
    raise BagError(
        f'{path} is neither an MCAP nor an SQLite file: it starts with {head[:8].hex(" ")}'
    )


def _open_packed(path: Path) -> BagPart:
    """Open a compressed file, unpacked while the part is in use."""
    with contextlib.ExitStack() as stack:
        folder = TemporaryFolder('yolov7_trt_bag_')
        stack.callback(folder.cleanup)
        file = unpack_file(path, Path(folder.name))
        if read_head(file).startswith(ZSTD_MAGIC):
            raise BagError(f'{path} is compressed twice; unpack it with: zstd -d')
        part = _open_file(file)
        weakref.finalize(part, stack.pop_all().close)
    return part
