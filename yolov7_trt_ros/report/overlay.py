"""Draw detections into an image."""

from __future__ import annotations

import colorsys
import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.detections import class_name, Detections
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.preprocess import to_bgr

# Hues one golden-ratio turn apart stay distinct for any number of classes.
_GOLDEN_TURN = 0.618033988749895
_FIRST_HUE = 0.58
_SHADES = ((0.85, 1.0), (0.65, 0.85), (0.95, 0.75))
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_DARK_BELOW = 140
Colour = tuple[int, int, int]


def annotated_copy(
    image: ImageView, detections: Detections, class_names: tuple[str, ...]
) -> NDArray[np.uint8]:
    """Return a BGR copy (H, W, 3) of an image with its detections drawn in."""
    pixels = to_bgr(image)
    canvas = pixels.copy() if np.shares_memory(pixels, image.pixels) else pixels
    draw_detections(canvas, detections, class_names)
    return canvas


def draw_detections(
    image_bgr: NDArray[np.uint8], detections: Detections, class_names: tuple[str, ...]
) -> None:
    """
    Draw boxes and labels into the image, best score on top.

    Parameters
    ----------
    image_bgr
        (H, W, 3), C-contiguous, drawn into.
    detections
        Boxes in pixels of this image.
    class_names
        Of the model.

    """
    line_px, font_scale, text_px = _sizes(image_bgr.shape[1], image_bgr.shape[0])
    for index in reversed(range(len(detections))):
        left, top, right, bottom = np.rint(detections.boxes_xyxy[index]).astype(int).tolist()
        class_id, score = int(detections.class_ids[index]), float(detections.scores[index])
        colour = class_colour(class_id)
        cv2.rectangle(image_bgr, (left, top), (right, bottom), colour, line_px, cv2.LINE_AA)
        label = f'{class_name(class_names, class_id)} {score:.2f}'
        _draw_label(image_bgr, label, (left, top), colour, font_scale, text_px, line_px)


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
    image_wh: tuple[int, int], corner_xy: tuple[int, int], label_wh: tuple[int, int]
) -> tuple[int, int]:
    """
    Return the top left corner of a label for a box's top left corner.

    Above the box if there is room, else inside at its top; moved to lie within the image.

    """
    left, top = corner_xy
    y = top - label_wh[1] if top >= label_wh[1] else top
    return (
        max(0, min(left, image_wh[0] - label_wh[0])),
        max(0, min(y, image_wh[1] - label_wh[1])),
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
) -> None:
    height, width = image_bgr.shape[:2]
    shown = label.encode('ascii', 'replace').decode()  # OpenCV's fonts have no other letters
    (text_w, text_h), below = cv2.getTextSize(shown, _FONT, font_scale, text_px)
    margin = max(2, line_px)
    label_wh = text_w + 2 * margin, text_h + below + margin
    corner_x = corner_xy[0] - line_px // 2
    x, y = place_label((width, height), (corner_x, corner_xy[1]), label_wh)
    cv2.rectangle(image_bgr, (x, y), (x + label_wh[0], y + label_wh[1]), colour, cv2.FILLED)
    cv2.putText(
        image_bgr, shown, (x + margin, y + margin // 2 + text_h), _FONT, font_scale,
        text_colour(colour), text_px, cv2.LINE_AA,
    )
