"""WorkerStream: what a DetectionWorker needs of an ImageStream, without a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.nodes.images.frame_gate import FrameGate
from yolov7_trt_ros.nodes.images.frame_statistics import TopicStatistics
from yolov7_trt_ros.nodes.images.image_stream import ReceivedFrame


class WorkerStream:
    """
    A camera's topic that counts and publishes nowhere; for benchmarks and tests of the worker.

    Parameters
    ----------
    topic
        Its name.

    """

    def __init__(self, topic: str) -> None:
        self.topic, self.statistics = topic, TopicStatistics()
        self.gate: FrameGate[ReceivedFrame] = FrameGate()

    def publish(self, message: Any) -> bool:
        """Publish nowhere."""
        return True

    def publish_overlay(self, make: Callable[[], Any]) -> None:
        """Nobody listens."""

    def publish_annotations(self, make: Callable[[], Any]) -> None:
        """Nobody listens."""

    def publish_engine(self, make: Callable[[], Any]) -> None:
        """Nobody listens."""

    def note_picture(self, image: ImageView, received_ns: int) -> None:
        """Nobody watches the camera."""

    def age_ns(self, stamp_ns: int) -> int | None:
        """Return that the age is 0."""
        return 0
