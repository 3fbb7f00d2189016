"""Track ids: pairs against every other choice, motion against the plain filter, what ends ids."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms import assignment
from yolov7_trt_ros.core.forms.assignment import assign, MOST_EXACT
from yolov7_trt_ros.core.tracks.track_motion import PLACE_SHARE, SPEED_SHARE, STEP_S, TrackMotion
from yolov7_trt_ros.core.tracks.track_options import TrackOptions
from yolov7_trt_ros.core.tracks.tracking import Moment, MOST_STREAMS, MOST_TRACKS, TrackSet
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.testing import make_detections

NAMES = ('person', 'car')
BYTETRACK, IOU = TrackOptions('bytetrack'), TrackOptions('iou')
SIZE_WH = (640, 480)
SETTINGS = DetectSettings(score_threshold=0.5)


# ---- which pairs


def largest_sum(gains: np.ndarray) -> float:
    """Try every choice."""
    if not gains.size:
        return 0.0
    rest = largest_sum(gains[1:])
    return max([rest, *(
        gains[0, column] + largest_sum(np.delete(gains[1:], column, axis=1))
        for column in range(gains.shape[1]) if gains[0, column] > 0
    )])


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(0, 5), st.integers(1, 9))
def test_pairs_have_the_largest_sum(seed, rows, columns, digits):
    rng = np.random.default_rng(seed)
    gains = np.round(rng.random((rows, columns)) - rng.random(), digits)
    chosen = assign(gains)
    assert len(set(chosen[0])) == len(set(chosen[1])) == len(chosen[0])
    assert (gains[chosen] > 0).all()
    assert gains[chosen].sum() == pytest.approx(largest_sum(gains))


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple[int, ...]]:
    """Return the shapes of matrices that a function of assignment.py is called with from now."""
    shapes: list[tuple[int, ...]] = []
    do = getattr(assignment, name)

    def note(part: np.ndarray) -> Any:
        shapes.append(part.shape)
        return do(part)

    monkeypatch.setattr(assignment, name, note)
    return shapes


@pytest.mark.parametrize('kind', ['chain', 'blocks', 'equal', 'ranked', 'wide'])
def test_crowds_of_any_kind_take_bounded_work_and_give_half_of_the_largest_sum(kind, monkeypatch):
    side = 300
    gains = np.zeros((side, side))
    diagonal = np.arange(side)
    if kind == 'chain':  # each pair is better than the one before: one a round is sure
        values = np.linspace(0.1, 0.8, 2 * side)
        gains[diagonal, diagonal] = values[::2]
        gains[diagonal[:-1], diagonal[1:]] = values[1:-1:2]
    elif kind == 'blocks':
        ranks = np.arange(1.0, 61.0)
        gains = np.kron(np.eye(side // 60), np.outer(ranks, ranks))
    elif kind == 'equal':
        gains[:] = 0.5
    else:
        gains = np.outer(np.arange(1.0, 1 + (side if kind == 'ranked' else 60)),
                         np.arange(1.0, side + 1))
    rounds = counted(monkeypatch, '_take_sure')
    exact = counted(monkeypatch, '_exactly')
    rows, columns = assign(gains)
    assert len(rounds) <= assignment.MOST_ROUNDS
    assert sum(min(shape) * min(shape) * max(shape) for shape in exact) <= MOST_EXACT**3
    assert len(set(rows)) == len(set(columns)) == len(rows) and (gains[rows, columns] > 0).all()
    assert gains[rows, columns].sum() >= gains.max(axis=1).sum() / 2


def test_a_crowd_is_paired_one_by_one_and_half_as_well_at_least():
    side = MOST_EXACT + 1
    gains = np.full((side, side), 1e-6)
    gains[np.arange(side - 1), np.arange(side - 1)] = 1.0
    gains[np.arange(side - 1), np.arange(1, side)] = 1.1
    rows, columns = assign(gains)
    assert sorted(rows) == sorted(columns) == list(range(side))
    assert gains[rows, columns].sum() >= (side - 1) / 2


# ---- where objects move


def plain_filter(boxes: np.ndarray, seconds: float) -> np.ndarray:
    """Return where a full Kalman filter of eight dimensions sees a box (n, 4) in the end."""
    step = seconds / STEP_S

    def values(box: np.ndarray) -> np.ndarray:
        return np.array([*(box[:2] + box[2:]) / 2, *(box[2:] - box[:2])])

    state = np.concatenate([values(boxes[0]), np.zeros(4)])
    size = state[[2, 3, 2, 3]]
    spread = np.diag(np.concatenate([2 * PLACE_SHARE * size, 10 * SPEED_SHARE * size]) ** 2)
    move = np.eye(8)
    move[:4, 4:] = np.eye(4) * step
    look = np.eye(4, 8)
    for box in boxes[1:]:
        size = state[[2, 3, 2, 3]]
        noise = np.concatenate([PLACE_SHARE * size, SPEED_SHARE * size]) ** 2 * step
        state, spread = move @ state, move @ spread @ move.T + np.diag(noise)
        seen = np.diag((PLACE_SHARE * state[[2, 3, 2, 3]]) ** 2)
        gain = spread @ look.T @ np.linalg.inv(look @ spread @ look.T + seen)
        state = state + gain @ (values(box) - look @ state)
        spread = spread - gain @ look @ spread
    return np.array([*(state[:2] - state[2:4] / 2), *(state[:2] + state[2:4] / 2)])


def test_motion_is_that_of_the_full_filter():
    rng = np.random.default_rng(3)
    frames = np.cumsum(rng.normal(0, 2, (12, 5, 4)), axis=0)
    frames += [100, 100, 180, 240]
    motion = TrackMotion.standing(frames[0].astype(np.float32))
    for boxes in frames[1:]:
        motion.go_on(0.1, np.zeros(5, bool))
        motion.see(np.arange(5), boxes.astype(np.float32))
    expected = [plain_filter(frames[:, index].astype(np.float32), 0.1) for index in range(5)]
    np.testing.assert_allclose(motion.boxes(), expected, rtol=1e-4)


def test_motion_stays_finite_over_any_times():
    rng = np.random.default_rng(0)
    boxes = (rng.random((50, 4)) * 200).astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    motion = TrackMotion.standing(boxes)
    with np.errstate(all='raise'):
        for _ in range(800):
            seconds = rng.choice([0, 1e-9, 1e-3, 0.03, 0.1, 1, 30, 3600])
            motion.go_on(float(seconds), rng.random(50) < 0.3)
            seen = np.flatnonzero(rng.random(50) < 0.5)
            motion.see(seen, (boxes[seen] + rng.normal(0, 2, (len(seen), 4))).astype(np.float32))
            assert np.isfinite(motion.boxes()).all() and motion._values[2::2].min() >= 0


# ---- ids


class Scene:
    """Gives boxes of images 0.1 s apart to a tracker, and remembers nothing else."""

    def __init__(self, options: TrackOptions = BYTETRACK, tracks: TrackSet | None = None) -> None:
        self.options, self.now_ns = options, NS_PER_S
        self.tracker = (tracks or TrackSet()).of('camera')

    def see(self, *objects: Any, seconds: float = 0.1, names: tuple[str, ...] = NAMES,
            size_wh: tuple[int, int] = SIZE_WH, settings: DetectSettings = SETTINGS) -> list[int]:
        """Return the ids of objects: left, score, class."""
        self.now_ns += int(seconds * NS_PER_S)
        return self.follow(Moment(self.now_ns, 0), objects, names, size_wh, settings)

    def follow(
        self, moment: Moment, objects: Any, names: tuple[str, ...] = NAMES,
        size_wh: tuple[int, int] = SIZE_WH, settings: DetectSettings = SETTINGS,
    ) -> list[int]:
        found = make_detections(size_wh, *(
            ((left, 100, left + 50, 200), score, class_id) for left, score, class_id in objects
        ))
        followed = self.tracker.follow(found, moment, self.options, settings, names)
        assert followed.track_ids is not None
        assert (followed.scores > settings.score_threshold).all() or settings.class_thresholds
        return followed.track_ids.tolist()


def test_objects_keep_their_ids_though_their_order_changes():
    scene = Scene()
    assert scene.see((10, 0.9, 0), (300, 0.8, 0)) == [1, 2]
    assert scene.see((305, 0.9, 0), (12, 0.8, 0)) == [2, 1]
    assert scene.see((500, 0.95, 0), (310, 0.9, 0), (14, 0.8, 0)) == [3, 2, 1]


def test_an_object_that_moves_is_where_it_was_going_to_be_when_it_is_seen_again():
    scene, standing = Scene(), Scene(IOU)
    for left in range(10, 131, 20):
        assert scene.see((left, 0.9, 0)) == standing.see((left, 0.9, 0)) == [1]
    for _ in range(3):
        assert scene.see() == standing.see() == []
    assert scene.see((210, 0.9, 0)) == [1]
    assert standing.see((210, 0.9, 0)) == [2]  # by boxes alone it is somewhere else


def test_ids_end_after_a_time_not_after_images():
    for images in (1, 9):
        scene = Scene(TrackOptions('bytetrack', lost_s=1.0))
        assert scene.see((10, 0.9, 0)) == [1]
        for _ in range(images):
            scene.see(seconds=0.9 / images)
        assert scene.see((10, 0.9, 0), seconds=0.1) == [1]
        assert scene.see((10, 0.9, 0), seconds=1.1) == [2]


def test_images_that_are_rarer_than_that_keep_their_ids_and_a_pause_ends_them():
    scene = Scene(TrackOptions('iou', lost_s=1.0))
    assert scene.see((10, 0.9, 0), seconds=3) == [1]
    assert scene.see((10, 0.9, 0), seconds=3) == [2]  # nobody knows the rate yet
    assert scene.see((10, 0.9, 0), seconds=3) == scene.see((10, 0.9, 0), seconds=5) == [2]
    assert scene.see((10, 0.9, 0), seconds=11) == [3]


def test_a_flood_of_objects_is_bounded_and_the_latest_are_kept():
    scene = Scene(TrackOptions('bytetrack', lost_s=3600))
    for row in range(4):
        found = make_detections(SIZE_WH, *(
            ((left * 2, row * 100, left * 2 + 1, row * 100 + 1), 0.9, 0) for left in range(300)
        ))
        moment = Moment((row + 1) * NS_PER_S, 0)
        scene.tracker.follow(found, moment, scene.options, SETTINGS, NAMES)
    assert scene.follow(Moment(5 * NS_PER_S, 0), []) == []
    ids = scene.tracker._marks.ids
    assert len(ids) == MOST_TRACKS and ids.max() == 1200
    assert set(range(301, 1201)) <= set(ids.tolist())


def test_weak_detections_keep_an_id_alive_and_are_not_published():
    scene, strong = Scene(TrackOptions('bytetrack', lost_s=0.25)), Scene(
        TrackOptions('iou', lost_s=0.25)
    )
    for each in (scene, strong):
        assert each.see((10, 0.9, 0)) == [1]
        for _ in range(4):
            assert each.see((10, 0.2, 0)) == []
    assert scene.see((10, 0.9, 0)) == [1]
    assert strong.see((10, 0.9, 0)) == [2]
    # nothing begins with a weak one, nor does one bring back what was lost before
    assert scene.see((400, 0.2, 0)) == []
    assert scene.see((400, 0.9, 0)) == [2]


def test_classes_are_apart_and_have_thresholds_of_their_own():
    scene = Scene()
    own = dataclasses.replace(SETTINGS, class_thresholds=((1, 0.3),))
    assert scene.see((10, 0.9, 0)) == [1]
    assert scene.see((10, 0.9, 1)) == [2]
    assert scene.see((10, 0.4, 1), (10, 0.4, 0), settings=own) == [2]
    assert scene.see((10, 0.9, 0), (10, 0.8, 1)) == [1, 2]


@pytest.mark.parametrize('other', [
    {'seconds': -0.01}, {'names': ('person', 'dog')}, {'names': ()}, {'size_wh': (320, 240)},
], ids=['stamps go back', 'another model', 'names gone', 'another size'])
def test_what_ends_all_ids(other):
    scene = Scene()
    assert scene.see((10, 0.9, 0)) == [1]
    assert scene.see((10, 0.9, 0)) == [1]
    assert scene.see((10, 0.9, 0), **other) == [2]
    assert scene.see((10, 0.9, 0), **{**other, 'seconds': 0.1}) == [2]


def test_tracks_that_are_ended_do_not_come_back():
    tracks = TrackSet()
    assert Scene(tracks=tracks).see((10, 0.9, 0)) == [1]
    assert Scene(tracks=tracks).see((10, 0.9, 0)) == [1]  # the same stream
    for _ in range(2):
        tracks.end('camera')
    assert Scene(tracks=tracks).see((10, 0.9, 0)) == [2]


def test_another_mode_ends_all_ids():
    scene = Scene()
    assert scene.see((10, 0.9, 0)) == [1]
    scene.options = IOU
    assert scene.see((10, 0.9, 0)) == [2]


def test_without_stamps_the_time_of_arrival_counts():
    for stamps in itertools.repeat(0), itertools.repeat(7):  # none, and such as stand still
        scene = Scene()
        times = [1, 1.5, 1.6, 3.0]
        found = [
            scene.follow(Moment(stamp, int(at * NS_PER_S)), [(10, 0.9, 0)])
            for stamp, at in zip(stamps, times, strict=False)
        ]
        assert found == [[1], [1], [1], [2]]
        assert scene.follow(Moment(0, 0), [(10, 0.9, 0)]) == [2]  # arrival does not go back


def test_times_of_arrival_count_until_a_stamp_tells_how_long_it_was():
    scene = Scene(TrackOptions('iou', lost_s=1.0))
    # stamps in whole seconds, and without any in between: no time counts twice
    for stamp_s, arrival_s in ((5, 0.0), (5, 0.4), (0, 0.8), (6, 1.2), (6, 1.6)):
        moment = Moment(stamp_s * NS_PER_S, int(arrival_s * NS_PER_S))
        assert scene.follow(moment, [(10, 0.9, 0)]) == [1]
    assert scene.follow(Moment(0, 2 * NS_PER_S), []) == []
    assert scene.follow(Moment(7 * NS_PER_S, 9 * NS_PER_S), [(10, 0.9, 0)]) == [1]
    # that one image has no stamp does not hide that they go back
    assert scene.follow(Moment(0, 9 * NS_PER_S), [(10, 0.9, 0)]) == [1]
    assert scene.follow(Moment(6 * NS_PER_S, 9 * NS_PER_S), [(10, 0.9, 0)]) == [2]


@pytest.mark.parametrize('options', [BYTETRACK, IOU])
def test_stamps_that_jump_from_end_to_end_again_and_again_end_ids_and_nothing_else(options):
    scene = Scene(options)
    ends = -(2**31) * NS_PER_S, 2**31 * NS_PER_S - 1
    for number in range(1, 50):
        assert scene.follow(Moment(ends[number % 2], 0), [(10, 0.9, 0)]) == [number]
    assert scene.follow(Moment(ends[1] + 1, 0), [(10, 0.9, 0)]) == [49]


@pytest.mark.parametrize('options', [BYTETRACK, IOU])
def test_tracks_that_are_kept_are_bounded_whatever_is_found(options):
    tracker = TrackSet().of('camera')
    rng = np.random.default_rng(1)
    count = MOST_TRACKS * 3 // 4
    for number in range(3):
        corners = rng.random((count, 2)) * 600
        found = make_detections(SIZE_WH, *(
            ((left, top, left + 1, top + 1), 0.9, 0) for left, top in corners.tolist()
        ))
        moment = Moment(NS_PER_S + number, 0)
        for _ in range(2):  # the last ones stay
            ids = tracker.follow(found, moment, options, SETTINGS, NAMES).track_ids.tolist()
        assert len(set(ids)) == count
        assert tracker.count <= MOST_TRACKS + count
        again = tracker.follow(found, moment, options, SETTINGS, NAMES).track_ids.tolist()
        assert again == ids


def test_no_id_is_given_twice_in_any_stream():
    tracks = TrackSet()
    one = tracks.of('/front')
    see = lambda name: tracks.of(name).follow(  # noqa: E731
        make_detections(SIZE_WH, ((10, 100, 60, 200), 0.9, 0)), Moment(1, 1), IOU, SETTINGS, NAMES
    ).track_ids
    assert [see(name).tolist() for name in ('/front', '/rear', '/front')] == [[1], [2], [1]]
    for index in range(MOST_STREAMS):
        assert see(str(index)).tolist() == [3 + index]
    assert tracks.of('/front') is not one  # forgotten, for so many others had images since
    assert see('/front').tolist() == [3 + MOST_STREAMS]


def test_boxes_without_area_and_none_at_all():
    scene = Scene()
    nothing = Detections.empty(SIZE_WH)
    point = make_detections(SIZE_WH, ((10, 10, 10, 10), 0.9, 0))
    for found, count in ((nothing, 0), (point, 1), (point, 1), (nothing, 0)):
        scene.now_ns += NS_PER_S // 10
        followed = scene.tracker.follow(
            found, Moment(scene.now_ns, 0), BYTETRACK, SETTINGS, NAMES
        )
        assert len(followed) == len(followed.track_ids) == count


def test_what_a_detector_is_asked_for():
    own = DetectSettings(score_threshold=0.5, class_thresholds=((0, 0.05), (1, 0.7)))
    assert IOU.asked(own) is own
    asked = BYTETRACK.asked(own)
    assert asked.score_threshold == 0.1 and asked.class_thresholds == ((0, 0.05), (1, 0.1))
    assert BYTETRACK.asked(DetectSettings(score_threshold=0.02)).score_threshold == 0.02


@pytest.mark.parametrize(('values', 'words'), [
    ({'mode': 'sort'}, "track must be one of off, iou, bytetrack, got 'sort'"),
    ({'lost_s': -1.0}, 'track_lost_s must be within 0..3600, got -1'),
    ({'lost_s': float('nan')}, 'track_lost_s must be within 0..3600, got nan'),
    ({'low_score': 1.5}, 'track_low_score must be within 0..1, got 1.5'),
])
def test_options_that_make_no_sense_are_refused(values, words):
    with pytest.raises(SettingError, match=words):
        TrackOptions(**values)
