"""PushedImages: keep images from rclpy callbacks in slots for the worker."""

from __future__ import annotations

from functools import partial
import time
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile

from yolov7_trt_ros.core.messages.serialized_image import SerializedImage
from yolov7_trt_ros.nodes import qos
from yolov7_trt_ros.nodes.below_rclpy.direct_take import TYPES
from yolov7_trt_ros.nodes.images.frame_slots import FrameSlots
from yolov7_trt_ros.nodes.images.image_stream import ImageStream, ReceivedFrame

_DEPTH = 5
"""Large enough to count the frames of a short stall, small enough for fresh frames."""


class PushedImages(FrameSlots[ReceivedFrame]):
    """
    Slots for image messages, which callbacks of the executor receive as bytes.

    Parameters
    ----------
    node
        The lifecycle node.

    """

    def __init__(self, node: LifecycleNode) -> None:
        super().__init__()
        self._node = node

    def subscribe(self, stream: ImageStream, choice: qos.StreamChoice) -> Any:
        """Subscribe; return the argument for `unsubscribe`."""
        profile: QoSProfile = choice.profile(_DEPTH)
        return self._node.create_subscription(
            TYPES[choice.transport], stream.names.image.asked,
            partial(self._on_image, stream, choice.transport == qos.COMPRESSED), profile,
            raw=True, event_callbacks=stream.events(),
        )

    def unsubscribe(self, subscription: Any) -> None:
        """Destroy a subscription."""
        self._node.destroy_subscription(subscription)

    def has_mismatched(self, topic: str) -> bool:
        """Return False: a callback of the stream reports publishers with incompatible QoS."""
        return False

    def waits(self, topic: str) -> bool:
        """Return False: each message is counted on arrival."""
        return False

    def known_until_ns(self) -> int:
        """Return until when arrivals are known; monotonic nanoseconds."""
        return time.monotonic_ns()

    def give(self, frame: ReceivedFrame) -> None:
        """Pass a held frame to the worker."""
        if self.put(frame.stream.topic, frame):
            frame.stream.statistics.count('dropped')

    def _on_image(self, stream: ImageStream, compressed: bool, serialized: bytes) -> None:
        stream.statistics.count('received')
        message = SerializedImage(serialized, compressed)
        frame = stream.accept(message, time.monotonic_ns())
        if frame is not None and self.put(stream.topic, frame):
            stream.statistics.count('dropped')
