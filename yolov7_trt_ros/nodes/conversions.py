"""Convert between core types and messages, for every version of vision_msgs."""

from __future__ import annotations

import array
from typing import Any

from builtin_interfaces.msg import Time
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from yolov7_trt_ros.core.detections import class_text, Detections, track_text
from yolov7_trt_ros.core.messages.serialized_image import MessageHeader


def image_to_msg(pixels: NDArray[np.uint8], header: Any) -> Image:
    """Return a bgr8 message of a contiguous array (H, W, 3), with the given header."""
    data = array.array('B')
    data.frombytes(pixels.reshape(-1).data)
    height, width = pixels.shape[:2]
    message = Image(header=header, height=height, width=width, encoding='bgr8', step=width * 3)
    message.data = data  # every distro takes array.array without a slow check
    return message


def header_to_msg(header: MessageHeader) -> Header:
    """Return the header of an image as a message."""
    return Header(stamp=Time(sec=header.sec, nanosec=header.nanosec), frame_id=header.frame_id)


MessageTypes = tuple[Any, Any, Any]
"""The message classes: array, detection, hypothesis."""

MESSAGE_TYPES: MessageTypes = (Detection2DArray, Detection2D, ObjectHypothesisWithPose)


class DetectionsToMsg:
    """
    Converts Detections to Detection2DArray messages of the installed vision_msgs.

    Humble and later have `results[].hypothesis.class_id` and `bbox.center.position.x`; Galactic
    and Foxy have the fields without `hypothesis` and `position`, and Foxy's `class_id` is `id`.
    The id of a track is `id`; before that there was `tracking_id`, which `is_tracking` goes with.

    Parameters
    ----------
    class_names
        Of the model.
    types
        The messages; vision_msgs' own unless a test brings others.

    """

    def __init__(
        self,
        class_names: tuple[str, ...],
        types: MessageTypes = MESSAGE_TYPES,
    ) -> None:
        self._class_names = class_names
        self._array_type, self._detection_type, self._result_type = types
        result, detection = self._result_type(), self._detection_type()
        self._nested = hasattr(result, 'hypothesis')
        hypothesis = result.hypothesis if self._nested else result
        self._id_field = 'class_id' if hasattr(hypothesis, 'class_id') else 'id'
        self._centre_nested = hasattr(detection.bbox.center, 'position')
        self._has_is_tracking = hasattr(detection, 'is_tracking')
        self._track_field = 'tracking_id' if self._has_is_tracking else 'id'
        # 36 covariance doubles that are never set: all results share one zero pose.
        self._pose = result.pose

    def convert(self, detections: Detections, header: Any, class_id_format: str) -> Any:
        """
        Return the message; the array and every detection get `header` unchanged.

        Parameters
        ----------
        detections
            Boxes in source pixels.
        header
            The image's.
        class_id_format
            `name` or `index`.

        """
        message = self._array_type(header=header)
        boxes = detections.boxes_xyxy.astype(np.float64)
        centres = ((boxes[:, :2] + boxes[:, 2:]) / 2).tolist()
        sizes = (boxes[:, 2:] - boxes[:, :2]).tolist()
        ids = detections.class_ids.tolist()
        texts = [class_text(self._class_names, class_id, class_id_format) for class_id in ids]
        message.detections = [
            self._detection(header, centre, size, text, score)
            for centre, size, text, score in zip(
                centres, sizes, texts, detections.scores.tolist(), strict=True
            )
        ]
        if detections.track_ids is not None:
            self._put_tracks(message.detections, detections.track_ids.tolist())
        return message

    def _put_tracks(self, detections: list[Any], track_ids: list[int]) -> None:
        for detection, track_id in zip(detections, track_ids, strict=True):
            setattr(detection, self._track_field, track_text(track_id))
            if self._has_is_tracking:
                detection.is_tracking = track_id > 0

    def _detection(
        self, header: Any, centre: list[float], size: list[float], text: str, score: float
    ) -> Any:
        detection = self._detection_type(header=header)
        box = detection.bbox
        place = box.center.position if self._centre_nested else box.center
        place.x, place.y = centre
        box.size_x, box.size_y = size
        result = self._result_type(pose=self._pose)
        hypothesis = result.hypothesis if self._nested else result
        setattr(hypothesis, self._id_field, text)
        hypothesis.score = score
        detection.results = [result]
        return detection
