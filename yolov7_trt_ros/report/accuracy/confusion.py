"""A confusion matrix of detections and labels, paired by overlap alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.boxes import box_iou
from yolov7_trt_ros.report.accuracy.categories import Categories
from yolov7_trt_ros.report.accuracy.coco import CocoAnnotations
from yolov7_trt_ros.report.accuracy.labels import CocoImage, Label

MATCH_IOU = 0.5
SCORE_THRESHOLD = 0.25
NOTHING = -1
"""As a label: nothing is labelled there. As what was found: nothing was found there."""


@dataclasses.dataclass(frozen=True)
class Confusions:
    """
    How often each category was labelled and each was found in the same place.

    Attributes
    ----------
    counts
        By (labelled, found), categories of the annotation file or `NOTHING`.
    names
        Of the categories.
    score_threshold, iou
        From which score a detection counts, and from which overlap it is paired with a label.

    """

    counts: Mapping[tuple[int, int], int]
    names: Mapping[int, str]
    score_threshold: float = SCORE_THRESHOLD
    iou: float = MATCH_IOU

    def labelled(self, category: int) -> int:
        """Return how many objects of a category are labelled."""
        return sum(count for (truth, _), count in self.counts.items() if truth == category)

    def mistakes(self) -> list[tuple[int, int, int]]:
        """Return (labelled, found, count) of the classes taken for another."""
        wrong = [
            (truth, found, count) for (truth, found), count in self.counts.items()
            if truth != found and NOTHING not in (truth, found)
        ]
        return sorted(wrong, key=lambda each: (-each[2], each[0], each[1]))


def count_confusions(
    records: Iterable[Mapping[str, Any]],
    annotations: CocoAnnotations,
    images: Sequence[CocoImage],
    categories: Categories,
) -> Confusions:
    """
    Pair the detections of each image with its labels, whatever their class, best overlap first.

    A detection within a crowd counts as nothing, as COCO has it.

    Parameters
    ----------
    records
        In COCO's result format.
    annotations, images, categories
        What is labelled, and what the model has classes for.

    """
    labels: dict[int, list[tuple[Label, int]]] = defaultdict(list)
    for label, category in annotations.objects_in(images, categories):
        labels[label.image_id].append((label, category))
    found: dict[int, dict[tuple[float, ...], Mapping[str, Any]]] = defaultdict(dict)
    for record in sorted(records, key=lambda each: -each['score']):
        if record['score'] >= SCORE_THRESHOLD:  # of a box with several classes, the best one
            found[record['image_id']].setdefault(tuple(record['bbox']), record)
    counts: Counter[tuple[int, int]] = Counter()
    for image in images:
        counts.update(_pairs(labels[image.image_id], list(found[image.image_id].values())))
    used = {category for pair in counts for category in pair} - {NOTHING}
    return Confusions(dict(counts), {each: annotations.name_of(each) for each in sorted(used)})


def _pairs(
    labels: Sequence[tuple[Label, int]], found: Sequence[Mapping[str, Any]]
) -> list[tuple[int, int]]:
    """Return what was found for each label of an image, and what was found besides."""
    objects = [(label, category) for label, category in labels if not label.is_crowd]
    crowds = [label for label, _ in labels if label.is_crowd]
    truth = _corners([label.box_xywh for label, _ in objects])
    boxes = _corners([record['bbox'] for record in found])
    partner = _match(box_iou(boxes, truth), np.array(
        [[record['category_id'] == category for _, category in objects] for record in found],
        bool,
    ).reshape(len(found), len(objects)))
    missed = set(range(len(objects))) - set(partner.values())
    in_crowd = _within(boxes, _corners([label.box_xywh for label in crowds]))
    return [
        *((objects[label][1], int(found[index]['category_id']))
          for index, label in partner.items()),
        *((objects[label][1], NOTHING) for label in sorted(missed)),
        *((NOTHING, int(record['category_id'])) for index, record in enumerate(found)
          if index not in partner and not in_crowd[index]),
    ]


def _match(iou: NDArray[np.float32], same: NDArray[np.bool_]) -> dict[int, int]:
    """Return the label of each detection that has one; of the same class first, then by IoU."""
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for wanted in (same, ~same):
        rows, columns = np.nonzero((iou >= MATCH_IOU) & wanted)
        for place in np.argsort(-iou[rows, columns], kind='stable').tolist():
            index, label = int(rows[place]), int(columns[place])
            if index not in partner and label not in taken:
                partner[index] = label
                taken.add(label)
    return partner


def _corners(boxes_xywh: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    boxes = np.array(boxes_xywh, np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _within(boxes: NDArray[np.float32], crowds: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which boxes (n, 4) lie by half or more in one of some crowds (m, 4)."""
    upper = np.maximum(boxes[:, None, :2], crowds[None, :, :2])
    lower = np.minimum(boxes[:, None, 2:], crowds[None, :, 2:])
    shared = np.clip(lower - upper, 0, None).prod(axis=2)
    area = np.clip(boxes[:, 2:] - boxes[:, :2], 1e-6, None).prod(axis=1)
    inside: NDArray[np.bool_] = (shared >= 0.5 * area[:, None]).any(axis=1)
    return inside
