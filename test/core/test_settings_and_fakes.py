"""DetectSettings, Detections, class filters, and the fakes of yolov7_trt_ros.testing."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.core.class_filter import find_class_ids, find_class_thresholds
from yolov7_trt_ros.core.detections import class_name, Detections
from yolov7_trt_ros.core.detector import Detector, DetectSettings, FrameTimings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.errors import InferenceError, SettingError
from yolov7_trt_ros.testing import encode_image, FakeDetector, make_detections, smooth_picture


@pytest.mark.parametrize(('name', 'value'), [
    ('score_threshold', -0.01), ('score_threshold', 1.01), ('score_threshold', float('nan')),
    ('iou_threshold', -1.0), ('iou_threshold', 2.0), ('iou_threshold', float('inf')),
    ('max_detections', 0), ('max_detections', 1001), ('max_candidates', 0),
    ('class_ids', frozenset({0, -1})), ('class_ids', frozenset({2**31})),
])
def test_settings_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=name):
        DetectSettings(**{name: value})


def test_settings_at_the_ends_of_their_ranges() -> None:
    DetectSettings(score_threshold=0, iou_threshold=0, max_detections=1, class_ids=frozenset())
    DetectSettings(score_threshold=1, iou_threshold=1, max_detections=1000, max_candidates=1)


def test_timings_add_up() -> None:
    assert FrameTimings(1, 20, 300).total_ns == 321


@pytest.mark.parametrize('changed', [
    {'boxes_xyxy': np.zeros((2, 4), np.float32)}, {'boxes_xyxy': np.zeros((1, 4), np.float64)},
    {'class_ids': np.zeros(1, np.int64)}, {'class_ids': np.zeros((1, 1), np.int32)},
    {'scores': np.zeros(1, np.float16)},
])
def test_detections_that_do_not_fit_together_are_refused(changed: dict[str, Any]) -> None:
    good = {
        'boxes_xyxy': np.zeros((1, 4), np.float32), 'scores': np.zeros(1, np.float32),
        'class_ids': np.zeros(1, np.int32), 'source_wh': (10, 10),
    }
    assert len(Detections(**good)) == 1
    with pytest.raises(ValueError, match=next(iter(changed))):
        Detections(**{**good, **changed})


def test_records_are_ready_for_json() -> None:
    found = make_detections((640, 480), ((1, 2, 3.456, 4), 0.9, 0), ((5, 6, 7, 8), 0.5, 9))
    assert json.loads(json.dumps(found.as_records(('cat',)))) == [
        {'box_xyxy': [1, 2, 3.46, 4], 'score': 0.9, 'class_id': 0, 'class_name': 'cat'},
        {'box_xyxy': [5, 6, 7, 8], 'score': 0.5, 'class_id': 9, 'class_name': 'class_9'},
    ]
    assert Detections.empty((4, 3)).as_records(()) == []
    assert class_name(('cat',), -1) == 'class_-1'


def test_class_ids_by_name_and_index() -> None:
    names = ('cat', 'dog', '7')
    assert find_class_ids([], names) is None
    assert find_class_ids(['dog', '0'], names) == {0, 1}
    assert find_class_ids(['dog'], ['dog', 'cat', 'dog']) == {0, 2}
    assert find_class_ids(['7'], names) == {2}
    assert find_class_ids(['12'], ()) == {12}


@pytest.mark.parametrize(('text', 'hint'), [
    ('dgo', "did you mean 'dog'"), ('2', 'it has 2 classes'), ('-1', 'it has 2'), ('', 'it has 2'),
])
def test_an_unknown_class_is_refused(text: str, hint: str) -> None:
    with pytest.raises(SettingError, match=hint):
        find_class_ids(['cat', text], ('cat', 'dog'))


def test_thresholds_of_classes_by_name_and_index() -> None:
    names = ('cat', 'dog', 'a:b')
    assert find_class_thresholds('', names) == ()
    assert find_class_thresholds('dog:0.4, 0:1', names) == ((0, 1.0), (1, 0.4))
    assert find_class_thresholds('a:b:0.5,', names) == ((2, 0.5),)
    assert find_class_thresholds('dog: 5e-1', ('dog', 'cat', 'dog')) == ((0, 0.5), (2, 0.5))
    assert find_class_thresholds('7:0', ()) == ((7, 0.0),)


@pytest.mark.parametrize(('text', 'reason'), [
    ('cat', "class:score with a score within 0..1.*got 'cat'"), ('cat:', "got 'cat:'"),
    (':0.4', "got ':0.4'"), ('cat:high', "got 'cat:high'"), ('cat:1.1', "got 'cat:1.1'"),
    ('cat:nan', "got 'cat:nan'"), ('cat:-0.1', "got 'cat:-0.1'"), ('cat=0.4', 'got'),
    ('cat:0.4,cat:0.5', "once, got 'cat' twice"), ('cat:0.4,0:0.5', "once, got '0' in two ways"),
    ('cta:0.4', "no class 'cta'; did you mean 'cat'"), ('2:0.4', 'it has 2 classes'),
    ('1' * 5000 + ':0.4', 'it has 2 classes'), ('c\x1b[2J:1', r"no class 'c\?\[2J'"),
])
def test_thresholds_that_cannot_be_used_are_refused(text: str, reason: str) -> None:
    with pytest.raises(SettingError, match=reason) as refusal:
        find_class_thresholds(text, ('cat', 'dog'))
    assert len(str(refusal.value)) < 300


@given(st.text(max_size=40))
def test_any_text_is_thresholds_or_refused(text: str) -> None:
    try:
        found = find_class_thresholds(text, ('cat', 'dog'))
    except SettingError:
        return
    DetectSettings(class_thresholds=found)


def test_the_least_score_is_that_of_any_class() -> None:
    assert DetectSettings(score_threshold=0.3).least_score == 0.3
    assert DetectSettings(0.3, class_thresholds=((0, 0.1), (1, 0.9))).least_score == 0.1
    assert DetectSettings(0.3, class_thresholds=((0, 0.9),)).least_score == 0.3
    with pytest.raises(SettingError, match='class_thresholds of class 3 must be within 0..1'):
        DetectSettings(class_thresholds=((3, 1.5),))
    with pytest.raises(SettingError, match='within 0'):
        DetectSettings(class_thresholds=((-1, 0.5),))


# ---- the fakes


def frame(value: int = 0) -> ImageView:
    return ImageView.from_array(np.full((6, 8, 3), value, np.uint8))


def test_the_fake_follows_its_script_and_stays_with_the_last() -> None:
    first = make_detections((8, 6), ((0, 0, 4, 4), 0.9, 0))
    last = make_detections((8, 6), ((1, 1, 4, 4), 0.8, 1))
    fake = FakeDetector([first, InferenceError('out of memory'), last])
    settings = DetectSettings()
    assert fake.detect(frame(), settings)[0] is first
    with pytest.raises(InferenceError, match='out of memory'):
        fake.detect(frame(), settings)
    assert [fake.detect(frame(), settings)[0] for _ in range(2)] == [last, last]


def test_the_fake_without_a_script_finds_nothing_in_an_image_of_any_size() -> None:
    detector: Detector = FakeDetector()
    found, timings = detector.detect(frame(), DetectSettings())
    assert len(found) == 0 and found.source_wh == (8, 6)
    assert timings.total_ns > 0


def test_the_fake_records_what_it_was_given_as_a_copy() -> None:
    ticks: list[int] = []
    fake = FakeDetector(on_detect=lambda: ticks.append(len(fake.calls)))
    data = bytearray(encode_image(smooth_picture(8, 6), 'rgb8')[0])
    image = ImageView.from_buffer(data, width=8, height=6, encoding='rgb8')
    settings = DetectSettings(score_threshold=0.5)
    fake.detect(image, settings)
    data[:] = bytes(len(data))
    [call] = fake.calls
    assert (call.size_wh, call.encoding, call.settings) == ((8, 6), 'rgb8', settings)
    assert np.array_equal(call.pixels, smooth_picture(8, 6))
    assert ticks == [1]


def test_a_closed_fake_refuses_frames() -> None:
    fake = FakeDetector()
    fake.close()
    fake.close()
    assert fake.closed == 2
    with pytest.raises(InferenceError, match='closed'):
        fake.detect(frame(), DetectSettings())


def test_names_of_a_model_are_read_once_however_many_classes_are_named():
    class Names(list):
        reads = 0

        def __iter__(self):
            self.reads += 1
            return super().__iter__()

    names = Names(f'class {number}' for number in range(500))
    text = ','.join(f'{name}:0.5' for name in names)
    names.reads = 0
    assert len(find_class_thresholds(text, names)) == 500
    assert names.reads == 1
