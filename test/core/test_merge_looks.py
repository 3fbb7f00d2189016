"""Laws of what both looks show together: each object once, and nothing sure is lost."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.core.boxes import box_iou
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.looks.crops import choose_crops, Crop, CropShape, tile
from yolov7_trt_ros.core.looks.merge_looks import Look, merge_looks, SAME_IOU
from yolov7_trt_ros.testing import make_detections

WH = (400, 300)
SHAPE = CropShape(128, 10)
ASKED = DetectSettings(score_threshold=0.25)
SURE = 0.6


@st.composite
def scenes(draw):
    """Return objects that are apart, of three classes, some larger than a crop."""
    boxes: list[list[float]] = []
    for _ in range(draw(st.integers(1, 8))):
        width, height = draw(st.floats(8, 180)), draw(st.floats(8, 180))
        left, top = draw(st.floats(0, WH[0] - width)), draw(st.floats(0, WH[1] - height))
        boxes.append([left, top, left + width, top + height])
    kept: list[list[float]] = []
    for box in boxes:  # objects of one class that lie in one another are another matter
        wide = np.array([[box[0] - 4, box[1] - 4, box[2] + 4, box[3] + 4]], np.float32)
        if not kept or not box_iou(wide, np.array(kept, np.float32)).any():
            kept.append(box)
    return [(box, draw(st.integers(0, 2))) for box in kept]


def shown(scene, crop, draw_score, jitter=None):
    """Return what a perfect detector finds in a crop: what is visible of each object in it."""
    found = []
    for index, (box, class_id) in enumerate(scene):
        near = np.array(box) + (0 if jitter is None else jitter[index])
        low = np.maximum(near[:2], crop[:2]) - crop[:2]
        high = np.minimum(near[2:], crop[2:]) - crop[:2]
        if (high - low > 3).all():
            found.append(([*low, *high], draw_score(index), class_id))
    found.sort(key=lambda each: -each[1])
    return make_detections((crop[2] - crop[0], crop[3] - crop[1]), *found)


@settings(deadline=None, max_examples=60)
@given(scenes(), st.data())
def test_no_object_is_found_twice_at_the_border_of_a_crop(scene, data):
    places = st.tuples(st.integers(0, 136), st.integers(0, 86)).map(
        lambda place: Crop(2 * place[0], 2 * place[1], 2 * place[0] + 128, 2 * place[1] + 128)
    )
    crops = data.draw(st.lists(places, max_size=4) | st.just(tile(WH, SHAPE)))
    scores = st.floats(0.3, 1.0)
    jitter = np.array(data.draw(st.lists(
        st.lists(st.floats(-1, 1), min_size=4, max_size=4),
        min_size=len(scene), max_size=len(scene),
    )))
    first = shown(scene, (0, 0, *WH), lambda _: data.draw(scores))
    looks = [Look(crop, shown(scene, crop, lambda _: data.draw(scores), jitter)) for crop in crops]
    merged = merge_looks(first, looks, ASKED, SURE)
    truth = np.array([box for box, _ in scene], np.float32)
    assert len(merged) == len(scene)
    overlap = box_iou(merged.boxes_xyxy, truth)
    assert sorted(overlap.argmax(axis=1)) == list(range(len(scene)))
    assert (overlap.max(axis=1) >= SAME_IOU).all()
    class_ids = np.array([class_id for _, class_id in scene])
    assert (merged.class_ids == class_ids[overlap.argmax(axis=1)]).all()


def detections(wh):
    """Return a strategy for anything that an engine may find in an image."""
    box = st.tuples(
        st.floats(0, wh[0] - 8), st.floats(0, wh[1] - 8), st.floats(2, 120), st.floats(2, 120)
    ).map(lambda each: (
        each[0], each[1], min(each[0] + each[2], wh[0]), min(each[1] + each[3], wh[1])
    ))
    one = st.tuples(box, st.floats(0.05, 1.0), st.integers(0, 2))
    return st.lists(one, max_size=10).map(
        lambda found: make_detections(wh, *sorted(found, key=lambda each: -each[1]))
    )


ANY_LOOK = st.tuples(st.integers(0, 136), st.integers(0, 86), detections((128, 128))).map(
    lambda each: Look(
        Crop(2 * each[0], 2 * each[1], 2 * each[0] + 128, 2 * each[1] + 128), each[2]
    )
)


@settings(deadline=None, max_examples=60)
@given(detections(WH), st.lists(ANY_LOOK, max_size=3))
def test_nothing_is_lost_that_the_first_look_was_sure_of(first, looks):
    merged = merge_looks(first, looks, ASKED, SURE)
    for box, score, class_id in zip(
        first.boxes_xyxy, first.scores, first.class_ids, strict=True
    ):
        if score < SURE:
            continue
        same = merged.class_ids == class_id
        overlap = box_iou(merged.boxes_xyxy[same], box[None])[:, 0]
        # itself, or better boxes: of its partner, and of what that one overlaps
        assert (overlap > 0).any()
        assert merged.scores[same][overlap > 0].max() >= score


@settings(deadline=None, max_examples=40)
@given(detections(WH), st.lists(ANY_LOOK, max_size=3))
def test_the_result_keeps_to_its_settings_and_is_the_same_each_time(first, looks):
    asked = DetectSettings(score_threshold=0.3, iou_threshold=0.4, max_detections=5)
    merged = merge_looks(first, looks, asked, SURE)
    again = merge_looks(first, looks, asked, SURE)
    assert len(merged) <= 5 and (merged.scores >= np.float32(0.3)).all()
    assert (np.diff(merged.scores) <= 0).all()
    assert merged.source_wh == WH
    overlap = box_iou(merged.boxes_xyxy, merged.boxes_xyxy)
    same = merged.class_ids[:, None] == merged.class_ids[None, :]
    np.fill_diagonal(same, False)
    assert (overlap[same] <= 0.4 + 1e-5).all()
    for left, right in zip(vars(merged).values(), vars(again).values(), strict=True):
        assert np.array_equal(left, right)
    boxes = merged.boxes_xyxy
    assert (boxes >= 0).all() and (boxes <= np.array([*WH, *WH])).all()


@given(detections(WH))
def test_without_crops_the_first_look_stands(first):
    merged = merge_looks(first, [], DetectSettings(score_threshold=0, iou_threshold=1), SURE)
    assert np.array_equal(merged.scores, first.scores)
    assert np.array_equal(merged.boxes_xyxy, first.boxes_xyxy)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_what_crops_are_placed_for_is_not_cut_by_them(data):
    scene = data.draw(scenes())
    small = [each for each in scene if max(np.subtract(each[0][2:], each[0][:2])) <= 100]
    assume(small)
    boxes = np.array([box for box, _ in small], np.float32)
    crops = choose_crops(boxes, np.full(len(boxes), 0.2, np.float32), WH, SHAPE, 8)
    looks = [Look(crop, shown(small, crop, lambda _: 0.9)) for crop in crops]
    merged = merge_looks(make_detections(WH), looks, ASKED, SURE)
    assert len(merged) == len(small)


BORDER = Crop(0, 0, 128, 300)


@pytest.mark.parametrize(('first', 'second', 'expected'), [
    # one object in both: the box of the crop, the mean where its score is lower
    (((10, 10, 50, 50), 0.5, 0), ((12, 12, 50, 50), 0.4, 0), [((12, 12, 50, 50), 0.45, 0)]),
    (((10, 10, 50, 50), 0.5, 0), ((12, 12, 50, 50), 0.9, 0), [((12, 12, 50, 50), 0.9, 0)]),
    # the first look was sure
    (((10, 10, 50, 50), 0.8, 0), ((12, 12, 50, 50), 0.1, 0), [((12, 12, 50, 50), 0.8, 0)]),
    # another class is another object
    (((10, 10, 50, 50), 0.5, 0), ((10, 10, 50, 50), 0.4, 1),
     [((10, 10, 50, 50), 0.5, 0), ((10, 10, 50, 50), 0.4, 1)]),
    # cut by the border
    (((10, 10, 200, 50), 0.5, 0), ((10, 10, 126, 50), 0.9, 0), [((10, 10, 200, 50), 0.5, 0)]),
    # near the border, and part of what goes on beyond it
    (((10, 10, 290, 50), 0.5, 0), ((12, 10, 115, 50), 0.9, 0), [((10, 10, 290, 50), 0.5, 0)]),
    # near the border, and on its own
    (((200, 10, 290, 50), 0.5, 0), ((60, 10, 115, 50), 0.9, 0),
     [((60, 10, 115, 50), 0.9, 0), ((200, 10, 290, 50), 0.5, 0)]),
])
def test_rules(first, second, expected):
    look = Look(BORDER, make_detections((128, 300), second))
    merged = merge_looks(make_detections(WH, first), [look], ASKED, SURE)
    found = [
        (tuple(box), round(score, 6), class_id) for box, score, class_id in zip(
            merged.boxes_xyxy.tolist(), merged.scores.tolist(), merged.class_ids.tolist(),
            strict=True,
        )
    ]
    assert found == expected


def test_thresholds_of_single_classes_hold_for_what_both_looks_show():
    asked = DetectSettings(score_threshold=0.5, class_thresholds=((1, 0.2),))
    first = make_detections(WH, ((200, 10, 260, 60), 0.4, 0), ((300, 10, 360, 60), 0.3, 1))
    look = Look(BORDER, make_detections(
        (128, 300), ((10, 10, 50, 50), 0.4, 0), ((60, 60, 90, 90), 0.3, 1)
    ))
    merged = merge_looks(first, [look], asked, SURE)
    assert merged.class_ids.tolist() == [1, 1]
