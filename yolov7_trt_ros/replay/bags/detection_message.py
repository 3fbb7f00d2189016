"""Build vision_msgs/Detection2DArray messages from Detections, without ROS."""

from __future__ import annotations

from typing import Any

import numpy as np

from yolov7_trt_ros.core.detections import class_name, Detections, track_text
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.replay.bags.rosbags_adapter import load_typestore

DETECTIONS_TYPE = 'vision_msgs/msg/Detection2DArray'
ENGINE_TYPE = 'vision_msgs/msg/VisionInfo'
_LAST_NS = 2**31 * NS_PER_S - 1  # seconds of a stamp are an int32


class DetectionMessages:
    """
    Builds messages for rosbags, with the same fields as the detector node.

    Parameters
    ----------
    class_names
        Class names of the model, used as `class_id`.

    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self._class_names = class_names
        types = load_typestore().types
        self._time = types['builtin_interfaces/msg/Time']
        self._header = types['std_msgs/msg/Header']
        self._array, self._info = types[DETECTIONS_TYPE], types[ENGINE_TYPE]
        self._detection = types['vision_msgs/msg/Detection2D']
        self._result = types['vision_msgs/msg/ObjectHypothesisWithPose']
        self._hypothesis = types['vision_msgs/msg/ObjectHypothesis']
        self._box = types['vision_msgs/msg/BoundingBox2D']
        self._centre = types['vision_msgs/msg/Pose2D']
        self._point = types['vision_msgs/msg/Point2D']
        position = types['geometry_msgs/msg/Point'](0.0, 0.0, 0.0)
        upright = types['geometry_msgs/msg/Quaternion'](0.0, 0.0, 0.0, 1.0)
        self._pose = types['geometry_msgs/msg/PoseWithCovariance'](
            types['geometry_msgs/msg/Pose'](position, upright), np.zeros(36, np.float64)
        )

    def build(self, stamp_ns: int, frame_id: str, detections: Detections) -> Any:
        """Return the message; every detection has the header of the array."""
        header = self._header_of(stamp_ns, frame_id)
        boxes = detections.boxes_xyxy.astype(np.float64).tolist()
        scores, class_ids = detections.scores.tolist(), detections.class_ids.tolist()
        tracks = [0] * len(boxes) if detections.track_ids is None else detections.track_ids
        return self._array(header, [
            self._detection(
                header, [self._scored(class_id, score)], self._bounding_box(box),
                track_text(int(track_id)),
            )
            for box, score, class_id, track_id in zip(
                boxes, scores, class_ids, tracks, strict=True
            )
        ])

    def build_engine(self, stamp_ns: int, frame_id: str, engine: str) -> Any:
        """Return the message that names the engine of a frame; of several, for one frame."""
        return self._info(self._header_of(stamp_ns, frame_id), engine, '', 0)

    def _header_of(self, stamp_ns: int, frame_id: str) -> Any:
        return self._header(self._time(*divmod(min(stamp_ns, _LAST_NS), NS_PER_S)), frame_id)

    def _scored(self, class_id: int, score: float) -> Any:
        hypothesis = self._hypothesis(class_name(self._class_names, class_id), score)
        return self._result(hypothesis, self._pose)

    def _bounding_box(self, box_xyxy: list[float]) -> Any:
        left, top, right, bottom = box_xyxy
        centre = self._point((left + right) / 2, (top + bottom) / 2)
        return self._box(self._centre(centre, 0.0), right - left, bottom - top)
