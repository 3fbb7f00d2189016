"""Draw detections into an image."""

from __future__ import annotations

from collections.abc import Sequence
import colorsys
import dataclasses
import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.detections import class_name, Detections
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.preprocess import to_bgr
from yolov7_trt_ros.core.zones import Zones

# Hues one golden-ratio turn apart stay distinct for any number of classes.
_GOLDEN_TURN = 0.618033988749895
_FIRST_HUE = 0.58
_SHADES = ((0.85, 1.0), (0.65, 0.85), (0.95, 0.75))
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_DARK_BELOW = 140
_KEEP, _IGNORE = (0, 200, 0), (0, 0, 230)
_MOST_STEPS = 24
Colour = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""


@dataclasses.dataclass(frozen=True)
class DrawStyle:
    """
    How detections are drawn.

    Attributes
    ----------
    labels
        Whether class and score are written.
    line_px
        Width of the lines; 0 for one that fits the image.

    """

    labels: bool = True
    line_px: int = 0


DEFAULT_STYLE = DrawStyle()


def annotated_copy(
    image: ImageView, detections: Detections, class_names: tuple[str, ...],
    style: DrawStyle = DEFAULT_STYLE,
) -> NDArray[np.uint8]:
    """Return a BGR copy (H, W, 3) of an image with its detections drawn in."""
    pixels = to_bgr(image)
    canvas = pixels.copy() if np.shares_memory(pixels, image.pixels) else pixels
    draw_detections(canvas, detections, class_names, style)
    return canvas


def draw_detections(
    image_bgr: NDArray[np.uint8], detections: Detections, class_names: tuple[str, ...],
    style: DrawStyle = DEFAULT_STYLE,
) -> None:
    """
    Draw boxes and labels into the image, best score on top; no label covers another.

    Parameters
    ----------
    image_bgr
        (H, W, 3), C-contiguous, drawn into.
    detections
        Boxes in pixels of this image.
    class_names
        Of the model.
    style
        Labels and width of the lines.

    """
    line_px, font_scale, text_px = _sizes(image_bgr.shape[1], image_bgr.shape[0])
    line_px = style.line_px or line_px
    boxes = np.rint(detections.boxes_xyxy).astype(int).tolist()
    for index in reversed(range(len(detections))):
        left, top, right, bottom = boxes[index]
        colour = class_colour(int(detections.class_ids[index]))
        cv2.rectangle(image_bgr, (left, top), (right, bottom), colour, line_px, cv2.LINE_AA)
    taken: list[Rectangle] = []
    for index in range(len(detections)) if style.labels else ():
        class_id, score = int(detections.class_ids[index]), float(detections.scores[index])
        label = f'{class_name(class_names, class_id)} {score:.2f}{_track_label(detections, index)}'
        taken.append(_draw_label(
            image_bgr, label, boxes[index][:2], class_colour(class_id), font_scale, text_px,
            line_px, taken,
        ))


def _track_label(detections: Detections, index: int) -> str:
    track_id = 0 if detections.track_ids is None else int(detections.track_ids[index])
    return f' #{track_id}' if track_id else ''


def draw_zones(image_bgr: NDArray[np.uint8], zones: Zones) -> None:
    """Draw the outlines of zones into an image (H, W, 3): of ignored ones red, of kept green."""
    height, width = image_bgr.shape[:2]
    line_px, _, _ = _sizes(width, height)
    for polygons, colour in ((zones.keep, _KEEP), (zones.ignore, _IGNORE)):
        for polygon in polygons:
            points = np.rint(polygon.in_pixels((width, height))).astype(np.int32)
            cv2.polylines(image_bgr, [points], True, colour, line_px, cv2.LINE_AA)


@functools.cache
def class_colour(class_id: int) -> Colour:
    """Return the BGR colour of a class: always the same, neighbours far apart."""
    saturation, value = _SHADES[class_id % len(_SHADES)]
    rgb = colorsys.hsv_to_rgb((_FIRST_HUE + class_id * _GOLDEN_TURN) % 1.0, saturation, value)
    red, green, blue = (round(255 * channel) for channel in rgb)
    return blue, green, red


def text_colour(background: Colour) -> Colour:
    """Return black or white, whichever is readable on a background (BGR)."""
    blue, green, red = background
    luminance = 0.114 * blue + 0.587 * green + 0.299 * red
    return (255, 255, 255) if luminance < _DARK_BELOW else (0, 0, 0)


def place_label(
    image_wh: tuple[int, int], corner_xy: tuple[int, int], label_wh: tuple[int, int],
    taken: Sequence[Rectangle] = (),
) -> tuple[int, int]:
    """
    Return the top left corner of a label for a box's top left corner.

    Above the box if there is room, else inside at its top; moved to be within the image. If that
    would cover another label, the next free place below; the first place if there is none.

    """
    left, top = corner_xy
    x = max(0, min(left, image_wh[0] - label_wh[0]))
    lowest = max(0, image_wh[1] - label_wh[1])
    first = top - label_wh[1] if top >= label_wh[1] else top
    for step in range(_MOST_STEPS if taken else 1):
        y = max(0, min(first + step * label_wh[1], lowest))
        if not any(overlap((x, y, x + label_wh[0], y + label_wh[1]), each) for each in taken):
            return x, y
    return x, max(0, min(first, lowest))


def overlap(one: Rectangle, other: Rectangle) -> bool:
    """Return whether two rectangles have a pixel in common."""
    return (
        one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
    )


@functools.lru_cache(maxsize=16)
def _sizes(width: int, height: int) -> tuple[int, float, int]:
    """Line width, font scale and text thickness for an image size: 640 x 480 gets 2 px, 0.42."""
    diagonal = float(np.hypot(width, height))
    return max(1, round(diagonal / 480)), max(0.35, diagonal / 1900), max(1, round(diagonal / 900))


def _draw_label(
    image_bgr: NDArray[np.uint8],
    label: str,
    corner_xy: tuple[int, int],
    colour: Colour,
    font_scale: float,
    text_px: int,
    line_px: int,
    taken: Sequence[Rectangle],
) -> Rectangle:
    """Draw a label at a free place; return that."""
    height, width = image_bgr.shape[:2]
    shown = label.encode('ascii', 'replace').decode()  # OpenCV's fonts have no other letters
    (text_w, text_h), below = cv2.getTextSize(shown, _FONT, font_scale, text_px)
    margin = max(2, text_px + 1)
    label_wh = text_w + 2 * margin, text_h + below + margin
    corner_x = corner_xy[0] - line_px // 2
    x, y = place_label((width, height), (corner_x, corner_xy[1]), label_wh, taken)
    cv2.rectangle(image_bgr, (x, y), (x + label_wh[0], y + label_wh[1]), colour, cv2.FILLED)
    cv2.putText(
        image_bgr, shown, (x + margin, y + margin // 2 + text_h), _FONT, font_scale,
        text_colour(colour), text_px, cv2.LINE_AA,
    )
    return x, y, x + label_wh[0], y + label_wh[1]
