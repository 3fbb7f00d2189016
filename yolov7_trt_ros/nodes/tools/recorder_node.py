r"""
Record images and their detections into a bag; report progress as JSON lines.

    python3 -m yolov7_trt_ros.nodes.tools.recorder_node --ros-args -p bag:=out/bag \
        -p images:="['/front/image_raw']" -p detections:="['/front/detections']"

`yolov7_trt demo` uses it if rosbag2 is not installed; on a robot use `ros2 bag record`. Needs
rosbags. It writes one JSON object per line to standard output, four times a second and at the end:
`topics` (messages per topic), `classes` (detections per class and topic), `diagnostics` (the
latest values per status name). Nothing else is written there; recording continues if nobody reads
it.
If it cannot write the bag any more, for example because the disk is full, it logs that and ends
with exit status 1; the part written so far stays, without an index.

With `drawn`, it also makes a video and pictures of each camera with the boxes drawn in; the JSON
contains their number of frames.

"""

from __future__ import annotations

import array
import collections
from collections.abc import Iterable, Mapping, Sequence
import contextlib
import functools
import itertools
import json
import time
import types
from typing import Any, TextIO

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from yolov7_trt_ros.core.messages.image_message import view_message
from yolov7_trt_ros.core.messages.serialized_image import read_image, read_stamp_ns
from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.core.preprocess import to_bgr
from yolov7_trt_ros.core.topics import detections_topics
from yolov7_trt_ros.errors import BagError, ImageError, SettingError
from yolov7_trt_ros.home_folder import expand_home
from yolov7_trt_ros.nodes.diagnostics import publish_failures
from yolov7_trt_ros.nodes.parameter_spec import (
    declare_parameters,
    ParameterSpec,
    read_parameters,
    SteadyParameters,
)
from yolov7_trt_ros.nodes.process.node_main import end_process, run_node
from yolov7_trt_ros.nodes.process.own_output import take_stdout
from yolov7_trt_ros.nodes.steady_clock import steady_clock
from yolov7_trt_ros.nodes.tools.drawn_camera import DrawnCamera
from yolov7_trt_ros.nodes.topic_names import first_repeated, resolve_topics, TopicName
from yolov7_trt_ros.replay.bags.detection_message import DETECTIONS_TYPE
from yolov7_trt_ros.replay.bags.rosbags_adapter import (
    COMPRESSED_TYPE,
    IMAGE_TYPE,
    load_typestore,
    StoragePlugin,
    Writer,
    WriterError,
)

_REPORT_PERIOD_S = 0.25
_MOST_NAMES = 1000
"""Maximum number of statuses, of their values, and of classes of a topic, in a report."""
_MORE_CLASSES = '(more classes)'

PARAMETERS = (
    ParameterSpec('bag', 'bag', 'Folder to create.', start_only=True),
    ParameterSpec(
        'images', 'image_raw',
        'Image topics: a list, or one string with commas. One that ends in `/compressed` is a '
        'CompressedImage.', start_only=True,
    ),
    ParameterSpec(
        'detections', 'detections',
        'Topics of vision_msgs/Detection2DArray: a list, or one string with commas.',
        start_only=True,
    ),
    ParameterSpec(
        'compress', False,
        'Record raw images as JPEG, under TOPIC/compressed, at about a tenth of the size.',
        start_only=True,
    ),
    ParameterSpec(
        'drawn', '', 'Folder for a video and pictures of each camera with its boxes, named like '
        'the namespace of its image topic, with `_` for `/`; the two lists belong together. '
        'Empty: none.',
        start_only=True,
    ),
    ParameterSpec(
        'rate_hz', 15.0, 'Frames per second of these videos.', minimum=0.1, maximum=1000.0,
        start_only=True,
    ),
)
_JPEG_QUALITY = 80


class RecorderNode(SteadyParameters):
    """
    Writes messages as they arrive, their bytes unchanged.

    `PARAMETERS` are those of the node, fixed at start.

    Parameters
    ----------
    reports
        Where the JSON lines go.
    node_arguments
        For Node.

    Raises
    ------
    SettingError
        A parameter cannot be used, no topic can have that name, or two would have the same one
        in the bag.
    BagError
        The bag exists already or cannot be created.

    """

    _opened = _writing = False  # nothing to end until the constructor has come so far
    _drawn: Mapping[str, DrawnCamera] = types.MappingProxyType({})

    def __init__(self, *, reports: TextIO, **node_arguments: Any) -> None:
        super().__init__('recorder', **node_arguments)
        self._reports: TextIO | None = reports
        declare_parameters(self, PARAMETERS)
        values = read_parameters(self, PARAMETERS)
        images, detections = (
            resolve_topics(self, name, values[name]) for name in ('images', 'detections')
        )
        self._compress = bool(values['compress'])
        self._check_topics(images, detections)
        drawn = _drawn_names(images, detections) if values['drawn'] else []
        self._messages: collections.Counter[str] = collections.Counter()
        self._classes: dict[str, collections.Counter[str]] = {}
        self._diagnostics: dict[str, dict[str, str]] = {}
        self._diagnostics_at_s = 0.0
        self._folder = expand_home(values['bag'])
        try:
            self._writer = Writer(
                self._folder, version=Writer.VERSION_LATEST, storage_plugin=StoragePlugin.MCAP
            )
            self._writer.open()
        except (OSError, WriterError) as exc:
            raise BagError(f'bag cannot be created: {exc}; choose another folder') from exc
        self._opened = self._writing = True
        self._drawn = self._open_drawn(values, drawn, images, detections)
        for topic in images:
            self._record_images(topic)
        for topic in detections:
            self._classes[topic.full] = collections.Counter()
            self._record(
                topic, Detection2DArray, self._on_detections, ReliabilityPolicy.RELIABLE,
                self._connect(topic.full, DETECTIONS_TYPE),
            )
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self.create_timer(_REPORT_PERIOD_S, self.report, clock=steady_clock())
        publish_failures(self)

    def destroy_node(self) -> None:
        """Finish bag and videos, write the last report, and destroy the node."""
        for camera in set(self._drawn.values()):
            camera.close()
        if self._writing:
            try:
                self._writer.close()
            except OSError as exc:
                self._give_up(exc)
        if self._opened:
            self.report()
        super().destroy_node()

    def report(self) -> None:
        """Write one JSON line."""
        if self._reports is None:
            return
        line = json.dumps({
            'topics': self._messages,
            'classes': self._classes,
            'diagnostics': self._diagnostics,
            'diagnostics_at_s': self._diagnostics_at_s,
            'drawn': {topic: camera.record() for topic, camera in self._drawn.items()},
        })
        try:
            print(line, file=self._reports, flush=True)
        except OSError as exc:
            self._reports = None
            self.get_logger().warning(f'no more reports, because they cannot be written: {exc}')

    def _check_topics(self, images: Sequence[TopicName], detections: Sequence[TopicName]) -> None:
        """Check that each topic is recorded once, and under a name of its own."""
        recorded = [topic.full for topic in (*images, *detections)]
        in_bag = [*map(self._name_in_bag, images), *(topic.full for topic in detections)]
        for names in (recorded, in_bag):
            twice = first_repeated(names)
            if twice is not None:
                raise SettingError(
                    f'images and detections must name different topics, and {twice} would be in '
                    'the bag twice'
                )

    def _name_in_bag(self, topic: TopicName) -> str:
        as_jpeg = self._compress and not _is_compressed(topic)
        return f'{topic.full}/compressed' if as_jpeg else topic.full

    def _open_drawn(
        self, values: dict[str, Any], names: Sequence[str], images: Sequence[TopicName],
        detections: Sequence[TopicName],
    ) -> dict[str, DrawnCamera]:
        """Return the cameras to draw, by image topic and by detections topic."""
        drawn: dict[str, DrawnCamera] = {}
        class_ids: dict[str, int] = {}
        for name, image, found in zip(names, images, detections, strict=False):
            drawn[image.full] = drawn[found.full] = DrawnCamera(
                expand_home(values['drawn']), name, values['rate_hz'],
                compressed=_is_compressed(image), class_ids=class_ids,
            )
        return drawn

    def _connect(self, topic: str, kind: str) -> Any:
        return self._writer.add_connection(topic, kind, typestore=load_typestore())

    def _record_images(self, topic: TopicName) -> None:
        """Record an image topic: as it is, or raw images as JPEG."""
        best_effort = ReliabilityPolicy.BEST_EFFORT
        if _is_compressed(topic):
            connection = self._connect(topic.full, COMPRESSED_TYPE)
            self._record(topic, CompressedImage, self._on_image, best_effort, connection)
        elif self._compress:
            connection = self._connect(self._name_in_bag(topic), COMPRESSED_TYPE)
            self._record(topic, Image, self._on_raw_image, best_effort, connection)
        else:
            connection = self._connect(topic.full, IMAGE_TYPE)
            self._record(topic, Image, self._on_image, best_effort, connection)

    def _record(
        self, topic: TopicName, kind: Any, callback: Any, reliability: ReliabilityPolicy,
        connection: Any,
    ) -> None:
        self.create_subscription(
            kind, topic.asked, functools.partial(callback, topic.full, connection),
            QoSProfile(depth=10, reliability=reliability), raw=True,
        )

    def _on_image(self, topic: str, connection: Any, data: bytes) -> None:
        self._write(topic, connection, data)
        if topic in self._drawn:
            self._drawn[topic].add_image(read_stamp_ns(data), data)

    def _on_raw_image(self, topic: str, connection: Any, data: bytes) -> None:
        try:
            packed = jpeg_message(data)
        except (ImageError, cv2.error) as exc:
            self.get_logger().warning(f'{topic}: an image is not recorded: {exc}')
            return
        self._write(topic, connection, packed)
        if topic in self._drawn:
            self._drawn[topic].add_image(read_stamp_ns(data), data)

    def _on_detections(self, topic: str, connection: Any, data: bytes) -> None:
        self._write(topic, connection, data)
        message = deserialize_message(data, Detection2DArray)
        self._count_classes(
            self._classes[topic],
            (each.results[0].hypothesis.class_id for each in message.detections if each.results),
        )
        if topic in self._drawn:
            self._drawn[topic].add_detections(message)

    def _count_classes(self, counts: collections.Counter[str], names: Iterable[str]) -> None:
        for name in (one_line(each) for each in names):
            known = name in counts or len(counts) < _MOST_NAMES
            counts[name if known else _MORE_CLASSES] += 1

    def _write(self, topic: str, connection: Any, data: bytes) -> None:
        if not self._writing:
            return
        try:
            self._writer.write(connection, self.get_clock().now().nanoseconds, data)
        except OSError as exc:
            self._give_up(exc)
            return
        self._messages[topic] += 1

    def _give_up(self, error: OSError) -> None:
        """End the process because nothing more can be written."""
        self._writing = False
        with contextlib.suppress(OSError):  # it tries to write what it still has
            self._writer.abort()
        self.get_logger().fatal(
            f'cannot continue to record into {self._folder}: {error}; free space, '
            'or record elsewhere'
        )
        end_process(self, 1)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self._diagnostics_at_s = time.time()
        for status in message.status:
            name = one_line(status.name)
            self._diagnostics.pop(name, None)  # the latest is the last
            self._diagnostics[name] = {'message': one_line(status.message)} | {
                one_line(pair.key): one_line(pair.value)
                for pair in itertools.islice(status.values, _MOST_NAMES)
            }
        while len(self._diagnostics) > _MOST_NAMES:
            del self._diagnostics[next(iter(self._diagnostics))]


def _drawn_names(images: Sequence[TopicName], detections: Sequence[TopicName]) -> list[str]:
    """Return the name of each camera's video: its namespace, or its topic if that is shared."""
    if len(images) != len(detections):
        raise SettingError(
            f'drawn needs a topic of detections for each of images, got {len(images)} of images '
            f'and {len(detections)} of detections'
        )
    topics = [topic.full for topic in images]
    spaces = [each.rpartition('/')[0] for each in detections_topics(topics)]
    names = [
        (space or topic).strip('/').replace('/', '_')
        for space, topic in zip(spaces, topics, strict=True)
    ]
    twice = first_repeated(names)
    if twice is not None:
        raise SettingError(f'drawn: the videos of two image topics would be {twice}.mp4')
    return names


def _is_compressed(topic: TopicName) -> bool:
    return bool(topic.full.endswith('/compressed'))


def jpeg_message(data: bytes) -> bytes:
    """
    Return a serialised sensor_msgs/Image as a serialised CompressedImage.

    Raises
    ------
    ImageError
        The message cannot be read, or not shown as a colour image.

    """
    raw = read_image(data)
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    _, jpeg = cv2.imencode('.jpg', to_bgr(view_message(raw)), quality)
    message = CompressedImage(
        format=f'{raw.encoding}; jpeg compressed bgr8', data=array.array('B', jpeg.tobytes())
    )
    message.header.frame_id = raw.header.frame_id
    message.header.stamp.sec, message.header.stamp.nanosec = raw.header.sec, raw.header.nanosec
    return bytes(serialize_message(message))


def main(args: list[str] | None = None) -> int:
    """Record until stopped; return the exit code."""
    return run_node(
        'recorder', lambda: RecorderNode(reports=take_stdout()), args, about=__doc__,
        table=PARAMETERS,
    )


if __name__ == '__main__':
    raise SystemExit(main())
