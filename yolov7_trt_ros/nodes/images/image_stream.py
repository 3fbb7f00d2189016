"""ImageStream: one image topic of the node: its subscription, checks and publishers."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import sys
import threading
import time
from typing import Any, Protocol

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, VisionInfo

from yolov7_trt_ros.core.cameras.state import WatchLimits
from yolov7_trt_ros.core.cameras.watch import CameraWatch
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.messages.serialized_image import PackedImage, RawImage
from yolov7_trt_ros.core.topics import engine_topic
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.nodes import qos
from yolov7_trt_ros.nodes.images.annotations import ANNOTATIONS, load_messages
from yolov7_trt_ros.nodes.images.frame_gate import FrameGate
from yolov7_trt_ros.nodes.images.frame_statistics import Counts, RateLimit, TopicStatistics
from yolov7_trt_ros.nodes.images.on_demand_publisher import OnDemandPublisher
from yolov7_trt_ros.nodes.images.subscription_renewal import RenewalPauses
from yolov7_trt_ros.nodes.images.topic_plan import StreamNames
from yolov7_trt_ros.nodes.process.process_setup import transport_advice

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

NO_EVENTS = SubscriptionEventCallbacks(use_default_callbacks=False)
"""For subscriptions whose QoS events the executor does not wait for."""

_UNKNOWN_LOSS = 2**31 - 1
_SILENCE_NS = 3 * NS_PER_S
_WARN_PERIOD_S = 10.0


class ReceivedMessage(Protocol):
    """An image message, received through rclpy or below it."""

    @property
    def stamp_ns(self) -> int:
        """Return the header stamp in nanoseconds; 0 if the header cannot be read."""

    @property
    def size_bytes(self) -> int:
        """Return the size of the message."""

    def read(self) -> RawImage | PackedImage:
        """Return its fields, the pixels not copied; ImageError if it is damaged."""


@dataclasses.dataclass(frozen=True)
class ReceivedFrame:
    """An image message for the worker."""

    stream: ImageStream
    """Its stream; a newer stream may have the same topic by now."""
    message: ReceivedMessage
    received_ns: int
    """Time of arrival in this process; monotonic nanoseconds."""
    transport_ns: int | None
    """From header stamp to arrival on the node's clock; None if the stamp is unusable."""


class ImageReceiver(Protocol):
    """
    Receives images, seen from the executor's thread: `PushedImages` or `PulledImages`.

    The worker's thread takes the frames from it as `FrameSource`.

    """

    def subscribe(self, stream: ImageStream, choice: qos.StreamChoice) -> Any:
        """Subscribe to the images of a stream; return the argument for `unsubscribe`."""

    def unsubscribe(self, subscription: Any) -> None:
        """End a subscription."""

    def forget(self, topic: str) -> list[ReceivedFrame]:
        """Drop and return the waiting frames of a removed topic."""

    def has_mismatched(self, topic: str) -> bool:
        """Whether a publisher with incompatible QoS appeared since the last call."""

    def waits(self, topic: str) -> bool:
        """Whether a message of a topic waits that is not counted yet."""

    def known_until_ns(self) -> int:
        """Return until when arrivals are known; monotonic nanoseconds."""

    def give(self, frame: ReceivedFrame) -> None:
        """Pass a held frame to the worker, before others."""

    def wake(self) -> None:
        """Make the worker check again from which topics to take frames."""


@dataclasses.dataclass(frozen=True)
class StreamLimits:
    """Which messages of a stream are accepted, and when its camera is faulty."""

    max_rate_hz: float = 0.0
    """Images per second; 0: no limit."""
    max_message_bytes: int = sys.maxsize
    watch: WatchLimits = WatchLimits()
    """Limits beyond which the camera counts as faulty."""


class ImageStream:
    """
    One image topic and its outputs.

    The subscription follows what the publishers offer (`sync_with_publishers`, called about once a
    second by the executor) and is recreated when message type or reliability must change.

    Parameters
    ----------
    node
        The lifecycle node, in the executor's thread.
    names
        Of its topics.
    image_transport, image_qos
        The parameters of that name.
    on_error
        Called with one line for each message that cannot become a frame.
    annotates
        Whether annotations are published; SettingError if their messages are missing.
    names_engines
        Whether the engine of each frame is published.

    """

    def __init__(
        self, node: LifecycleNode, names: StreamNames, *, image_transport: str, image_qos: str,
        on_error: Callable[[str], None], annotates: bool = False, names_engines: bool = False,
    ) -> None:
        self._node, self.names, self._annotates = node, names, annotates
        self._names_engines = names_engines
        self.topic = names.image.full
        self.statistics = TopicStatistics()
        self._detections: Any = None  # the publishers, while the stream is open
        self._overlay: OnDemandPublisher | None = None
        self._annotations: OnDemandPublisher | None = None
        self._engine: OnDemandPublisher | None = None
        self._lock = threading.Lock()  # no publishing during destruction
        self.problem = ''
        self.limits = StreamLimits()
        self._transport, self._qos, self._on_error = image_transport, image_qos, on_error
        self._receiver: ImageReceiver | None = None
        self.rate_limit = RateLimit()
        self.watch = CameraWatch()
        self.gate: FrameGate[ReceivedFrame] = FrameGate()
        self.size_wh: tuple[int, int] | None = None  # of the latest image
        self._choice: qos.StreamChoice | None = None
        self._subscription: Any = None
        self._published_since_ns: int | None = None
        self._received_before = 0
        self._pauses = RenewalPauses()

    def open_publishers(self) -> None:
        """Make the publishers; also again after `destroy`."""
        self._detections = self._node.create_publisher(
            Detection2DArray, self.names.detections.asked, qos.DETECTIONS
        )
        self._overlay = OnDemandPublisher(
            self._node, Image, self.names.overlay.asked, qos.OVERLAY
        )
        if self._annotates:
            self._annotations = OnDemandPublisher(
                self._node, load_messages().ImageAnnotations,
                f'{self.names.detections.full}/{ANNOTATIONS}', qos.OVERLAY,
            )
        if self._names_engines:
            self._engine = OnDemandPublisher(
                self._node, VisionInfo, engine_topic(self.names.detections.full), qos.DETECTIONS
            )

    def subscribe(self, receiver: ImageReceiver) -> None:
        """Subscribe; frames come in through `receiver`."""
        self._receiver = receiver
        self.sync_with_publishers()

    def close(self) -> None:
        """Unsubscribe; publishers stay."""
        if self._subscription is not None and self._receiver is not None:
            self._receiver.unsubscribe(self._subscription)
        self._subscription, self._choice = None, None
        self.gate.forget()
        self._published_since_ns = None

    def destroy(self) -> None:
        """Unsubscribe and destroy the publishers; later messages are dropped."""
        detections = self.release()
        if detections is not None:
            self._node.destroy_publisher(detections)

    def release(self) -> Any:
        """
        Do what `destroy` does, but return the publisher of detections for later destruction.

        Subscribers lose what they have not read yet when a publisher is destroyed.

        """
        self.close()
        with self._lock:
            detections, self._detections = self._detections, None
        for publisher in filter(None, (self._overlay, self._annotations, self._engine)):
            publisher.destroy()
        return detections

    def publish(self, message: Detection2DArray | bytes) -> bool:
        """Publish detections, also serialised; any thread. False: the stream was destroyed."""
        with self._lock:
            if self._detections is not None:
                self._detections.publish(message)
            return self._detections is not None

    def publish_overlay(self, make: Callable[[], Image]) -> None:
        """Publish what `make` returns, if there are subscribers; from any thread."""
        if self._overlay is not None:
            self._overlay.publish(make)

    def publish_annotations(self, make: Callable[[], Any]) -> None:
        """Publish what `make` returns, if annotations are on and have subscribers."""
        if self._annotations is not None:
            self._annotations.publish(make)

    def publish_engine(self, make: Callable[[], VisionInfo]) -> None:
        """Publish what `make` returns, if there are several engines, and subscribers."""
        if self._engine is not None:
            self._engine.publish(make)

    def sync_with_publishers(self) -> None:
        """Match type and reliability to the publishers; note why no images arrive."""
        publishers = self._find_publishers()
        choice = qos.choose_stream(
            self.topic, publishers, image_transport=self._transport, image_qos=self._qos
        )
        if self._choice is None or (publishers and choice != self._choice):
            self._subscribe(choice)
            self._log_subscribed(choice)
        if self._receiver is not None and self._receiver.has_mismatched(self.topic):
            self._warn_of_mismatch()
        self.problem = self._find_problem(publishers)
        if self.problem:
            self._node.get_logger().warning(
                self.problem, throttle_duration_sec=_WARN_PERIOD_S
            )

    def _find_publishers(self) -> list[Any]:
        return list(self._node.get_publishers_info_by_topic(self.names.image.asked))

    def _subscribe(self, choice: qos.StreamChoice) -> None:
        self.close()
        assert self._receiver is not None  # set by subscribe
        self._subscription = self._receiver.subscribe(self, choice)
        self._choice = choice

    def events(self) -> SubscriptionEventCallbacks:
        """Return the callbacks for the QoS events of a subscription."""
        return SubscriptionEventCallbacks(
            message_lost=self._on_lost,
            incompatible_qos=lambda event: self._warn_of_mismatch(),
        )

    def _log_subscribed(self, choice: qos.StreamChoice) -> None:
        self._node.get_logger().info(
            f'{self.topic}: subscribed to {choice.transport} images, '
            f'{"reliable" if choice.reliable else "best effort"}'
        )

    def _find_problem(self, publishers: list[Any]) -> str:
        """Return why no images arrive, '' if they do or nobody publishes."""
        now_ns = time.monotonic_ns()
        received = self.counts().received
        if not publishers or received != self._received_before:
            self._received_before = received
            self._published_since_ns = now_ns
            self._pauses.reset()
            return ''
        if self._published_since_ns is None:
            self._published_since_ns = now_ns
        wrong_type = qos.describe_wrong_type(self.topic, publishers)
        if wrong_type:
            return wrong_type
        if now_ns - self._published_since_ns < _SILENCE_NS:
            return ''
        if self._qos == 'reliable' and not all(
            info.qos_profile.reliability == ReliabilityPolicy.RELIABLE for info in publishers
        ):
            return qos.describe_mismatch(self.topic, publishers)
        silent_ns = now_ns - self._published_since_ns
        self._renew(silent_ns)
        return (
            f'{self.topic} has a publisher, but no image has arrived for '
            f'{silent_ns / NS_PER_S:.0f} s: it is silent, or its images are lost in transport. '
            f'{transport_advice()}'
        )

    def _renew(self, silent_ns: int) -> None:
        """Recreate a best-effort subscription from time to time if it may be dead."""
        choice, since_ns = self._choice, self._published_since_ns
        if choice is None or choice.reliable or not self._pauses.is_due(silent_ns):
            return
        self._subscribe(choice)
        self._published_since_ns = since_ns
        self.statistics.count('renewed')

    def accept(
        self, message: ReceivedMessage, arrived_ns: int, waited_ns: int = 0
    ) -> ReceivedFrame | None:
        """
        Return a message that was counted as received as a frame, from any one thread.

        Parameters
        ----------
        message
            As it came.
        arrived_ns, waited_ns
            When it arrived, in monotonic nanoseconds, and how long that is ago.

        Returns
        -------
        ReceivedFrame or None
            None where rate or size forbid it, which is counted.

        """
        try:
            gated = self.gate.decides
            if not gated and not self.rate_limit.admits(arrived_ns, self.limits.max_rate_hz):
                self.statistics.count('skipped')
                return None
            if message.size_bytes > self.limits.max_message_bytes:
                self.statistics.count('failed')
                reason = (
                    f'a message of {message.size_bytes} bytes, the limit max_message_bytes is '
                    f'{self.limits.max_message_bytes}'
                )
                self.report_error(reason)
                self.gate.report(f'failed: {reason}')
                return None
            clock_ns, stamp_ns = self._clock_ns(), message.stamp_ns
            self.watch.note_stamp(stamp_ns, clock_ns - waited_ns, arrived_ns)
            age_ns = _usable_age(clock_ns, stamp_ns)
        except BaseException:
            self.statistics.count('failed')  # otherwise the frame would stay in work for ever
            raise
        transport_ns = None if age_ns is None else max(0, age_ns - waited_ns)
        frame = ReceivedFrame(self, message, arrived_ns, transport_ns)
        if gated and not self.gate.admits(frame):
            self.statistics.count('skipped')
            return None
        return frame

    def ask(self, on_result: Callable[[str], None]) -> None:
        """Request detection in the newest frame, even if the gate is closed; report the result."""
        held, receiver = self.gate.ask(on_result), self._receiver
        if receiver is None:
            return
        if held is None:
            receiver.wake()
            return
        self.statistics.count('skipped', -1)  # it was counted before
        receiver.give(held)

    def has_listeners(self, *, overlay: bool) -> bool:
        """Whether the detections, or with `overlay` the overlay, have subscribers."""
        with self._lock:
            if self._detections is not None and self._detections.get_subscription_count():
                return True
        drawn = (self._overlay if overlay else None, self._annotations)
        return any(each is not None and each.has_subscribers for each in drawn)

    def note_picture(self, image: ImageView, received_ns: int) -> None:
        """Check whether an image shows anything; for the worker's thread."""
        self.size_wh = image.size_wh
        self.watch.note_picture(image, self.limits.watch, received_ns)

    def counts(self) -> Counts:
        """Return the counters; a waiting message counts as received."""
        waits = self._receiver is not None and self._receiver.waits(self.topic)
        return self.statistics.counts() + Counts(received=int(waits))

    def known_until_ns(self) -> int:
        """Return until when the counters are complete; monotonic nanoseconds."""
        if self._receiver is None:
            return time.monotonic_ns()
        return self._receiver.known_until_ns()

    def report_error(self, reason: str) -> None:
        """Report why a message cannot become a frame."""
        self._on_error(f'{self.topic}: {reason}')

    def age_ns(self, stamp_ns: int) -> int | None:
        """Return the nanoseconds since a stamp on the node's clock; None if it is unusable."""
        return _usable_age(self._clock_ns(), stamp_ns)

    def _clock_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _on_lost(self, event: Any) -> None:
        self.note_lost(known_loss(event.total_count_change))

    def note_lost(self, count: int) -> None:
        """Count messages that the middleware reports as lost, and warn; from any thread."""
        self.statistics.count('lost', count)
        if not count:
            return
        self._node.get_logger().warning(
            f'{self.topic}: {self.statistics.counts().lost} image(s) lost in transport. '
            f'{transport_advice()}',
            throttle_duration_sec=_WARN_PERIOD_S,
        )

    def _warn_of_mismatch(self) -> None:
        publishers = self._find_publishers()
        self._node.get_logger().warning(qos.describe_mismatch(self.topic, publishers))


def _usable_age(clock_ns: int, stamp_ns: int) -> int | None:
    age_ns = clock_ns - stamp_ns
    return age_ns if stamp_ns and 0 <= age_ns < 60 * NS_PER_S else None


def known_loss(change: int) -> int:
    """
    Return how many messages an event of the middleware says were lost.

    Fast DDS counts a gap whose length it does not know as 2**31 - 1 messages, as when a publisher
    was killed in the middle of one.

    """
    return change % _UNKNOWN_LOSS
