"""What is remembered of a stream: hints, hysteresis, and the full look that takes many frames."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.core.looks.crops import Crop, CropShape, tile
from yolov7_trt_ros.core.looks.look_memory import FORGOTTEN_AFTER, LookMemory, MOST_HINTS
from yolov7_trt_ros.core.looks.look_options import LookOptions
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.testing import make_detections

WH = (640, 480)
BOX = (100, 100, 130, 140)
LEFT, RIGHT = Crop(0, 0, 192, 192), Crop(400, 200, 592, 392)
OPTIONS = LookOptions(min_score=0.1, max_score=0.6, full_frames=0)


def seen(*found):
    return make_detections(WH, *found)


def boxes(memory, *found):
    return memory.targets(seen(*found)).boxes.tolist()


@pytest.mark.parametrize(('found', 'is_target'), [
    ((BOX, 0.1, 0), True), ((BOX, 0.59, 0), True),
    ((BOX, 0.09, 0), False), ((BOX, 0.6, 0), False),  # unlikely; sure
    (((100, 100, 180, 150), 0.3, 0), True), (((100, 100, 181, 150), 0.3, 0), False),  # large
    ((BOX, 0.3, 7), False),  # of a class that was not named
])
def test_targets_are_doubtful_small_and_of_the_classes_named(found, is_target):
    memory = LookMemory(OPTIONS, frozenset({0, 1}))
    assert len(boxes(memory, found)) == is_target


def test_what_is_most_in_doubt_weighs_most():
    weights = LookMemory(OPTIONS, None).targets(seen((BOX, 0.5, 0), ((9, 9, 20, 20), 0.2, 0)))
    assert weights.weights.tolist() == pytest.approx([0.25, 0.16])


def test_an_object_of_the_frame_before_is_a_target_until_it_was_looked_for_in_vain():
    memory = LookMemory(OPTIONS, None)
    memory.targets(seen())
    memory.remember(seen((BOX, 0.5, 0)), [LEFT])
    for _ in range(5):  # no crop has shown its place: it may well be there
        assert boxes(memory) == [list(BOX)]
        memory.remember(seen(), [RIGHT])
    for _ in range(FORGOTTEN_AFTER):
        assert boxes(memory) == [list(BOX)]
        memory.remember(seen(), [LEFT])
    assert boxes(memory) == []


def test_a_hint_that_is_found_again_counts_anew_and_moves_with_the_object():
    memory = LookMemory(OPTIONS, None)
    memory.targets(seen())
    memory.remember(seen((BOX, 0.5, 0)), [LEFT])
    moved = (106, 104, 136, 144)
    for _ in range(FORGOTTEN_AFTER - 1):
        memory.remember(seen(), [LEFT])
    memory.remember(seen((moved, 0.5, 0)), [LEFT])
    assert boxes(memory) == [list(moved)]
    memory.remember(seen(), [LEFT])
    assert boxes(memory) == [list(moved)]


def test_what_was_a_target_stays_one_within_a_wider_band():
    memory = LookMemory(OPTIONS, None)
    assert boxes(memory, (BOX, 0.06, 0)) == [] == boxes(memory, (BOX, 0.65, 0))
    memory.remember(seen((BOX, 0.3, 0)), [LEFT])
    assert boxes(memory, (BOX, 0.06, 0)) == [list(BOX)] == boxes(memory, (BOX, 0.65, 0))
    assert boxes(memory, (BOX, 0.72, 0)) == []  # sure, and so no hint either


@given(st.lists(st.floats(0.02, 0.95), min_size=2, max_size=30))
def test_a_score_that_sways_within_the_margin_never_flickers(scores):
    """Once a target, a score that keeps within the wider band keeps it one, at every step."""
    memory = LookMemory(OPTIONS, None)
    was = False
    for score in scores:
        found = (BOX, score, 0)
        is_target = len(boxes(memory, found)) > 0
        if was and 0.051 <= score < 0.69:
            assert is_target
        memory.remember(seen((BOX, 0.3, 0)) if is_target else seen(), [LEFT] if is_target else [])
        was = is_target


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(200, 1300), st.integers(200, 800))
def test_all_of_the_image_is_seen_within_the_frames_at_most_every_second_one(every, width, height):
    memory, shape = LookMemory(LookOptions(full_frames=every), None), CropShape(192, 14)
    tiles = tile((width, height), shape)
    frames = max(every, 2 * len(tiles)) + 2
    looked: list[Crop] = []
    gaps, last = [], -1
    for number in range(frames):
        memory.targets(make_detections((width, height)))
        due = memory.due_tile(shape)
        if due is not None:
            memory.looked_at([due])
            looked.append(due)
            gaps.append(number - last)
            last = number
    assert set(tiles) == set(looked)
    assert len(looked) <= frames / 2 + 1
    assert min(gaps) >= 1 and all(gap >= 2 for gap in gaps[1:])


def test_a_tile_that_there_was_no_time_for_stays_due():
    memory, shape = LookMemory(LookOptions(full_frames=1), None), CropShape(192, 14)
    memory.targets(seen())
    memory.due_tile(shape)
    due = memory.due_tile(shape)
    memory.looked_at([])
    assert due is not None and memory.due_tile(shape) == due
    memory.looked_at([due])
    assert memory.due_tile(shape) is None


def test_an_image_of_another_size_begins_anew():
    memory = LookMemory(OPTIONS, None)
    memory.targets(seen())
    memory.remember(seen((BOX, 0.5, 0)), [LEFT])
    assert len(memory.targets(make_detections((320, 240))).boxes) == 0


def test_hints_that_no_crop_is_spent_on_are_bounded_and_the_newest_are_kept():
    memory = LookMemory(OPTIONS, None)
    for class_id in range(MOST_HINTS):
        memory.targets(seen())
        memory.remember(seen((BOX, 0.5, class_id), ((200, 200, 230, 230), 0.5, class_id)), [])
    assert len(boxes(memory)) == MOST_HINTS
    newest = ((BOX, 0.5, MOST_HINTS - 1))
    assert len(boxes(memory, newest)) == MOST_HINTS  # seen now, so a hint no more


def test_an_image_on_its_own_has_no_full_look():
    memory = LookMemory(LookOptions(full_frames=1), None, is_stream=False)
    memory.targets(seen())
    assert memory.due_tile(CropShape(192, 14)) is None


@pytest.mark.parametrize(('values', 'words'), [
    ({'mode': 'maybe'}, 'second_look must be one of off, auto, on'),
    ({'max_crops': 0}, 'second_look_max_crops must be within 1..16, got 0'),
    ({'budget_ms': float('nan')}, 'second_look_budget_ms must be within'),
    ({'crop_px': 129}, 'must be even'),
    ({'min_score': 0.95}, 'second_look_min_score 0.95 is above second_look_max_score 0.9'),
    ({'object_px': 120}, 'does not fit into a crop of second_look_crop_px 128'),
])
def test_what_does_not_fit_is_refused(values, words):
    with pytest.raises(SettingError, match=words):
        LookOptions(**values)


def test_numbers_of_the_memory_are_plain():
    hints = LookMemory(OPTIONS, None)
    hints.targets(seen())
    assert np.array_equal(hints.targets(seen()).weights, np.empty(0, np.float32))
