"""DetectionBagWriter: writes detections, and optionally their images, to a bag."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import os
from pathlib import Path
import re
from types import TracebackType
from typing import Any

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.topics import detections_topics, engine_topic
from yolov7_trt_ros.errors import BagError
from yolov7_trt_ros.replay.bags.detection_message import (
    DetectionMessages,
    DETECTIONS_TYPE,
    ENGINE_TYPE,
)
from yolov7_trt_ros.replay.bags.rosbags_adapter import (
    load_typestore,
    StoragePlugin,
    Writer,
    WriterError,
)
from yolov7_trt_ros.replay.frames import BadFrame, Frame
from yolov7_trt_ros.temporary_folder import TemporaryFolder

_BAG_FILE = re.compile(r'[.](mcap|db3|db3-wal|db3-shm)([.]zstd)?$')


class DetectionBagWriter:
    """
    Writes a bag that gets its name when it is complete.

    Until `close` it is in a hidden folder beside it. As a context manager, it is discarded after
    an exception.

    Parameters
    ----------
    path
        A file ending in .mcap, or the name of a bag folder (MCAP file and metadata.yaml).
    topics
        Message type of each image topic; `BagReader.topics`.
    class_names
        Class names of the model.
    qos
        QoS profiles per image topic, for images that are copied; `BagReader.qos`.
    with_images
        Also copy the image messages, unchanged.
    overwrite
        Replace an existing file or bag folder.
    source
        The bag that is read; never overwritten.

    Attributes
    ----------
    detections_topics
        Detections topic of each image topic.

    Raises
    ------
    BagError
        The output exists, is the input, or cannot be written.

    """

    def __init__(
        self,
        path: Path,
        topics: Mapping[str, str],
        class_names: tuple[str, ...],
        *,
        qos: Mapping[str, list[Any]] | None = None,
        with_images: bool = False,
        overwrite: bool = False,
        source: Path | None = None,
    ) -> None:
        self.path = path
        self.detections_topics = dict(
            zip(topics, detections_topics(list(topics)), strict=True)
        )
        self._typestore = load_typestore()
        self._messages = DetectionMessages(class_names)
        self._exit = contextlib.ExitStack()
        check_output(path, source, overwrite=overwrite)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            folder = TemporaryFolder(  # which goes with the process at the latest
                f'.{path.stem}.partial-', path.parent, ignore_cleanup_errors=True
            )
        except OSError as exc:
            raise BagError(f'cannot write {path}: {exc.strerror}') from exc
        self._exit.callback(folder.cleanup)
        self._folder = Path(folder.name)
        self._bag = self._folder / (path.stem if path.suffix == '.mcap' else path.name)
        self._writer = Writer(
            self._bag, version=Writer.VERSION_LATEST, storage_plugin=StoragePlugin.MCAP
        )
        self._writer.open()
        self._open = True
        self._detections = {
            topic: self._writer.add_connection(name, DETECTIONS_TYPE, typestore=self._typestore)
            for topic, name in self.detections_topics.items()
        }
        self._engines: dict[str, Any] = {}
        self._images = {
            topic: self._writer.add_connection(
                topic,
                kind,
                typestore=self._typestore,
                offered_qos_profiles=(qos or {}).get(topic, ()),
            )
            for topic, kind in topics.items()
            if with_images
        }

    def write_image(self, frame: Frame | BadFrame) -> None:
        """Copy the image message, usable or not; does nothing without `with_images`."""
        if frame.source in self._images and frame.message:
            self._write(self._images[frame.source], frame.log_time_ns, frame.message)

    def write_detections(self, frame: Frame, detections: Detections, engine: str = '') -> None:
        """
        Write the detections of a frame, with its header and recording time.

        The engine that found them, if there are several, is written on `engine_topic`.

        """
        message = self._messages.build(frame.stamp_ns, frame.frame_id, detections)
        data = self._typestore.serialize_cdr(message, DETECTIONS_TYPE)
        self._write(self._detections[frame.source], frame.log_time_ns, bytes(data))
        if engine:
            message = self._messages.build_engine(frame.stamp_ns, frame.frame_id, engine)
            data = self._typestore.serialize_cdr(message, ENGINE_TYPE)
            self._write(self._engine_of(frame.source), frame.log_time_ns, bytes(data))

    def close(self) -> None:
        """Finish the bag and give it its name; calling it twice is harmless."""
        if not self._open:
            return
        self._open = False
        with self._exit:
            try:
                self._writer.close()
                if self.path.suffix == '.mcap':
                    os.replace(self._bag / f'{self._bag.name}.mcap', self.path)
                else:
                    if self.path.exists():
                        os.replace(self.path, self._folder / 'replaced')
                    os.replace(self._bag, self.path)
            except OSError as exc:
                raise BagError(f'cannot write {self.path}: {exc.strerror}') from exc

    def discard(self) -> None:
        """Discard the bag; after `close` it does nothing."""
        if self._open:
            self._open = False
            with self._exit:
                self._writer.abort()

    def __enter__(self) -> DetectionBagWriter:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close, or discard after an exception."""
        if kind is None:
            self.close()
        else:
            self.discard()

    def _engine_of(self, topic: str) -> Any:
        if topic not in self._engines:
            name = engine_topic(self.detections_topics[topic])
            self._engines[topic] = self._writer.add_connection(
                name, ENGINE_TYPE, typestore=self._typestore
            )
        return self._engines[topic]

    def _write(self, connection: Any, log_time_ns: int, data: bytes) -> None:
        try:
            self._writer.write(connection, log_time_ns, data)
        except (OSError, WriterError) as exc:
            raise BagError(f'cannot write {self.path}: {exc}') from exc


def _others_in_bag(folder: Path) -> list[str]:
    """Return the entries of a bag folder that are not bag files."""
    return sorted(
        each.name for each in folder.iterdir()
        if not each.is_file()
        or (each.name != 'metadata.yaml' and not _BAG_FILE.search(each.name))
    )


def check_output(path: Path, source: Path | None, *, overwrite: bool) -> None:
    """
    Check that a bag may be written at a path, before any work.

    Raises
    ------
    BagError
        It exists and must not be replaced, is more than a bag, or overlaps with `source`.

    """
    if source is not None and _overlap(path.resolve(), source.resolve()):
        raise BagError(f'the output {path} overlaps with the input bag; choose another name')
    if not path.exists():
        return
    if not overwrite:
        raise BagError(f'{path} exists already; choose another name, or overwrite it with --force')
    if path.is_dir() and (path.suffix == '.mcap' or not (path / 'metadata.yaml').is_file()):
        raise BagError(f'{path} is a folder and not a bag; it is not replaced')
    if path.is_dir() and (others := _others_in_bag(path)):
        raise BagError(
            f'{path} has {others[0]}, which is not part of a bag; move it, or choose another name'
        )
    if path.is_file() and path.suffix != '.mcap':
        raise BagError(f'{path} is a file, but the output is a bag folder; end it in .mcap')


def _overlap(one: Path, other: Path) -> bool:
    """Whether two paths are the same, or one is within the other."""
    return one == other or one in other.parents or other in one.parents
