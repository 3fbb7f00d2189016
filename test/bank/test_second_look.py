"""SecondLook: one Detector of two, with engines that do as they are told."""

from __future__ import annotations

import dataclasses

from bank_world import Jobs, MS, NAMES, NAN
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.bank.looks.crop_budget import CropBudget, share
from yolov7_trt_ros.bank.looks.look_trial import open_looks
from yolov7_trt_ros.bank.looks.second_look import look_twice, PipelinedSecondLook, SecondLook
from yolov7_trt_ros.bank.update.engine_bank import EngineBank
from yolov7_trt_ros.bank.update.pipelined_bank import PipelinedBank
from yolov7_trt_ros.bank.update.update_machine import UpdateLimits
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import Detector, DetectSettings, FrameTimings, PipelinedDetector
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.looks.crops import Crop
from yolov7_trt_ros.core.looks.look_options import LookOptions
from yolov7_trt_ros.errors import DeviceLostError, InferenceError, ModelNotFoundError, SettingError
from yolov7_trt_ros.testing import fake_spec, FakeDetector

ASKED = DetectSettings(score_threshold=0.25)
SIDE = 16


class Painted(FakeDetector):
    """
    Finds squares painted in an image: the channel is their class, the value their score.

    `least_px` hides what is smaller, `blind` is what it takes from scores, `took_ms` an image.

    """

    def __init__(self, *, blind=0, names=NAMES, max_batch=4, took_ms=10.0, least_px=1):
        super().__init__(spec=fake_spec(names), max_batch=max_batch)
        self.blind, self.took_ms, self.least_px = blind, took_ms, least_px
        self.asked = []
        self.error = None

    def detect_batch(self, images, settings):
        super().detect_batch(images, settings)
        self.asked.append((settings, [image.stream for image in images]))
        if self.error is not None:
            raise self.error
        found = [self._find(image.pixels, settings) for image in images]
        return found, FrameTimings(0, int(self.took_ms * MS * len(images)), 0)

    def _find(self, pixels, settings):
        rows = []
        for class_id in range(2):
            plane = pixels[:, :, class_id]
            for value in np.unique(plane[plane > 0]):
                ys, xs = np.nonzero(plane == value)
                box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
                score = float(np.float32((int(value) - self.blind) / 255))
                wanted = settings.class_ids is None or class_id in settings.class_ids
                if score >= settings.score_threshold and wanted and len(xs) >= self.least_px:
                    rows.append((box, score, class_id))
        rows.sort(key=lambda row: -row[1])
        height, width = pixels.shape[:2]
        return Detections(
            np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
            np.array([row[1] for row in rows], np.float32),
            np.array([row[2] for row in rows], np.int32), (width, height),
        )


class Overlapping(Painted):
    """Works on one frame while the next is begun."""

    def submit(self, images, settings):
        return images, settings

    def collect(self, ticket):
        return self.detect_batch(*ticket)


def picture(*squares, wh=(640, 480), stream=''):
    """Return an image with squares: left, top, value, class."""
    pixels = np.zeros((wh[1], wh[0], 3), np.uint8)
    for left, top, value, class_id in squares:
        pixels[top:top + SIDE, left:left + SIDE, class_id] = value
    return ImageView.from_array(pixels).of_stream(stream)


def twice(first=None, second=None, **options) -> SecondLook:
    values = {'mode': 'on', 'full_frames': 0, 'first_size': 320, 'max_crops': 2} | options
    return look_twice(first or Painted(), second or Painted(), LookOptions(**values))


def scores_of(found):
    return [round(score * 255) for score in found.scores.tolist()]


def test_a_doubtful_object_is_looked_at_again_and_the_frame_is_not_copied():
    first, second = Painted(blind=80), Painted()
    found, timings = twice(first, second).detect(picture((300, 200, 160, 0)), ASKED)
    assert scores_of(found) == [160]
    assert found.boxes_xyxy.tolist() == [[300, 200, 316, 216]]
    assert [call.size_wh for call in second.calls] == [(128, 128)]
    assert timings.infer_ns == 20 * MS


def test_a_crop_must_be_worth_what_the_options_say():
    faint = picture((300, 200, 40, 0))  # a score of 0.16
    for min_worth, crops in ((0.2, 0), (0.1, 1)):
        second = Painted()
        twice(second=second, min_worth=min_worth).detect(faint, ASKED)
        assert len(second.calls) == crops


def test_what_is_sure_or_unlikely_or_too_large_for_doubt_costs_nothing():
    first, second = Painted(), Painted()
    look = twice(first, second)
    found, _ = look.detect(picture((300, 200, 250, 0), (30, 30, 3, 0)), ASKED)
    assert scores_of(found) == [250] and second.calls == []


def test_the_first_look_shows_doubt_and_the_result_does_not():
    first, second = Painted(), Painted(blind=20)
    found, _ = twice(first, second).detect(picture((300, 200, 30, 0)), ASKED)
    assert first.asked[0][0].score_threshold == 0.01
    assert len(found) == 0 and first.asked[0][0] is not ASKED
    again = twice(first, second)
    for _ in range(3):
        again.detect(picture((300, 200, 30, 0)), ASKED)
    assert len({id(asked) for asked, _ in first.asked[-3:]}) == 1  # engines compare identities


def test_classes_are_those_of_the_first_model_by_name():
    first, second = Painted(), Painted(names=('car', 'dog', 'person'))
    # class 0 of the second model is the car; 'dog' is none of the first
    image = picture((300, 200, 90, 1), (330, 200, 100, 0))
    found, _ = twice(first, second).detect(image, DetectSettings(class_ids=frozenset({1})))
    assert second.asked[0][0].class_ids == frozenset({0})
    assert found.class_ids.tolist() == [1, 1]


def test_crops_of_all_images_go_through_in_one_batch_in_their_order():
    first, second = Painted(max_batch=2), Painted(max_batch=4)
    images = [picture((300, 200, 90, 0)), picture((20, 20, 80, 1), (500, 400, 100, 0))]
    found, _ = twice(first, second).detect_batch(images, ASKED)
    assert second.batches == [3]
    assert [each.class_ids.tolist() for each in found] == [[0], [0, 1]]


def test_more_crops_than_the_engine_takes_run_in_parts():
    second = Painted(max_batch=1)
    twice(second=second).detect(picture((20, 20, 80, 1), (500, 400, 100, 0)), ASKED)
    assert second.batches == [1, 1]


@pytest.mark.parametrize('error', [NAN, DeviceLostError('gone'), ZeroDivisionError('x')])
def test_an_error_of_the_second_look_is_one_of_the_frame_and_the_next_one_is_well(error):
    second = Painted()
    look = twice(second=second)
    second.error = error
    with pytest.raises(type(error)):
        look.detect(picture((300, 200, 90, 0)), ASKED)
    second.error = None
    found, _ = look.detect(picture((300, 200, 90, 0)), ASKED)
    assert scores_of(found) == [90]


def test_nothing_is_looked_at_again_that_the_first_look_has_seen_as_large():
    second = Painted()
    twice(second=second, first_size=1280).detect(picture((300, 200, 90, 0)), ASKED)
    assert second.calls == []


def test_streams_have_memories_of_their_own_and_images_without_one_have_none():
    first, second = Painted(least_px=SIDE * SIDE), Painted()
    look = twice(first, second, max_crops=1)
    there, gone = picture((300, 200, 90, 0), stream='a'), picture(stream='a')
    look.detect(there, ASKED)
    look.detect(picture(stream='b'), ASKED)
    look.detect(picture(), ASKED)
    assert len(second.calls) == 1
    look.detect(gone, ASKED)
    assert len(second.calls) == 2  # the hint of the frame before


def test_what_the_first_look_cannot_see_is_found_by_the_full_look_and_then_kept():
    first, second = Painted(least_px=10_000), Painted()
    look = twice(first, second, full_frames=10, crop_px=192)
    image = picture((300, 200, 200, 0), stream='a')
    found = [len(look.detect(image, ASKED)[0]) for _ in range(40)]
    assert found[0] == 0 and found[-20:] == [1] * 20
    assert found == sorted(found)  # once found it is never lost


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.tuples(
        st.integers(0, 38), st.integers(0, 28), st.integers(10, 255), st.integers(0, 1)
    ), max_size=6), min_size=1, max_size=4),
    st.integers(1, 4), st.sampled_from([0.0, 5.0, 10.0, 25.0]), st.integers(1, 40),
)
def test_most_crops_and_budget_are_kept_to(scenes, most, budget_ms, full_frames):
    second = Painted(took_ms=10)
    look = look_twice(
        Painted(blind=40, max_batch=4), second,
        LookOptions(mode='on', first_size=320, max_crops=most, budget_ms=budget_ms,
                    full_frames=full_frames), crop_ns=10 * MS,
    )
    images = [
        picture(*((left * 16, top * 16, value, kind) for left, top, value, kind in scene),
                stream=str(index))
        for index, scene in enumerate(scenes)
    ]
    for _ in range(4):
        before = len(second.calls)
        found, _ = look.detect_batch(images, ASKED)
        crops = len(second.calls) - before
        assert len(found) == len(images)
        assert crops <= most * len(images)
        assert not budget_ms or crops * 10 <= budget_ms


def test_images_have_their_turn_where_there_is_time_for_one_crop():
    first, second = Painted(max_batch=2), Painted(took_ms=10)
    look = look_twice(first, second, LookOptions(
        mode='on', first_size=320, budget_ms=15, full_frames=0
    ), crop_ns=10 * MS)
    images = [picture((300, 200, 90, 0), stream=name) for name in 'ab']
    streams = []
    for _ in range(4):
        look.detect_batch(images, ASKED)
        streams += second.asked[-1][1]
    assert streams == ['a', 'b', 'a', 'b']
    assert 'no time for more' in look.status()['second look']


def test_a_budget_does_not_forget_while_nothing_is_in_doubt():
    second = Painted(took_ms=10)
    look = look_twice(Painted(), second, LookOptions(
        mode='on', first_size=320, budget_ms=15, full_frames=0
    ), crop_ns=10 * MS)
    for _ in range(100):
        look.detect(picture(), ASKED)
    look.detect(picture((20, 20, 90, 0), (300, 200, 91, 0), (600, 400, 92, 0)), ASKED)
    assert len(second.calls) == 1


def test_a_budget_learns_and_tries_again_what_there_was_no_time_for():
    budget = CropBudget(10.0)
    for _ in range(2):
        assert budget.most() == 1  # to learn
        budget.learn(1, 40 * MS)
    assert budget.most() == 0
    for _ in range(200):
        if budget.most():
            break
        budget.forget_a_little()
    assert budget.most() == 1
    for _ in range(30):
        budget.learn(2, 4 * MS)
    assert budget.most() == 4
    assert CropBudget(0.0).most() is None


def test_a_first_run_of_each_batch_size_leaves_time_for_crops():
    budget = CropBudget(10.0)
    budget.learn(1, 250 * MS)  # the engine prepares itself
    assert budget.most() == 1
    budget.learn(1, 5 * MS)
    assert budget.most() == 2
    budget.learn(2, 500 * MS)  # and its other batch size
    assert budget.most() == 1
    for _ in range(40):
        budget.learn(1, 50 * MS)  # what stays slow is learned all the same
    assert budget.most() == 0 and budget.crop_ms > 45


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.integers(0, 12),
       st.integers(0, 9))
def test_sharing_gives_the_best_of_each_first(counts, most, turn):
    wanted = [[Crop(index, rank, 9, 9) for rank in range(count)]
              for index, count in enumerate(counts)]
    given_ = share(wanted, most, turn)
    assert sum(map(len, given_)) == min(most, sum(counts))
    for asked, got in zip(wanted, given_, strict=True):
        assert got == asked[:len(got)]
    unsatisfied = [len(got) for asked, got in zip(wanted, given_, strict=True)
                   if len(got) < len(asked)]
    assert max(map(len, given_), default=0) - min(unsatisfied, default=99) <= 1
    assert share(wanted, None, turn) == wanted


def test_frames_overlap_where_the_first_engine_can_and_give_the_same():
    image = picture((300, 200, 90, 0), stream='a')
    look = twice(Overlapping(), Painted())
    assert isinstance(look, PipelinedSecondLook) and isinstance(look, PipelinedDetector)
    tickets = [look.submit([image], ASKED) for _ in range(2)]
    overlapped = [look.collect(ticket)[0][0] for ticket in tickets]
    plain = twice()
    assert not isinstance(plain, PipelinedDetector)
    alone = [plain.detect(image, ASKED)[0] for _ in range(2)]
    for left, right in zip(overlapped, alone, strict=True):
        assert np.array_equal(left.boxes_xyxy, right.boxes_xyxy)
        assert np.array_equal(left.scores, right.scores)


@pytest.mark.parametrize('kind', [EngineBank, PipelinedBank])
def test_a_bank_takes_it_as_any_engine_and_rolls_back_where_its_second_look_fails(kind):
    engine = Overlapping if kind is PipelinedBank else Painted
    good, second = twice(engine(), Painted()), Painted()
    bad = twice(engine(), second)
    bank = kind(good, 'good')
    model = bank.ask('bad')
    bank.opened(model, bad)
    bank.promote()
    image = picture((300, 200, 90, 0), stream='a')
    assert len(bank.detect(image, ASKED)[0]) == 1
    assert bank.answered.detector is bad
    second.error = NAN
    assert len(bank.detect(image, ASKED)[0]) == 1
    assert bank.answered.detector is good and bank.serving.detector is good
    bank.close()


def test_classes_to_look_at_are_those_of_the_first_model():
    with pytest.raises(SettingError, match="no class 'dog'"):
        twice(classes=('dog',))
    second = Painted()
    twice(second=second, classes=('car',)).detect(picture((300, 200, 90, 0)), ASKED)
    assert second.calls == []


def test_a_candidate_is_compared_in_the_crops_of_the_model_that_serves():
    # shown in every second frame alone, it is a hint in the others: for who has seen them all
    frames = [picture((300, 200, value, 0), (20, 20, 250, 1), stream='a') for value in (90, 1)]
    jobs = []
    bank = EngineBank(
        twice(Painted(), Painted(blind=-120)), 'same', limits=UpdateLimits(shadow_frames=100),
        new_background=lambda: Jobs(jobs),
    )
    first, second = Painted(), Painted(blind=-120)
    bank.opened(bank.ask('again'), twice(first, second))
    for number in range(80):
        bank.detect(frames[number % 2], ASKED)
        bank.compare_last()
        while jobs:
            jobs.pop(0)()
    status = bank.update_status()
    assert status.frames > 15 and status.agreement == 1.0 and len(second.calls) == status.frames
    bank.close()


# ---- what is left out, and why


def test_a_model_for_crops_without_a_class_of_the_first_is_refused():
    with pytest.raises(SettingError, match='no class of the first one: expected person, car, '
                       'found cup; set class_names'):
        twice(second=Painted(names=('cup',)))
    nameless = Painted(names=())
    nameless.spec = dataclasses.replace(nameless.spec, class_names=(), num_classes=2)
    with pytest.raises(SettingError, match='expected person, car, found class_0, class_1'):
        twice(second=nameless)


def test_classes_that_the_model_for_crops_lacks_get_no_crop_and_are_told():
    told = []
    second = Painted(names=('car',))
    look = look_twice(Painted(), second, LookOptions(mode='on', first_size=320, full_frames=0),
                      warn=told.append)
    found, _ = look.detect(picture((300, 200, 90, 0), (20, 20, 80, 1)), ASKED)
    assert len(second.calls) == 1 and sorted(found.class_ids.tolist()) == [0, 1]
    assert told == ['objects of the classes person get no crop, for the model of the second look '
                    'lacks these']
    assert look.status()['left out'] == told[0]
    with pytest.raises(SettingError, match='lacks classes of second_look_classes: person; leave'):
        twice(second=Painted(names=('car',)), classes=('person',))
    assert 'left out' not in twice(second=Painted(names=('car',)), classes=('car',)).status()


def test_numbers_of_classes_are_the_same_in_both_looks_where_the_first_has_no_names():
    first, second = Painted(), Painted()
    first.spec = dataclasses.replace(first.spec, class_names=(), num_classes=None)
    found, _ = twice(first, second).detect(
        picture((300, 200, 90, 1)), DetectSettings(class_ids=frozenset({1}))
    )
    assert second.asked[0][0].class_ids == {1} and found.class_ids.tolist() == [1]


def test_sizes_without_a_second_look_are_told_once():
    told = []
    look = look_twice(Painted(), Painted(), LookOptions(mode='on', full_frames=0, first_size=640),
                      warn=told.append)
    for _ in range(2):
        look.detect(picture((30, 20, 90, 0), wh=(128, 96)), ASKED)
    reason = 'the first look shows them at least as large as a crop would'
    assert told == [f'images of 128x96 get no second look: {reason}']
    for width in range(100, 120):
        look.detect(picture(wh=(width, 96)), ASKED)
    assert told[-1] == f'images of other sizes get no second look: {reason}' and len(told) == 9
    assert look.status()['left out'] == '; '.join(told)


def test_a_budget_without_time_for_a_crop_is_told_once():
    told = []
    look = look_twice(Painted(), Painted(), LookOptions(
        mode='on', first_size=320, budget_ms=1e-9, full_frames=0
    ), crop_ns=10 * MS, warn=told.append)
    for _ in range(3):
        look.detect(picture((300, 200, 90, 0)), ASKED)
    assert told == ['second_look_budget_ms 1e-09 left no time for a crop in some images']


def test_auto_does_not_leave_a_model_alone_that_lacks_classes():
    engines = [Painted(), Painted(names=('car',)), Painted(names=('car',))]
    with pytest.raises(SettingError, match='lacks the classes person of model: set second_look'):
        open_looks(LookOptions(mode='auto'), first=lambda: engines[0],
                   second=lambda: engines[1], once=lambda: engines[2])
    assert [each.closed for each in engines] == [1, 1, 1]


def test_auto_checks_the_classes_that_it_may_not_need():
    with pytest.raises(SettingError, match="no class 'dog'"):
        trial('auto', once=1.0, classes=('dog',))


# ---- off, on, auto


class Clock:
    """A clock that engines move."""

    def __init__(self):
        self.now_ns = 0

    def __call__(self):
        return self.now_ns

    def engine(self, ms):
        made = Painted(took_ms=ms)
        made._on_detect = lambda: setattr(self, 'now_ns', self.now_ns + int(ms * MS))
        return made


def trial(mode, *, once=70.0, first=30.0, crop=10.0, **options):
    clock, told = Clock(), []
    engines = {'once': clock.engine(once), 'first': clock.engine(first),
               'second': clock.engine(crop)}
    opened = []

    def opening(name):
        def open_one():
            opened.append(name)
            return engines[name]
        return open_one

    detector = open_looks(
        LookOptions(mode=mode, **options), **{name: opening(name) for name in engines},
        say=told.append, clock=clock,
    )
    return detector, engines, opened, told


def test_off_opens_one_engine_and_on_two():
    detector, engines, opened, told = trial('off')
    assert detector is engines['once'] and opened == ['once'] and told == []
    detector, engines, opened, told = trial('on')
    assert isinstance(detector, SecondLook) and opened == ['first', 'second']
    detector.close()
    detector.close()
    assert engines['first'].closed == engines['second'].closed == 2


def test_auto_takes_what_is_quicker_says_so_and_closes_the_rest():
    detector, engines, _, told = trial('auto')
    assert isinstance(detector, SecondLook)
    assert told == [
        'the second look is on: one look takes 70.0 ms, two with 3 crops 60.0 ms'
    ]
    assert told[0].partition(': ')[2] in detector.status()['second look']
    assert [engines[name].closed for name in ('once', 'first', 'second')] == [1, 0, 0]
    detector, engines, _, told = trial('auto', once=1.0, first=0.8, crop=0.4)
    assert detector is engines['once']
    assert told == ['the second look is off, for it does not pay: one look takes 1.0 ms, two '
                    'with 3 crops 2.0 ms']
    assert [engines[name].closed for name in ('once', 'first', 'second')] == [0, 1, 1]


def test_auto_says_which_model_looks_alone():
    _, _, _, told = trial('auto', once=1.0, model='precise.onnx')
    assert told[0].endswith('two with 3 crops 60.0 ms; precise.onnx looks alone')


def test_auto_counts_the_crops_that_there_is_time_for():
    assert isinstance(trial('auto', crop=25.0)[0], Painted)
    detector, _, _, told = trial('auto', crop=25.0, budget_ms=30.0)
    assert isinstance(detector, SecondLook) and 'with 1 crops 55.0 ms' in told[0]


def test_auto_looks_once_where_there_is_no_time_for_a_crop():
    detector, engines, _, told = trial('auto', crop=25.0, budget_ms=20.0)
    assert detector is engines['once'] and engines['first'].closed == 1
    assert told == ['the second look is off, for it does not pay: one look takes 70.0 ms, and a '
                    'crop 25.0 ms, over second_look_budget_ms']


@pytest.mark.parametrize('mode', ['on', 'auto'])
def test_what_was_opened_is_closed_where_the_next_one_cannot_be(mode):
    first = Painted()

    def fails() -> Detector:
        raise ModelNotFoundError('no model')

    with pytest.raises(ModelNotFoundError):
        open_looks(LookOptions(mode=mode), once=fails, first=lambda: first, second=fails)
    assert first.closed == 1
    first, second = Painted(), Painted()
    second.error = InferenceError('out of memory')
    if mode == 'auto':
        with pytest.raises(InferenceError):
            open_looks(LookOptions(mode=mode), once=Painted, first=lambda: first,
                       second=lambda: second)
        assert first.closed == second.closed == 1


def test_a_refused_setting_names_the_look_that_it_is_for():
    def fails() -> Detector:
        raise SettingError('network_size is 320, but the plan takes at least 640')

    first = Painted()
    with pytest.raises(SettingError, match='^the second look: network_size is 320'):
        open_looks(LookOptions(mode='on'), once=fails, first=lambda: first, second=fails)
    assert first.closed == 1


def test_all_are_closed_where_what_is_not_needed_cannot_be_closed():
    class Unwilling(Painted):

        def close(self):
            super().close()
            raise InferenceError('no')

    once, first, second = Painted(took_ms=1.0), Unwilling(took_ms=2.0), Painted(took_ms=2.0)
    with pytest.raises(InferenceError):
        open_looks(LookOptions(mode='auto'), once=lambda: once, first=lambda: first,
                   second=lambda: second, clock=lambda: 0)  # which never pays
    assert once.closed and first.closed and second.closed


def test_what_has_a_threshold_of_its_own_class_is_in_doubt_as_all_else():
    first, second = Painted(blind=50), Painted()
    asked = DetectSettings(score_threshold=0.25, class_thresholds=((1, 0.9),))
    found, _ = twice(first, second).detect(
        picture((300, 200, 150, 0), (100, 100, 150, 1)), asked
    )
    assert first.asked[0][0].class_thresholds == () and found.class_ids.tolist() == [0]
    assert len(second.calls) == 2
