"""COCO average precision, computed by pycocotools."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import contextlib
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.errors import InputError, MissingDependencyError
from yolov7_trt_ros.report.categories import Categories, match_categories

_IOU_50 = 0
_ALL_AREAS = 0
_MOST_DETECTIONS = -1


@dataclasses.dataclass(frozen=True)
class CocoImage:
    """An image of an annotation file."""

    image_id: int
    file_name: str


class CocoAnnotations:
    """
    An annotation file in COCO's instances format.

    Raises
    ------
    MissingDependencyError
        pycocotools is not installed.
    InputError
        The file cannot be read or is not in that format.

    """

    def __init__(self, path: Path) -> None:
        try:
            from pycocotools.coco import COCO
        except ImportError as exc:
            raise MissingDependencyError(
                f'average precision needs pycocotools ({exc}); install it with: '
                'pip install pycocotools'
            ) from exc
        self.path = path
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self.coco: Any = COCO(str(path))
            self.images = [
                CocoImage(int(image['id']), str(image['file_name']))
                for image in self.coco.dataset['images']
            ]
            self._names = {
                int(number): str(category.get('name') or '')
                for number, category in self.coco.cats.items()
            }
            _check_labels(self.coco.dataset)
        except OSError as exc:
            raise InputError(f'cannot read {path}: {exc.strerror}') from exc
        except (ValueError, KeyError, TypeError, AssertionError) as exc:
            raise InputError(
                f'{path} is not an annotation file in COCO instances format: {exc!r}'
            ) from exc

    def categories_of(self, class_names: Sequence[str]) -> Categories:
        """
        Return which category each class of a model is.

        Raises
        ------
        ModelLayoutError
            None of the names is a category.

        """
        return match_categories(class_names, self._names)

    def name_of(self, category: int) -> str:
        """Return the name of a category, its number where it has none."""
        return self._names.get(category) or str(category)


def _check_labels(dataset: dict[str, Any]) -> None:
    """
    Raise KeyError or ValueError where pycocotools would stumble after all images are done.

    What other tools leave out is put in: `iscrowd`, and `area`, on which neither AP nor AP50
    depends.

    """
    dataset['categories']
    for item in dataset.get('annotations', ()):
        box = item['bbox']
        if not (isinstance(box, list) and len(box) == 4
                and all(isinstance(side, (int, float)) for side in box)):
            raise ValueError(f'bbox of annotation {item["id"]} must be [x, y, width, height], '
                             f'got {str(box)[:40]}')
        item.setdefault('iscrowd', 0)
        item.setdefault('area', box[2] * box[3])
        if not isinstance(item['area'], (int, float)):
            raise ValueError(f'area of annotation {item["id"]} must be a number')


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


def evaluate_coco(
    records: Iterable[dict[str, Any]],
    annotations: CocoAnnotations,
    image_ids: Sequence[int],
    categories: Categories,
) -> dict[str, Any]:
    """
    Compute average precision over some images and the categories that the model has.

    Returns
    -------
    dict
        `ap` (IoU 0.50:0.95), `ap50`, and `per_class`: name to `ap`, `ap50` and `instances`
        (labelled objects, crowds not counted), for the classes that occur in these images.

    Raises
    ------
    InputError
        Nothing is labelled in these images, so there is no average precision.

    """
    from pycocotools.cocoeval import COCOeval

    results = list(records)
    if not results:
        results = [  # pycocotools refuses an empty list; a box that cannot match changes nothing
            {'image_id': image_ids[0], 'category_id': categories.measured[0],
             'bbox': [0, 0, 0, 0], 'score': 0.0}
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(annotations.coco, annotations.coco.loadRes(results), 'bbox')
        evaluation.params.imgIds = sorted(image_ids)
        evaluation.params.catIds = categories.measured
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval['precision']  # [IoU, recall, class, area, most detections]
    counts = _instances(annotations.coco, image_ids)
    if evaluation.stats[0] < 0:  # pycocotools' word for none
        raise InputError(
            f'{annotations.path} labels nothing of the {len(categories.measured)} categories that '
            f'the model has in the {len(image_ids)} images, so there is no average precision; '
            'give images with labels'
        )
    per_class = {}
    for index, category in enumerate(evaluation.params.catIds):
        if counts.get(category):
            values = precision[:, :, index, _ALL_AREAS, _MOST_DETECTIONS]
            per_class[annotations.name_of(category)] = {
                'ap': _mean(values), 'ap50': _mean(values[_IOU_50]), 'instances': counts[category]
            }
    return {
        'ap': round(float(evaluation.stats[0]), 5),
        'ap50': round(float(evaluation.stats[1]), 5),
        'per_class': per_class,
    }


def _instances(coco: Any, image_ids: Sequence[int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for item in coco.loadAnns(coco.getAnnIds(imgIds=list(image_ids), iscrowd=False)):
        counts[item['category_id']] = counts.get(item['category_id'], 0) + 1
    return counts


def _mean(precision: Any) -> float:
    known = precision[precision > -1]
    return round(float(known.mean()), 5) if known.size else 0.0
