"""Configured: what the detector node holds between configure and cleanup."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import time

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode

from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.nodes.below_rclpy.direct_take import DirectTake
from yolov7_trt_ros.nodes.detector.worker.detection_worker import DetectionWorker, FrameSource
from yolov7_trt_ros.nodes.detector_parameters.settings import NodeSettings
from yolov7_trt_ros.nodes.images.image_stream import ImageStream
from yolov7_trt_ros.nodes.images.pulled_images import PulledImages
from yolov7_trt_ros.nodes.images.pushed_images import PushedImages
from yolov7_trt_ros.nodes.images.stream_set import StreamSet
from yolov7_trt_ros.nodes.images.topic_status import (
    passed_over_statuses,
    removed_counters,
    topic_status,
)

NewWorker = Callable[[Detector, FrameSource, Callable[[], NodeSettings]], DetectionWorker]


@dataclasses.dataclass
class LoadedModel:
    """The detector of the node, and the settings for its classes, which may be replaced."""

    detector: Detector
    settings: NodeSettings


class Configured:
    """
    The image streams of a configured node, its model once that is open, and the running worker.

    For the executor's thread; only the settings are read in the worker's thread too.

    Parameters
    ----------
    node
        The detector node.
    streams
        Its image topics.
    direct
        How to receive images below rclpy; None to receive them through rclpy.
    receive
        Which of the two it is, for diagnostics.
    new_worker
        Makes the worker of a detector, with images and settings.
    pause_reason
        Returns why the node as a whole detects nothing, '' while it is active.

    Attributes
    ----------
    model
        None until the model is open.
    worker
        None while nothing is detected.

    """

    def __init__(
        self, node: LifecycleNode, streams: StreamSet, direct: DirectTake | None, receive: str, *,
        new_worker: NewWorker, pause_reason: Callable[[], str],
    ) -> None:
        self._node, self._direct, self._receive = node, direct, receive
        self._new_worker, self._pause_reason = new_worker, pause_reason
        self.streams = streams
        self.model: LoadedModel | None = None
        self.worker: DetectionWorker | None = None

    def start(self, model: LoadedModel) -> None:
        """Start a worker and subscribe."""
        self.stop()  # a single shot may have started one
        images: PulledImages | PushedImages = PushedImages(self._node)
        if self._direct is not None:
            images = PulledImages(self._node, self._direct)
        self.worker = self._new_worker(model.detector, images, lambda: model.settings)
        self.worker.start()
        self.limit()
        self.streams.subscribe(images)

    def stop(self) -> None:
        """Unsubscribe, finish the frame in work and stop the worker, if it runs."""
        worker, self.worker = self.worker, None
        if worker is not None:
            try:
                self.streams.close()
            finally:
                worker.stop()

    def limit(self) -> None:
        """Pass or hold back the frames of each topic, by settings, state and subscribers."""
        model = self.model
        if model is None:
            return

        def reason(stream: ImageStream) -> str:
            return self._pause_reason() or model.settings.pause_reason(stream)

        self.streams.limit(lambda topic: model.settings.of(topic).limits, reason)

    def replace_settings(self, settings: NodeSettings) -> None:
        """Use other settings from the next frame on; none before the model is open."""
        if self.model is not None:
            self.model.settings = settings
            self.limit()

    def sync_with_graph(self) -> None:
        """Adapt to the present publishers and subscribers; about once a second."""
        self.streams.sync_with_graph()
        if self.worker is not None:
            self.limit()

    @property
    def may_pause(self) -> bool:
        """Whether the settings let nothing be detected in a topic at times."""
        return self.model is not None and self.model.settings.may_pause

    def status(self) -> dict[str, str]:
        """Return what diagnostics report of images in general."""
        return {'receive': self._receive, **removed_counters(self.streams.removed_counts())}

    def topic_statuses(self) -> list[DiagnosticStatus]:
        """Return the status of each topic, none while nothing is detected."""
        if self.worker is None or self.model is None:
            return []
        name, settings = self._node.get_fully_qualified_name(), self.model.settings
        return [
            topic_status(name, stream, settings.of(topic).zones, time.monotonic_ns())
            for topic, stream in self.streams.items()
        ] + passed_over_statuses(name, self.streams.passed_over)
