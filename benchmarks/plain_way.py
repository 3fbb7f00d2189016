"""
The usual Python code around a network, as a reference for measurements.

Copy the message as cv_bridge does, cv2 letterbox to a square, transpose and divide in numpy, and
NMS as a numpy loop.

"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from yolov7_trt_ros.core.detector import DetectSettings


def plain_input(data: Any, width: int, height: int) -> np.ndarray:
    """Prepare the network input with the usual code."""
    image = np.ndarray((height, width, 3), np.uint8, data).copy()
    scale = min(640 / width, 640 / height)
    size = round(width * scale), round(height * scale)
    pad_x, pad_y = (640 - size[0]) / 2, (640 - size[1]) / 2
    resized = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    boxed = cv2.copyMakeBorder(
        resized, round(pad_y - 0.1), round(pad_y + 0.1), round(pad_x - 0.1), round(pad_x + 0.1),
        cv2.BORDER_CONSTANT, value=(114, 114, 114),
    )
    blob = np.ascontiguousarray(boxed[:, :, ::-1].transpose(2, 0, 1)).astype(np.float32)
    return (blob / 255.0)[None]


def plain_detections(
    rows: np.ndarray, width: int, height: int, settings: DetectSettings
) -> np.ndarray:
    """Decode and suppress with the usual code: boxes (n, 4), score, class."""
    rows = rows[rows[:, 4] > settings.score_threshold].copy()
    rows[:, 5:] *= rows[:, 4:5]
    classes = rows[:, 5:].argmax(1)
    scores = rows[np.arange(len(rows)), classes + 5]
    keep = scores > settings.score_threshold
    rows, classes, scores = rows[keep], classes[keep], scores[keep]
    boxes = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], 1)
    shifted = boxes + classes[:, None] * 7680
    order, kept = scores.argsort()[::-1], []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        low = np.maximum(shifted[best, :2], shifted[rest, :2])
        high = np.minimum(shifted[best, 2:], shifted[rest, 2:])
        overlap = np.clip(high - low, 0, None).prod(1)
        area = (shifted[:, 2:] - shifted[:, :2]).prod(1)
        order = rest[overlap / (area[best] + area[rest] - overlap) <= settings.iou_threshold]
    scale = min(640 / width, 640 / height)
    boxes = (boxes[kept] - np.array([(640 - width * scale) / 2, (640 - height * scale) / 2] * 2))
    return np.concatenate([boxes / scale, scores[kept, None], classes[kept, None]], 1)
