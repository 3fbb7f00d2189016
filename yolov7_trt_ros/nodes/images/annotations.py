"""Convert detections to Foxglove's ImageAnnotations, if foxglove_msgs is installed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import importlib
from typing import Any

from yolov7_trt_ros.core.detections import class_name, Detections
from yolov7_trt_ros.core.overlay import class_colour, Colour, text_colour
from yolov7_trt_ros.errors import SettingError

ANNOTATIONS = 'annotations'
"""Last part of their topic, below the detections topic."""

_LINE_PX = 2.0
_FONT_PX = 14.0
_WHOLE = 255.0


def load_messages() -> Any:
    """
    Return the module of Foxglove's messages.

    Raises
    ------
    SettingError
        It cannot be imported; says what to install.

    """
    try:
        return importlib.import_module('foxglove_msgs.msg')
    except ImportError as exc:
        raise SettingError(
            'publish_annotations needs the messages of Foxglove, which cannot be imported '
            f'({exc}); install them (sudo apt install ros-$ROS_DISTRO-foxglove-msgs) and start '
            'the node anew, or set it to false'
        ) from exc


def check_wanted(wanted: bool) -> None:
    """Raise SettingError if annotations are wanted and their messages are not installed."""
    if wanted:
        load_messages()


def annotations_to_msg(
    messages: Any, detections: Detections, class_names: Sequence[str], stamp: Any
) -> Any:
    """
    Return an ImageAnnotations: a rectangle and a label for each detection, best score first.

    Parameters
    ----------
    messages
        The module `foxglove_msgs.msg`.
    detections
        Boxes in source pixels, 0 at the outer edge of the first one, as Foxglove counts too.
    class_names
        Of the model.
    stamp
        Of the image: Foxglove shows annotations on the image of the same stamp.

    """
    message = messages.ImageAnnotations(timestamp=stamp)
    for box, class_id, score in zip(
        detections.boxes_xyxy.tolist(), detections.class_ids.tolist(),
        detections.scores.tolist(), strict=True,
    ):
        left, top, right, bottom = box
        colour = class_colour(class_id)
        message.points.append(messages.PointsAnnotation(
            timestamp=stamp, type=messages.PointsAnnotation.LINE_LOOP, thickness=_LINE_PX,
            points=_points(messages, ((left, top), (right, top), (right, bottom), (left, bottom))),
            outline_color=_colour(messages, colour),
        ))
        message.texts.append(messages.TextAnnotation(
            timestamp=stamp, text=f'{class_name(tuple(class_names), class_id)} {score:.2f}',
            position=messages.Point2(x=left, y=top), font_size=_FONT_PX,
            text_color=_colour(messages, text_colour(colour)),
            background_color=_colour(messages, colour),
        ))
    return message


def _points(messages: Any, corners: Iterable[tuple[float, float]]) -> list[Any]:
    return [messages.Point2(x=x, y=y) for x, y in corners]


def _colour(messages: Any, bgr: Colour) -> Any:
    blue, green, red = (channel / _WHOLE for channel in bgr)
    return messages.Color(r=red, g=green, b=blue, a=1.0)
