"""Draw the boxes of two runs on one frame, side by side, as SVG over a small picture."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.detections import class_name, Detections
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.overlay import overlap, place_label, Rectangle
from yolov7_trt_ros.core.preprocess import to_bgr
from yolov7_trt_ros.report.compare.detection_match import FrameMatch, NONE
from yolov7_trt_ros.report.page import safe

LONGEST_SIDE_PX = 640
MOST_JPEG_BYTES = 60_000
MOST_BOXES = 60
"""Drawn in each picture; those without a partner come first."""
_MOST_LABELLED = 12
_QUALITIES = (80, 60, 40, 20)
_LONGEST_NAME = 24
_EMPTY_WH = (640, 360)

STYLE = """
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 12px;
  margin: .3rem 0; } .pair figure { margin: 0; } .pair svg { max-width: none; }
.pair rect { fill: none; vector-effect: non-scaling-stroke; stroke-width: 2; }
.pair .ground { fill: var(--stripe); } .pair .matched { stroke: #3f7fe0; }
.pair .missed { stroke: #d32f2f; stroke-width: 3.5; }
.pair .new { stroke: #ff9800; stroke-width: 3.5; stroke-dasharray: 9 4; }
.pair .label { stroke: none; } .pair .label.matched { fill: #2a5db0; }
.pair .label.missed { fill: #b71c1c; } .pair .label.new { fill: #8a5200; }
.pair svg text { fill: #fff; }
"""


@dataclasses.dataclass(frozen=True)
class SmallPicture:
    """A JPEG of at most `MOST_JPEG_BYTES`, and the size of the image that it was made from."""

    source_wh: tuple[int, int]
    jpeg: bytes


@dataclasses.dataclass(frozen=True)
class FrameBoxes:
    """
    What two runs found in one frame.

    Attributes
    ----------
    reference, found
        Boxes of A and of B, in pixels of the image.
    match
        Who is whose partner.
    sure_score
        Those without a partner are shown from this score on.

    """

    reference: Detections
    found: Detections
    match: FrameMatch
    sure_score: float


def shrink(image: ImageView) -> SmallPicture | None:
    """Return a small picture of an image; None if no JPEG of it is small enough."""
    pixels = to_bgr(image)
    height, width = pixels.shape[:2]
    for longest in (LONGEST_SIDE_PX, LONGEST_SIDE_PX // 2, LONGEST_SIDE_PX // 4):
        scale = min(1.0, longest / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
        for quality in _QUALITIES:
            done, jpeg = cv2.imencode('.jpg', small, [cv2.IMWRITE_JPEG_QUALITY, quality])
            if done and len(jpeg) <= MOST_JPEG_BYTES:
                return SmallPicture((width, height), jpeg.tobytes())
    return None


def draw_pair(
    boxes: FrameBoxes, class_names: Sequence[str], picture: SmallPicture | None, name: str
) -> str:
    """
    Return both runs beside each other, A on the left.

    Parameters
    ----------
    boxes
        What was found.
    class_names
        By class id.
    picture
        What is drawn upon; an empty ground without one.
    name
        Id of the picture, unique on the page.

    """
    missed = boxes.match.unmatched(len(boxes.reference))
    new = boxes.match.partner == NONE
    size_wh = picture.source_wh if picture else _extent(boxes.reference, boxes.found)
    sides = [('A', boxes.reference, missed, 'missed'), ('B', boxes.found, new, 'new')]
    drawn = []
    for side, detections, alone, kind in sides:
        chosen = _choose(detections, alone, boxes.sure_score)
        ground = _ground(picture, size_wh, name, is_first=side == 'A')
        inner = [ground, *_boxes(detections, chosen, alone, kind, class_names, size_wh)]
        more = int((~alone | (detections.scores >= boxes.sure_score)).sum()) - len(chosen)
        caption = f'{side}: {len(chosen)} box{"es" if len(chosen) != 1 else ""}'
        caption += f' shown, {more} more' if more else ''
        drawn.append(
            f'<figure><svg viewBox="0 0 {size_wh[0]} {size_wh[1]}" role="img" '
            f'xmlns="http://www.w3.org/2000/svg"><title>{safe(caption)}</title>{"".join(inner)}'
            f'</svg><figcaption>{safe(caption)}</figcaption></figure>'
        )
    return f'<div class="pair">{"".join(drawn)}</div>'


def _choose(
    detections: Detections, alone: NDArray[np.bool_], sure_score: float
) -> list[int]:
    """Return the boxes to draw: those without a partner first, then the others by score."""
    order = np.argsort(-detections.scores, kind='stable')
    lost = [int(each) for each in order if alone[each] and detections.scores[each] >= sure_score]
    return [*lost, *(int(each) for each in order if not alone[each])][:MOST_BOXES]


def _ground(
    picture: SmallPicture | None, size_wh: tuple[int, int], name: str, *, is_first: bool
) -> str:
    size = f'width="{size_wh[0]}" height="{size_wh[1]}"'
    if picture is None:
        return f'<rect class="ground" {size}/>'
    if not is_first:  # the bytes stand once on the page
        return f'<use href="#{name}"/>'
    data = base64.b64encode(picture.jpeg).decode()
    return (f'<image id="{name}" {size} preserveAspectRatio="none" '
            f'href="data:image/jpeg;base64,{data}"/>')


def _boxes(
    detections: Detections, chosen: Sequence[int], alone: NDArray[np.bool_], kind: str,
    class_names: Sequence[str], size_wh: tuple[int, int],
) -> Iterator[str]:
    """Yield boxes, then the labels that find a place; among many, of those without a partner."""
    corners = np.clip(detections.boxes_xyxy, -1e6, 1e6).astype(float).tolist()
    labels: list[str] = []
    taken: list[Rectangle] = []
    for index in chosen:
        state = kind if alone[index] else 'matched'
        left, top, right, bottom = corners[index]
        label = _label(detections, index, class_names)
        yield (f'<rect class="{state}" x="{left:.1f}" y="{top:.1f}" '
               f'width="{max(right - left, 0):.1f}" height="{max(bottom - top, 0):.1f}">'
               f'<title>{safe(label)}, {state}</title></rect>')
        if alone[index] or len(chosen) <= _MOST_LABELLED:
            labels += _labels(label, state, (round(left), round(top)), size_wh, taken)
    yield from labels


def _labels(
    label: str, state: str, corner_xy: tuple[int, int], size_wh: tuple[int, int],
    taken: list[Rectangle],
) -> list[str]:
    """Return the label of a box, none if it would cover another; extends `taken`."""
    text_px = max(size_wh) / 46
    label_wh = round(0.58 * text_px * (len(label) + 1)), round(1.35 * text_px)
    x, y = place_label(size_wh, corner_xy, label_wh, taken)
    place = (x, y, x + label_wh[0], y + label_wh[1])
    if any(overlap(place, each) for each in taken):
        return []
    taken.append(place)
    return [
        f'<rect class="label {state}" x="{x}" y="{y}" width="{label_wh[0]}" '
        f'height="{label_wh[1]}"/><text x="{x + 0.28 * text_px:.1f}" '
        f'y="{y + 1.02 * text_px:.1f}" style="font-size:{text_px:.1f}px">{safe(label)}</text>'
    ]


def _label(detections: Detections, index: int, class_names: Sequence[str]) -> str:
    name = class_name(tuple(class_names), int(detections.class_ids[index]))
    short = name if len(name) <= _LONGEST_NAME else f'{name[: _LONGEST_NAME - 1]}…'
    return f'{short} {float(detections.scores[index]):.2f}'


def _extent(*runs: Detections) -> tuple[int, int]:
    """Return a size that contains all boxes: the message has no image size."""
    far = [each.boxes_xyxy[:, 2:].max(axis=0) for each in runs if len(each)]
    if not far:
        return _EMPTY_WH
    sides = np.clip(np.ceil(np.max(far, axis=0)), 1, 1e6).astype(int).tolist()
    return sides[0], sides[1]
