from __future__ import annotations

import json
from pathlib import Path

from damaged_files import bounded
import numpy as np
import pytest

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.report.accuracy.categories import Categories
from yolov7_trt_ros.report.accuracy.coco import coco_records, CocoAnnotations, evaluate_coco
from yolov7_trt_ros.report.accuracy.labels import CocoImage

PERSON, CAR = 1, 3
SIZE_WH = (100, 100)
KNOWN = Categories((PERSON, None, CAR))


@pytest.fixture
def annotations(tmp_path: Path) -> CocoAnnotations:
    """Image 7 shows a person and a car, image 8 a person, image 9 nothing."""
    labels = [
        (7, PERSON, [10, 10, 20, 40]), (7, CAR, [50, 50, 30, 20]), (8, PERSON, [5, 5, 50, 50])
    ]
    path = tmp_path / 'instances.json'
    path.write_text(json.dumps({
        'images': [{'id': n, 'file_name': f'{n}.jpg', 'width': 100, 'height': 100}
                   for n in (7, 8, 9)],
        'annotations': [
            {'id': n + 1, 'image_id': image, 'category_id': category, 'bbox': box,
             'area': box[2] * box[3], 'iscrowd': 0}
            for n, (image, category, box) in enumerate(labels)
        ],
        'categories': [{'id': PERSON, 'name': 'person'}, {'id': CAR, 'name': 'car'}],
    }))
    return CocoAnnotations(path)


def images_of(annotations: CocoAnnotations, *numbers: int) -> list[CocoImage]:
    return [image for image in annotations.images if image.image_id in numbers]


def found(*items: tuple[list[float], float, int]) -> Detections:
    boxes = np.array([item[0] for item in items], np.float32).reshape(-1, 4)
    return Detections(
        boxes, np.array([item[1] for item in items], np.float32),
        np.array([item[2] for item in items], np.int32), SIZE_WH,
    )


PERFECT_7 = (([10, 10, 30, 50], 0.9, 0), ([50, 50, 80, 70], 0.8, 2))
PERFECT_8 = (([5, 5, 55, 55], 0.9, 0),)


def test_records_use_corner_and_size_and_coco_ids() -> None:
    first, second = coco_records(7, found(*PERFECT_7), KNOWN)
    assert first == {'image_id': 7, 'category_id': PERSON, 'bbox': [10, 10, 20, 40],
                     'score': pytest.approx(0.9)}
    assert second['category_id'] == CAR


def test_classes_without_a_category_are_left_out() -> None:
    found_of_others = found(*(([0, 0, 1, 1], 0.5, number) for number in (1, 3, 80, -1)))
    assert coco_records(7, found_of_others, KNOWN) == []


def test_categories_that_the_model_has_not_count_for_nothing(annotations: CocoAnnotations) -> None:
    cars = annotations.categories_of(['Car'])
    assert (cars.ids, cars.left_out) == ((CAR,), ('person',))
    box, score, _ = PERFECT_7[1]
    result = evaluate_coco(
        coco_records(7, found((box, score, 0)), cars), annotations,
        images_of(annotations, 7, 8), cars,
    )
    assert result['ap50'] == 1.0
    assert list(result['per_class']) == ['car']


def test_everything_found(
    annotations: CocoAnnotations, capsys: pytest.CaptureFixture[str]
) -> None:
    records = coco_records(7, found(*PERFECT_7), KNOWN) + coco_records(8, found(*PERFECT_8), KNOWN)
    result = evaluate_coco(records, annotations, images_of(annotations, 7, 8, 9), KNOWN)
    assert result['ap'] == result['ap50'] == 1.0
    assert result['per_class'] == {
        'person': {'ap': 1.0, 'ap50': 1.0, 'instances': 2},
        'car': {'ap': 1.0, 'ap50': 1.0, 'instances': 1},
    }
    assert capsys.readouterr().out == ''


def test_one_of_two_persons_missed(annotations: CocoAnnotations) -> None:
    records = coco_records(7, found(*PERFECT_7), KNOWN)
    result = evaluate_coco(records, annotations, images_of(annotations, 7, 8), KNOWN)
    assert result['per_class']['person']['ap50'] == pytest.approx(0.505, abs=0.001)
    assert result['per_class']['car']['ap50'] == 1.0


def test_nothing_found(annotations: CocoAnnotations) -> None:
    result = evaluate_coco([], annotations, images_of(annotations, 7, 8), KNOWN)
    assert result['ap'] == result['ap50'] == 0.0


def test_only_the_given_images_count(annotations: CocoAnnotations) -> None:
    records = coco_records(7, found(*PERFECT_7), KNOWN)
    result = evaluate_coco(records, annotations, images_of(annotations, 7), KNOWN)
    assert result['ap'] == 1.0
    assert result['per_class']['person']['instances'] == 1


def test_images_without_labels_have_no_average_precision(annotations: CocoAnnotations) -> None:
    with pytest.raises(InputError, match='labels nothing of the 2 categories .* in the 1 images'):
        evaluate_coco([], annotations, images_of(annotations, 9), KNOWN)


def test_the_work_follows_the_labels_not_images_times_categories(tmp_path: Path) -> None:
    """Pairs of an image and a category without either are not looked at: 19 s and 1.4 GB here."""
    path = tmp_path / 'many.json'
    path.write_text(json.dumps({
        'images': [{'id': n, 'file_name': f'{n}.jpg', 'width': 100, 'height': 100}
                   for n in range(5000)],
        'annotations': [{'image_id': n, 'category_id': n % 500, 'bbox': [5, 5, 50, 50]}
                        for n in range(5000)],
        'categories': [{'id': n, 'name': f'thing {n}'} for n in range(500)],
    }))
    annotations = CocoAnnotations(path)
    categories = annotations.categories_of([f'thing {n}' for n in range(500)])
    records = coco_records(0, found(*PERFECT_8), categories)
    with bounded():
        result = evaluate_coco(records, annotations, annotations.images, categories)
    assert len(result['per_class']) == 500
    assert result['per_class']['thing 0']['ap50'] == pytest.approx(0.109, abs=0.001)


@pytest.mark.parametrize('change', [
    {'bbox': None}, {'bbox': [1, 2, 3]}, {'bbox': [1, 2, 3, 'x']},
])
def test_labels_without_a_box_are_refused_before_any_image_is_detected(
    annotations: CocoAnnotations, change: dict[str, object]
) -> None:
    record = json.loads(annotations.path.read_text())
    item = record['annotations'][1]
    for name, value in change.items():
        if value is None:
            del item[name]
        else:
            item[name] = value
    annotations.path.write_text(json.dumps(record))
    with pytest.raises(InputError, match='not an annotation file in COCO instances format'):
        CocoAnnotations(annotations.path)


def test_what_other_tools_leave_out_is_put_in(annotations: CocoAnnotations) -> None:
    record = json.loads(annotations.path.read_text())
    for item in record['annotations']:
        del item['area'], item['iscrowd']
    annotations.path.write_text(json.dumps(record))
    again = CocoAnnotations(annotations.path)
    records = coco_records(7, found(*PERFECT_7), KNOWN)
    result = evaluate_coco(records, again, images_of(again, 7), KNOWN)
    assert result['ap'] == 1.0 and result['per_class']['car']['instances'] == 1


@pytest.mark.parametrize('text', [
    '', '{', '{"images": [], "annotations": []}', '[]', '{}', '{"images": 3}', '{"images": [{}]}',
])
def test_a_file_that_is_no_annotation_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'bad.json'
    path.write_text(text)
    with pytest.raises(InputError, match='bad.json'):
        CocoAnnotations(path)
    with pytest.raises(InputError, match='cannot be read: No such file'):
        CocoAnnotations(tmp_path / 'missing.json')
