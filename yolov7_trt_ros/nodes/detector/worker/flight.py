"""Flight: frames that are detected in together, from their images to their stage times."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from typing import Any, NamedTuple

from yolov7_trt_ros.core.detector import DetectSettings, FrameTimings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.messages.serialized_image import MessageHeader
from yolov7_trt_ros.core.zones import Zones
from yolov7_trt_ros.nodes.detector_parameters.settings import NodeSettings
from yolov7_trt_ros.nodes.images.image_stream import ReceivedFrame


class ViewedFrame(NamedTuple):
    """A frame with the header and the image of its message, not copied."""

    frame: ReceivedFrame
    header: MessageHeader
    image: ImageView

    def zones(self, settings: NodeSettings) -> Zones:
        """Return the zones of its topic."""
        return settings.of(self.frame.stream.topic).zones


@dataclasses.dataclass
class Flight:
    """Frames that were started together; their images live until they are finished."""

    viewed: list[ViewedFrame]
    settings: NodeSettings
    started_ns: int
    viewed_ns: int
    begun_ns: int = 0
    ticket: Any = None
    error: Exception | None = None

    @property
    def detect(self) -> DetectSettings:
        """Return the settings that all frames have in common."""
        return self.settings.of(self.viewed[0].frame.stream.topic).asked

    @property
    def images(self) -> list[ImageView]:
        """Return the images, in the order of the frames."""
        return [each.image for each in self.viewed]


class BatchStages(NamedTuple):
    """Stage times of a batch of `images` frames; monotonic nanoseconds."""

    started_ns: int
    viewed_ns: int
    detected_ns: int
    timings: FrameTimings
    images: int


def in_batches(
    frames: Sequence[ReceivedFrame], settings: NodeSettings
) -> list[list[ReceivedFrame]]:
    """Return frames in groups that can run in one batch: with equal settings, in order."""
    groups: dict[DetectSettings, list[ReceivedFrame]] = {}
    for frame in frames:
        groups.setdefault(settings.of(frame.stream.topic).asked, []).append(frame)
    return list(groups.values())
