"""COCO average precision, computed by pycocotools."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
import contextlib
import dataclasses
import io
from pathlib import Path
import posixpath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.errors import InputError, MissingDependencyError
from yolov7_trt_ros.report.accuracy.categories import Categories, match_categories
from yolov7_trt_ros.report.accuracy.label_file import read_label_file
from yolov7_trt_ros.report.accuracy.labels import CocoImage, Label, parse_labels

_IOU_50 = 0
_ALL_AREAS = [0, 1e10]
_MOST_DETECTIONS = 100


class CocoAnnotations:
    """
    An annotation file in COCO's instances format.

    Attributes
    ----------
    images
        Each file once.
    labels
        Labelled objects of each image, by its number; crowds are among them.
    warnings
        What was interpreted differently than written, and what was left out.

    Raises
    ------
    MissingDependencyError
        pycocotools is not installed.
    InputError
        The file cannot be read or is not in that format.

    """

    def __init__(self, path: Path) -> None:
        try:
            import pycocotools.cocoeval  # noqa: F401  (better to know before the work)
        except ImportError as exc:
            raise MissingDependencyError(
                f'average precision needs pycocotools ({exc}); install it with: '
                'pip install pycocotools'
            ) from exc
        self.path = path
        try:
            found = parse_labels(read_label_file(path))
        except InputError as exc:
            raise InputError(
                f'{path} is not an annotation file in COCO instances format: {exc}'
            ) from exc
        self.images = found.images
        self.warnings = tuple(f'{path.name}: {note}' for note in found.warnings)
        self.labels: dict[int, list[Label]] = {image.image_id: [] for image in found.images}
        for label in found.labels:
            self.labels[label.image_id].append(label)
        self._names = found.names
        self._counts = Counter(label.category_id for label in found.labels)
        self._by_name = _by_name(found.images)

    def categories_of(self, class_names: Sequence[str]) -> Categories:
        """
        Return the category of each class of a model.

        Raises
        ------
        ModelLayoutError
            None of the names is a category.

        """
        return match_categories(class_names, self._names, self._counts)

    def name_of(self, category: int) -> str:
        """Return the name of a category, or its number if it has none."""
        return self._names.get(category) or str(category)

    def image_of(self, file_name: str) -> CocoImage | None:
        """Return the image of a file; the folder may be omitted if the name is unique."""
        return self._by_name.get(file_name)

    def objects_in(
        self, images: Iterable[CocoImage], categories: Categories
    ) -> list[tuple[Label, int]]:
        """
        Return the labels of some images that a model has a class for, each with its category.

        Raises
        ------
        InputError
            There are none but crowds, so there is no average precision.

        """
        images = list(images)
        counted = {number: categories.category_of(number) for number in self._names}
        found = [
            (label, category)
            for image in images
            for label in self.labels[image.image_id]
            if (category := counted[label.category_id]) is not None
        ]
        if all(label.is_crowd for label, _ in found):
            raise InputError(
                f'{self.path} labels nothing of the {len(categories.measured)} categories that '
                f'the model has in the {len(images)} images, so there is no average precision; '
                'give images with labels'
            )
        return found


def _by_name(images: Sequence[CocoImage]) -> dict[str, CocoImage]:
    """Return images by path as in the file, and by file name where that is unique."""
    alone = Counter(posixpath.basename(image.file_name) for image in images)
    found = {
        name: image
        for image in images
        if alone[name := posixpath.basename(image.file_name)] == 1
    }
    return found | {image.file_name: image for image in images}


def coco_records(
    image_id: int, detections: Detections, categories: Categories
) -> list[dict[str, Any]]:
    """
    Return the detections of one image in COCO's result format.

    Boxes are [x, y, width, height] in source pixels. Classes without a category are left out.

    """
    return [
        {
            'image_id': image_id,
            'category_id': category,
            'bbox': [left, top, right - left, bottom - top],
            'score': score,
        }
        for (left, top, right, bottom), score, class_id in zip(
            detections.boxes_xyxy.astype(np.float64).tolist(),
            detections.scores.tolist(),
            detections.class_ids.tolist(),
            strict=True,
        )
        if (category := categories.of(class_id)) is not None
    ]


@dataclasses.dataclass(frozen=True, eq=False)
class ClassPrecision:
    """
    Precision of one category.

    Attributes
    ----------
    name, instances
        Of the category, and how many objects are labelled, crowds not counted.
    precision
        (10, 101) by IoU 0.50:0.95 and recall 0:1; made to fall with the recall.
    scores
        (101,) the least score that reaches each recall at IoU 0.5; 0 where none does.

    """

    name: str
    instances: int
    precision: NDArray[np.float64]
    scores: NDArray[np.float64]


def evaluate_coco(
    records: Iterable[dict[str, Any]],
    annotations: CocoAnnotations,
    images: Sequence[CocoImage],
    categories: Categories,
) -> dict[str, Any]:
    """
    Compute average precision over some images and the categories that the model has.

    Raises
    ------
    InputError
        Nothing is labelled in these images, so there is no average precision.

    """
    return precision_record(class_precisions(records, annotations, images, categories))


def precision_record(found: Sequence[ClassPrecision]) -> dict[str, Any]:
    """
    Return average precision, JSON-ready.

    `ap` (IoU 0.50:0.95), `ap50`, and `per_class`: name to `ap`, `ap50` and `instances`.

    """
    whole = np.stack([each.precision for each in found])
    return {
        'ap': _mean(whole),
        'ap50': _mean(whole[:, _IOU_50]),
        'per_class': {
            each.name: {'ap': _mean(each.precision), 'ap50': _mean(each.precision[_IOU_50]),
                        'instances': each.instances}
            for each in found
        },
    }


def class_precisions(
    records: Iterable[dict[str, Any]],
    annotations: CocoAnnotations,
    images: Sequence[CocoImage],
    categories: Categories,
) -> list[ClassPrecision]:
    """
    Return the precision of each category that is labelled in some images and that the model has.

    Raises
    ------
    InputError
        Nothing is labelled in these images, so there is no average precision.

    """
    truth: dict[int, list[Label]] = defaultdict(list)
    for label, category in annotations.objects_in(images, categories):
        truth[category].append(label)
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        found[record['category_id']].append(record)
    instances = {
        category: sum(not label.is_crowd for label in truth[category])
        for category in sorted(truth)
    }
    return [
        ClassPrecision(annotations.name_of(category), count,
                       *_precision(truth[category], found[category], category))
        for category, count in instances.items() if count
    ]


def _precision(
    labels: Sequence[Label], found: list[dict[str, Any]], category: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Return the precision of one category by IoU and recall, and the scores at IoU 0.5.

    One category and its images at a time: pycocotools keeps something for every pair of a category
    and an image, be there anything of it or not.

    """
    from pycocotools.cocoeval import COCOeval

    if not found:  # pycocotools refuses an empty list; a box that cannot match changes nothing
        found = [{'image_id': labels[0].image_id, 'category_id': category,
                  'bbox': [0, 0, 0, 0], 'score': 0.0}]
    images = {label.image_id for label in labels} | {record['image_id'] for record in found}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _index(sorted(images), labels, category)
        evaluation = COCOeval(truth, truth.loadRes(found), 'bbox')
        evaluation.params.areaRng = [_ALL_AREAS]
        evaluation.params.areaRngLbl = ['all']
        evaluation.params.maxDets = [_MOST_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    result = evaluation.eval
    return result['precision'][:, :, 0, 0, 0], result['scores'][_IOU_50, :, 0, 0, 0]


def _index(image_ids: Sequence[int], labels: Sequence[Label], category: int) -> Any:
    """
    Return pycocotools' index of the labels of one category.

    They are numbered here from 1 on: pycocotools takes an object with the number 0 for one that
    was not found, and of two with the same number keeps one.

    """
    from pycocotools.coco import COCO

    index = COCO()
    index.dataset = {
        'images': [{'id': number} for number in image_ids],
        'categories': [{'id': category}],
        'annotations': [
            {
                'id': number, 'image_id': label.image_id, 'category_id': category,
                'bbox': list(label.box_xywh), 'iscrowd': int(label.is_crowd),
                'area': min(label.box_xywh[2] * label.box_xywh[3], _ALL_AREAS[1]),
            }
            for number, label in enumerate(labels, 1)
        ],
    }
    index.createIndex()
    return index


def _mean(precision: Any) -> float:
    return round(float(precision.mean()), 5)
