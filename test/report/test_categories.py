from __future__ import annotations

import pytest

from yolov7_trt_ros.core.class_names import COCO80, COCO80_CATEGORY_IDS
from yolov7_trt_ros.errors import ModelLayoutError
from yolov7_trt_ros.report.accuracy.categories import match_categories

COCO_FILE = dict(zip(COCO80_CATEGORY_IDS, COCO80, strict=True))


def test_coco_on_coco() -> None:
    found = match_categories(COCO80, COCO_FILE)
    assert found.ids == COCO80_CATEGORY_IDS
    assert found.left_out == ()
    assert found.warnings() == []
    assert match_categories((), COCO_FILE).ids == found.ids
    assert 'no class names' in match_categories((), COCO_FILE).warnings()[0]


def test_coco_by_its_numbers() -> None:
    nameless = dict.fromkeys(COCO80_CATEGORY_IDS, '')
    assert match_categories(COCO80, nameless).ids == COCO80_CATEGORY_IDS
    darknet = {'airplane': 'aeroplane', 'couch': 'sofa', 'tv': 'tvmonitor'}
    old = [darknet.get(name, name) for name in COCO80]
    assert match_categories(old, COCO_FILE).ids == COCO80_CATEGORY_IDS
    assert match_categories(COCO80, {3: ''}).measured == [3]
    assert 'the categories have no names' in match_categories(COCO80, {3: ''}).warnings()[0]


def test_an_own_model_on_own_labels() -> None:
    labels = {1: 'Fork-Lift', 2: 'pallet', 7: 'person', 8: 'shelf'}
    found = match_categories(('person', 'fork_lift', 'drone'), labels)
    assert found.ids == (7, 1, None)
    assert [found.of(number) for number in (-1, 0, 1, 2, 3)] == [None, 7, 1, None, None]
    assert found.measured == [1, 7]
    assert found.left_out == ('pallet', 'shelf')
    (warning,) = found.warnings()
    assert '2 of the labelled categories are not measured' in warning
    assert warning.endswith('pallet, shelf')


def test_numbers_alone_make_no_category_of_coco() -> None:
    """Number 1 is a person in COCO and a pallet here."""
    found = match_categories(COCO80, {1: 'pallet', 2: 'person'})
    assert found.ids[COCO80.index('person')] == 2
    assert found.measured == [2]
    assert found.left_out == ('pallet',)
    more = {number: COCO_FILE[number] for number in (1, 2, 3, 4)} | {5: 'drone'}
    found = match_categories(COCO80, more)
    assert (found.measured, found.left_out) == ([1, 2, 3, 4], ('drone',))
    with pytest.raises(ModelLayoutError, match=r'none of .*\(person, bicycle, .*\(pallet\)'):
        match_categories(COCO80, {1: 'pallet'})


def test_empty_names_are_none() -> None:
    with pytest.raises(ModelLayoutError, match='none of the classes'):
        match_categories([''], {1: ''})


def test_names_of_signs_and_of_composed_letters() -> None:
    found = match_categories(('-', '_', 'K\u00e4fer'), {4: '_', 5: '-', 6: 'Ka\u0308fer'})
    assert found.ids == (5, 4, 6)
