"""Which class was found where which is labelled, on cases worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from yolov7_trt_ros.report.accuracy.categories import Categories
from yolov7_trt_ros.report.accuracy.coco import CocoAnnotations
from yolov7_trt_ros.report.accuracy.confusion import Confusions, count_confusions, NOTHING

CAT, DOG = 1, 2
A, B = [10, 10, 40, 40], [60, 60, 30, 30]


def counted(
    tmp_path: Path, labels: list[tuple[int, list[float], int]],
    found: list[tuple[int, list[float], float]],
) -> dict[tuple[int, int], int]:
    """Count over one image: labels are (category, box, crowd), found (category, box, score)."""
    path = tmp_path / 'labels.json'
    path.write_text(json.dumps({
        'images': [{'id': 1, 'file_name': '1.jpg', 'width': 100, 'height': 100}],
        'annotations': [
            {'id': number, 'image_id': 1, 'category_id': category, 'bbox': box, 'iscrowd': crowd}
            for number, (category, box, crowd) in enumerate(labels, 1)
        ],
        'categories': [{'id': CAT, 'name': 'cat'}, {'id': DOG, 'name': 'dog'}],
    }))
    annotations = CocoAnnotations(path)
    records: list[dict[str, Any]] = [
        {'image_id': 1, 'category_id': category, 'bbox': box, 'score': score}
        for category, box, score in found
    ]
    return dict(count_confusions(records, annotations, annotations.images,
                                 Categories((CAT, DOG))).counts)


@pytest.mark.parametrize(('labels', 'found', 'expected'), [
    ([(CAT, A, 0)], [(CAT, A, 0.9)], {(CAT, CAT): 1}),
    ([(CAT, A, 0)], [(DOG, A, 0.9)], {(CAT, DOG): 1}),
    ([(CAT, A, 0)], [(CAT, A, 0.2)], {(CAT, NOTHING): 1}),  # not sure enough
    ([(CAT, A, 0)], [(CAT, B, 0.9)], {(CAT, NOTHING): 1, (NOTHING, CAT): 1}),
    # of a box with two classes the better one counts, and the right class wins over overlap
    ([(CAT, A, 0)], [(DOG, A, 0.4), (CAT, A, 0.8)], {(CAT, CAT): 1}),
    ([(CAT, A, 0)], [(DOG, A, 0.9), (CAT, [12, 12, 40, 40], 0.5)],
     {(CAT, CAT): 1, (NOTHING, DOG): 1}),
    ([(CAT, A, 0), (CAT, B, 0)], [(CAT, A, 0.9), (CAT, A, 0.8)],
     {(CAT, CAT): 1, (CAT, NOTHING): 1}),
    # in a crowd nothing counts as wrong
    ([(CAT, A, 0), (DOG, B, 1)], [(CAT, A, 0.9), (CAT, [62, 62, 10, 10], 0.9)], {(CAT, CAT): 1}),
])
def test_counts(
    tmp_path: Path, labels: list[tuple[int, list[float], int]],
    found: list[tuple[int, list[float], float]], expected: dict[tuple[int, int], int],
) -> None:
    assert counted(tmp_path, labels, found) == expected


def test_mistakes_are_of_two_classes_and_the_most_frequent_come_first() -> None:
    found = Confusions(
        {(CAT, DOG): 2, (DOG, CAT): 7, (CAT, CAT): 9, (NOTHING, CAT): 8, (DOG, NOTHING): 8}, {})
    assert found.mistakes() == [(DOG, CAT, 7), (CAT, DOG, 2)]
    assert (found.labelled(CAT), found.labelled(DOG)) == (11, 15)
