"""Labels made by a model, as a COCO instances file and as text files for YOLO tools."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import json
from typing import Any

from yolov7_trt_ros.core.detections import Detections


@dataclasses.dataclass(frozen=True)
class Doubt:
    """
    How far a second model disagrees on a frame, by the measure of `compare`.

    Attributes
    ----------
    missed, new
        Sure detections that the second model lacks, and that it alone has.
    drift
        Most that a score moved.
    iou
        Least overlap of partners.

    """

    missed: int
    new: int
    drift: float
    iou: float

    @property
    def rank(self) -> tuple[float, ...]:
        """Return what orders frames, the hardest first."""
        return (-(self.missed + self.new), -self.drift, self.iou)


@dataclasses.dataclass(frozen=True)
class LabelBox:
    """One label: class id in the data set, score, left, top, width, height in pixels."""

    class_id: int
    score: float
    left: float
    top: float
    width: float
    height: float


@dataclasses.dataclass(frozen=True)
class LabelledFrame:
    """
    A frame and its labels.

    Attributes
    ----------
    stem
        Of its picture, without a suffix: `drive/front.image_raw_000120`.
    source
        Topic in a bag, else the file's name.
    index
        Counts from 0 within the source.
    stamp_ns
        Of the image.
    size_wh
        In pixels.
    boxes
        Best score first.
    doubt
        None without a second model.
    engine
        Which of several engines found the boxes, '' for one engine.

    """

    stem: str
    source: str
    index: int
    stamp_ns: int
    size_wh: tuple[int, int]
    boxes: tuple[LabelBox, ...]
    doubt: Doubt | None = None
    engine: str = ''

    @property
    def flat_stem(self) -> str:
        """Return the stem without a folder: YOLO tools take one for a subset."""
        return self.stem.replace('/', '+')

    @property
    def drive(self) -> str:
        """Return the folder of its picture, one a recording."""
        return self.stem.partition('/')[0]


def label_boxes(found: Detections) -> tuple[LabelBox, ...]:
    """Return detections as labels, to 0.01 pixels; what is empty then is left out."""
    rows = zip(
        found.class_ids.tolist(), found.scores.tolist(), found.boxes_xyxy.tolist(), strict=True
    )
    boxes = []
    for class_id, score, corners in rows:
        left, top, right, bottom = (round(value, 2) for value in corners)
        boxes.append(LabelBox(
            class_id, round(score, 5), left, top, round(right - left, 2), round(bottom - top, 2)
        ))
    return tuple(each for each in boxes if each.width > 0 and each.height > 0)


def hardest_first(frames: Sequence[LabelledFrame]) -> list[LabelledFrame]:
    """Return frames in the order of doubt; those of equal doubt, or without, as they came."""
    return sorted(frames, key=lambda each: each.doubt.rank if each.doubt else ())


def coco_text(
    frames: Sequence[tuple[LabelledFrame, str]], names: Sequence[str], info: dict[str, Any]
) -> str:
    """
    Return COCO's instances file.

    Images also have their source, how far a second model disagrees, and which of several engines
    was used; annotations have their score. Readers ignore unknown keys.

    Parameters
    ----------
    frames
        With the file name of each picture.
    names
        Classes of the data set; ids of categories count from 1.
    info
        How it was made.

    """
    annotations: list[dict[str, Any]] = []
    images = []
    for image_id, (frame, file_name) in enumerate(frames, 1):
        images.append({
            'id': image_id, 'file_name': file_name,
            'width': frame.size_wh[0], 'height': frame.size_wh[1],
            'source': frame.source, 'stamp_ns': frame.stamp_ns,
        } | ({} if frame.doubt is None else {'doubt': dataclasses.asdict(frame.doubt)})
          | ({'engine': frame.engine} if frame.engine else {}))
        annotations += [
            {'id': len(annotations) + number, 'image_id': image_id,
             'category_id': box.class_id + 1, 'bbox': [box.left, box.top, box.width, box.height],
             'area': round(box.width * box.height, 2), 'iscrowd': 0, 'segmentation': [],
             'score': box.score}
            for number, box in enumerate(frame.boxes, 1)
        ]
    categories = [{'id': number, 'name': name} for number, name in enumerate(names, 1)]
    return json.dumps({
        'info': info, 'licenses': [], 'images': images, 'annotations': annotations,
        'categories': categories,
    }, ensure_ascii=False) + '\n'


def yolo_text(frame: LabelledFrame) -> str:
    """Return a line a label: class id, centre and size as shares of the picture."""
    width, height = frame.size_wh
    return ''.join(
        f'{box.class_id} {(box.left + box.width / 2) / width:.6f} '
        f'{(box.top + box.height / 2) / height:.6f} {box.width / width:.6f} '
        f'{box.height / height:.6f}\n'
        for box in frame.boxes
    )


def yolo_yaml(names: Sequence[str], images: str) -> str:
    """Return the description that YOLO tools take; JSON's lists and texts are YAML too."""
    return (
        f'train: {images}\n'
        '# val: a folder of pictures that are held out, with their labels\n'
        f'nc: {len(names)}\nnames: {json.dumps(list(names), ensure_ascii=False)}\n'
    )
