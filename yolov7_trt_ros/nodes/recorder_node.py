r"""
Records images and their detections into a bag and reports progress as JSON lines.

    python3 -m yolov7_trt_ros.nodes.recorder_node --ros-args -p bag:=out/bag \
        -p images:="['/front/image_raw']" -p detections:="['/front/detections']"

What `yolov7_trt demo` records with where rosbag2 is not installed; on a robot use `ros2 bag
record`. Needs rosbags. One JSON object a line on standard output, four times a second and at the
end: `topics` (messages per topic), `classes` (detections per class and topic), `diagnostics` (the
latest values per status name). Nothing else is written there, and it goes on recording when nobody
reads them any more. Where it cannot write any more, as on a full disk, it says so in
the log and ends with exit status 1; what was written until then stays, without an index.

"""

from __future__ import annotations

import collections
import contextlib
import functools
import json
from pathlib import Path
from typing import Any, TextIO

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from yolov7_trt_ros.errors import BagError
from yolov7_trt_ros.nodes.diagnostics import tell_failures
from yolov7_trt_ros.nodes.own_output import take_stdout
from yolov7_trt_ros.nodes.parameter_spec import (
    declare_parameters,
    ParameterSpec,
    read_parameters,
    SteadyParameters,
)
from yolov7_trt_ros.nodes.running import end_process, run_node
from yolov7_trt_ros.nodes.steady_clock import steady_clock
from yolov7_trt_ros.nodes.topic_names import resolve_topics, TopicName
from yolov7_trt_ros.replay.detection_message import DETECTIONS_TYPE
from yolov7_trt_ros.replay.rosbags_door import (
    COMPRESSED_TYPE,
    IMAGE_TYPE,
    load_typestore,
    StoragePlugin,
    Writer,
    WriterError,
)

_REPORT_PERIOD_S = 0.25

PARAMETERS = (
    ParameterSpec('bag', 'bag', 'Folder to create.', start_only=True),
    ParameterSpec(
        'images', 'image_raw',
        'Image topics: a list, or one text with commas; one that ends in `/compressed` is a '
        'CompressedImage.', start_only=True,
    ),
    ParameterSpec(
        'detections', 'detections', 'Topics of vision_msgs/Detection2DArray, alike.',
        start_only=True,
    ),
)


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
        A parameter cannot be used, or no topic can have that name.
    BagError
        The bag exists already or cannot be created.

    """

    _opened = _writing = False  # nothing to end until the constructor has come so far

    def __init__(self, *, reports: TextIO, **node_arguments: Any) -> None:
        super().__init__('recorder', **node_arguments)
        self._reports: TextIO | None = reports
        declare_parameters(self, PARAMETERS)
        values = read_parameters(self, PARAMETERS)
        images, detections = (
            resolve_topics(self, name, values[name]) for name in ('images', 'detections')
        )
        self._messages: collections.Counter[str] = collections.Counter()
        self._classes: dict[str, collections.Counter[str]] = {}
        self._diagnostics: dict[str, dict[str, str]] = {}
        self._folder = Path(values['bag']).expanduser()
        try:
            self._writer = Writer(
                self._folder, version=Writer.VERSION_LATEST, storage_plugin=StoragePlugin.MCAP
            )
            self._writer.open()
        except (OSError, WriterError) as exc:
            raise BagError(f'bag cannot be created: {exc}; choose another folder') from exc
        self._opened = self._writing = True
        for topic in images:
            compressed = topic.full.endswith('/compressed')
            self._record(
                topic,
                CompressedImage if compressed else Image,
                COMPRESSED_TYPE if compressed else IMAGE_TYPE,
                ReliabilityPolicy.BEST_EFFORT,
            )
        for topic in detections:
            self._classes[topic.full] = collections.Counter()
            self._record(topic, Detection2DArray, DETECTIONS_TYPE, ReliabilityPolicy.RELIABLE)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self.create_timer(_REPORT_PERIOD_S, self.report, clock=steady_clock())
        tell_failures(self)

    def destroy_node(self) -> None:
        """Finish the bag, report a last time, and destroy the node."""
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
        })
        try:
            print(line, file=self._reports, flush=True)
        except OSError as exc:
            self._reports = None
            self.get_logger().warning(f'no reports any more, for they cannot be written: {exc}')

    def _record(
        self, topic: TopicName, kind: Any, name: str, reliability: ReliabilityPolicy
    ) -> None:
        connection = self._writer.add_connection(topic.full, name, typestore=load_typestore())
        self.create_subscription(
            kind,
            topic.asked,
            functools.partial(self._on_message, topic.full, connection),
            QoSProfile(depth=10, reliability=reliability),
            raw=True,
        )

    def _on_message(self, topic: str, connection: Any, data: bytes) -> None:
        if not self._writing:
            return
        try:
            self._writer.write(connection, self.get_clock().now().nanoseconds, data)
        except OSError as exc:
            self._give_up(exc)
            return
        self._messages[topic] += 1
        if topic in self._classes:
            message = deserialize_message(data, Detection2DArray)
            self._classes[topic].update(
                each.results[0].hypothesis.class_id for each in message.detections if each.results
            )

    def _give_up(self, error: OSError) -> None:
        """End the process, for nothing more can be written."""
        self._writing = False
        with contextlib.suppress(OSError):  # it tries to write what it still has
            self._writer.abort()
        self.get_logger().fatal(
            f'cannot record any more into {self._folder}: {error}; make room, or record elsewhere'
        )
        end_process(self, 1)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._diagnostics[status.name] = {
                'message': status.message, **{pair.key: pair.value for pair in status.values}
            }


def main(args: list[str] | None = None) -> int:
    """Record until told to stop; returns the exit code."""
    return run_node(
        'recorder', lambda: RecorderNode(reports=take_stdout()), args, about=__doc__,
        table=PARAMETERS,
    )


if __name__ == '__main__':
    raise SystemExit(main())
