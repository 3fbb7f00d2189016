"""BagPlayer: play the image topics of a bag in recorded time, like `ros2 bag play`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import time

from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import InputError, SettingError
from yolov7_trt_ros.nodes.steady_clock import steady_clock
from yolov7_trt_ros.nodes.tools.source_end import end_with_source, end_without_source
from yolov7_trt_ros.replay.bags.bag_reader import BagReader
from yolov7_trt_ros.replay.bags.rosbags_adapter import COMPRESSED_TYPE, IMAGE_TYPE
from yolov7_trt_ros.replay.file_kinds import kind_of
from yolov7_trt_ros.replay.frames import BadFrame, Frame

_TYPES = {IMAGE_TYPE: Image, COMPRESSED_TYPE: CompressedImage}
_CLOCK_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""As rclcpp::ClockQoS, which rosbag2 and rclpy use."""
_CLOCK_PERIOD_NS = NS_PER_S // 40  # as `ros2 bag play --clock`
_DEPTH = 10
_POLL_NS = NS_PER_S // 50
_ACKNOWLEDGED_S = 5
_LAST_STAMP_NS = (2**31 - 1) * NS_PER_S  # seconds of a stamp are an int32


class BagPlayer:
    """
    Publishes every image message of a bag unchanged, under its own topic, until the bag ends.

    Messages keep the order and distances of the recording; delays are caught up. Broken messages
    of a camera are played too, damaged parts of the file are skipped. The process ends after the
    last message, when reliable subscribers have received it; with exit status 1 if the bag cannot
    be read any more.

    Parameters
    ----------
    node
        Node whose executor plays; its remappings apply to the topics.
    source
        Bag folder or file.
    rate
        Speed factor; 0 does not wait between messages.
    clock
        Publish the time of recording on `/clock`: before each message, and 40 times a second in
        between, unless `rate` is 0.
    reliable
        Reliability of the image topics.
    wait_for_subscribers
        Begin when each topic, `/clock` included, has a subscriber.

    Raises
    ------
    SettingError
        The source is no bag.
    InputError
        It cannot be read, or holds no images.

    """

    def __init__(
        self,
        node: Node,
        source: Path,
        *,
        rate: float,
        clock: bool,
        reliable: bool,
        wait_for_subscribers: bool,
    ) -> None:
        if kind_of(source) != 'bag':
            raise SettingError(f'stamps:=original needs a bag, got {source}')
        reader = BagReader(source)
        self._node, self._logger = node, node.get_logger()
        for warning in reader.warnings:
            self._logger.warning(warning)
        self._items = self._messages(reader)
        self._next = next(self._items, None)
        if self._next is None:
            raise InputError(f'source {source} holds no frames')
        self._rate = rate
        self._bag_ns = self._first_ns = self._next.log_time_ns
        self._started_ns: int | None = None
        profile = QoSProfile(
            depth=_DEPTH,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        )
        self._images = {
            topic: node.create_publisher(_TYPES[kind], topic, profile)
            for topic, kind in reader.topics.items()
        }
        self._clock = node.create_publisher(Clock, '/clock', _CLOCK_QOS) if clock else None
        self._awaited = [*self._images.values(), *filter(None, [self._clock])]
        if not wait_for_subscribers:
            self._awaited = []
        self.published = 0
        # It has to run before there is a /clock, and with use_sim_time too.
        self._timer = node.create_timer(0.0, self._on_timer, clock=steady_clock())

    def _messages(self, reader: BagReader) -> Iterator[Frame | BadFrame]:
        for item in reader:
            if item.message:
                yield item
            elif isinstance(item, BadFrame):
                self._logger.warning(f'passed over: {item.error}')

    def _on_timer(self) -> None:
        """Publish one message or wait for it; the executor runs other callbacks in between."""
        if self._next is None:
            self._end()
        elif not all(publisher.get_subscription_count() for publisher in self._awaited):
            self._sleep(_POLL_NS)
        elif (wait_ns := self._wait_ns(self._next.log_time_ns)) > 0:
            self._sleep(min(wait_ns, _CLOCK_PERIOD_NS))
        else:
            self._publish_clock(self._next.log_time_ns)
            self._images[self._next.source].publish(self._next.message)
            self.published += 1
            self._sleep(0)
            self._read_next()

    def _read_next(self) -> None:
        try:
            self._next = next(self._items, None)
        except InputError as exc:
            end_without_source(self._node, self._timer, self.published, exc)

    def _wait_ns(self, log_time_ns: int) -> int:
        """Return the real nanoseconds until a time of the bag; publish the present bag time."""
        if not self._rate:
            return 0
        now_ns = time.monotonic_ns()
        if self._started_ns is None:
            self._started_ns = now_ns
        bag_ns = self._first_ns + round((now_ns - self._started_ns) * self._rate)
        if bag_ns >= log_time_ns:
            return 0
        self._publish_clock(bag_ns)
        return max(1, round((log_time_ns - bag_ns) / self._rate))

    def _publish_clock(self, bag_ns: int) -> None:
        """Publish the time, which never goes back, even if the bag is not in order."""
        self._bag_ns = max(self._bag_ns, bag_ns)
        if self._clock is not None:
            sec, nanosec = divmod(max(0, min(self._bag_ns, _LAST_STAMP_NS)), NS_PER_S)
            self._clock.publish(Clock(clock=Time(sec=sec, nanosec=nanosec)))

    def _sleep(self, wait_ns: int) -> None:
        self._timer.timer_period_ns = wait_ns
        self._timer.reset()

    def _end(self) -> None:
        for publisher in self._images.values():
            publisher.wait_for_all_acked(Duration(seconds=_ACKNOWLEDGED_S))
        end_with_source(self._node, self.published)
