"""The parts of the detector node one by one: slots, statistics, parameters, QoS, messages."""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import sys
import threading
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from rclpy.qos import ReliabilityPolicy
from std_msgs.msg import Header

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes import qos
from yolov7_trt_ros.nodes.conversions import DetectionsToMsg, image_to_msg
from yolov7_trt_ros.nodes.detector_parameters import parameters
from yolov7_trt_ros.nodes.images.frame_slots import FrameSlots
from yolov7_trt_ros.nodes.images.frame_statistics import (
    Counts,
    NS_PER_S,
    RateLimit,
    RemovedTopics,
    TopicStatistics,
)
from yolov7_trt_ros.nodes.process.process_setup import (
    large_image_environment,
    malloc_text,
    returning_freed_memory,
    tune_malloc,
)
from yolov7_trt_ros.nodes.tools.image_player_node import encode_pixels, moving_view

FOUND = Detections(
    np.array([[10, 20, 50, 100]], np.float32), np.array([0.5], np.float32),
    np.array([1], np.int32), (640, 480),
)


# ---- frame slots


def test_slot_keeps_the_latest_and_serves_who_waited_longest():
    slots: FrameSlots[int] = FrameSlots()
    assert not slots.put('slow', 1)
    assert not slots.put('fast', 2)
    assert slots.put('fast', 3)
    assert slots.put('fast', 4)
    assert [slots.take(), slots.take()] == [[('slow', 1)], [('fast', 4)]]


def test_replacing_keeps_the_place_in_the_line():
    slots: FrameSlots[int] = FrameSlots()
    slots.put('a', 1)
    slots.put('b', 1)
    slots.put('a', 2)
    assert slots.take() == [('a', 2)]


def test_close_wakes_the_worker_and_names_what_is_dropped():
    slots: FrameSlots[int] = FrameSlots()
    taken: list = []
    worker = threading.Thread(target=lambda: taken.append(slots.take()))
    worker.start()
    assert slots.close() == []
    worker.join(600)
    assert taken == [[]]
    slots.put('late', 1)
    assert slots.take() == []


def test_what_is_thrown_away_is_given_back_to_be_counted():
    slots: FrameSlots[int] = FrameSlots()
    for number, topic in enumerate('abc'):
        slots.put(topic, number)
    assert slots.forget('a') == [0] and slots.forget('a') == []
    assert slots.close() == [1, 2] and slots.close() == []


MS = 1_000_000


class Clock:
    """Monotonic nanoseconds that stand still."""

    ns = 0

    def __call__(self) -> int:
        return self.ns


def camera_slots(*, gaps_ms: dict[str, int], until_ms: int) -> tuple[FrameSlots[int], Clock]:
    """Return slots that have seen topics publish at a rate each, and nothing left waiting."""
    clock = Clock()
    slots: FrameSlots[int] = FrameSlots(clock)
    for now_ms in range(until_ms + 1):
        clock.ns = now_ms * MS
        for topic, gap_ms in gaps_ms.items():
            if now_ms % gap_ms == 0:
                slots.put(topic, now_ms)
    slots.take(most=len(gaps_ms))
    return slots, clock


def test_a_batch_takes_what_waits_longest_first_and_leaves_the_rest():
    slots: FrameSlots[int] = FrameSlots()
    for number, topic in enumerate('cab'):
        slots.put(topic, number)
    assert slots.take(most=2) == [('c', 0), ('a', 1)]
    assert slots.take(most=2, wait_ns=10**12) == [('b', 2)]  # nobody is due: no wait


def test_a_batch_waits_for_a_frame_that_is_due():
    slots, clock = camera_slots(gaps_ms={'a': 30, 'b': 30}, until_ms=60)
    taken: list = []
    clock.ns = 88 * MS
    slots.put('a', 88)
    worker = threading.Thread(target=lambda: taken.extend(slots.take(2, 5000 * MS)))
    worker.start()
    clock.ns = 90 * MS
    slots.put('b', 90)
    worker.join(600)
    assert taken == [('a', 88), ('b', 90)]


@pytest.mark.parametrize(
    ('gaps_ms', 'now_ms', 'why'),
    [
        ({'a': 30, 'b': 1000}, 2000, 'the next frame of b comes too late'),
        ({'a': 30, 'b': 30}, 180, 'b has missed several frames: it is dead'),
        ({'a': 30}, 70, 'there is no other topic'),
    ],
)
def test_a_batch_does_not_wait_in_vain(gaps_ms, now_ms, why):
    slots, clock = camera_slots(gaps_ms=gaps_ms, until_ms=60 if now_ms < 1000 else 2000)
    clock.ns = now_ms * MS
    slots.put('a', 1)
    assert slots.take(2, 20 * MS) == [('a', 1)], why


def test_a_batch_waits_no_longer_than_it_may():
    slots, clock = camera_slots(gaps_ms={'a': 30, 'b': 30}, until_ms=60)
    clock.ns = 88 * MS
    slots.put('a', 1)
    clock.ns = 93 * MS
    assert slots.take(2, 5 * MS) == [('a', 1)]


# ---- statistics


def test_removed_topics_keep_their_counts_and_those_of_a_frame_still_in_work():
    removed, gone = RemovedTopics(), TopicStatistics()
    for name, by in {'received': 5, 'processed': 2, 'skipped': 1, 'failed': 1}.items():
        gone.count(name, by)
    removed.add(gone)
    assert removed.counts() == Counts(received=5, processed=2, skipped=1, failed=1)
    gone.count('dropped')
    settled = Counts(received=5, processed=2, skipped=1, failed=1, dropped=1)
    assert removed.counts() == removed.counts() == settled
    assert settled.in_work == 0
    other = TopicStatistics()
    other.count('received')
    other.count('processed')
    removed.add(other)
    assert removed.counts() == settled + Counts(received=1, processed=1)
    assert removed._unsettled == []


def test_rate_limit_takes_every_third_of_a_jittery_camera():
    limit = RateLimit()
    jitter = np.random.default_rng(0).integers(-4_000_000, 4_000_000, 300)
    arrivals = 10 * NS_PER_S + np.arange(300) * (NS_PER_S // 30) + jitter
    admitted = sum(limit.admits(int(now), 10.0) for now in arrivals)
    assert 95 <= admitted <= 101


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200), st.floats(0.5, 500))
def test_rate_limit_never_admits_more_than_its_rate(gaps, rate):
    limit, now, admitted = RateLimit(), 10 * NS_PER_S, []
    for gap in gaps:
        now += gap
        if limit.admits(now, rate):
            admitted.append(now)
    span_s = (admitted[-1] - admitted[0]) / NS_PER_S
    assert len(admitted) <= span_s * rate + 2 + 1e-3


@pytest.mark.parametrize('boot_ns', [1, NS_PER_S, 10**6 * NS_PER_S])
def test_rate_limit_is_the_same_however_long_the_machine_is_up(boot_ns):
    limit = RateLimit()
    assert limit.admitted_until(boot_ns, 1e-3, 3) == 3
    assert [limit.admits(boot_ns + each, 1e-3) for each in (0, 1, 2)] == [True, True, False]


@pytest.mark.parametrize('low_hz', [1e-3, 1e-300, 5e-324])
def test_a_higher_rate_is_not_kept_waiting_by_a_lower_one_before(low_hz):
    limit, second = RateLimit(), NS_PER_S
    assert [limit.admits(each * second, low_hz) for each in range(3)] == [True, True, False]
    assert limit.admitted_until(4 * second, low_hz, 3) == 0
    times = range(3 * second, 5 * second, second // 20)
    assert 20 <= sum(limit.admits(each, 10.0) for each in times) <= 22
    assert not limit.admits(6 * second, low_hz) and limit.admits(6 * second, 0.0)
    assert limit.admitted_until(7 * second, 10.0, 3) == 3


def test_statistics_count_and_rate():
    statistics = TopicStatistics()
    assert statistics.rates_hz(NS_PER_S) == (0.0, 0.0)
    for _ in range(10):
        statistics.count('received')
    statistics.add_processed([('infer', 2_000_000), ('transport', None)])
    assert statistics.rates_hz(3 * NS_PER_S) == (5.0, 0.5)
    assert statistics.counts().received == 10
    assert statistics.percentiles_ms() == {'infer': (2.0, 2.0)}


# ---- parameters

SPECS = {spec.name: spec for spec in parameters.PARAMETERS}


@pytest.mark.parametrize(
    ('name', 'value', 'expected'),
    [
        ('score_threshold', 1, 1.0),
        ('max_detections', 5, 5),
        ('classes', ['person', 'car'], 'person,car'),
        ('classes', 3, '3'),
        ('classes', [0, 2], '0,2'),
        ('publish_overlay', False, False),
    ],
)
def test_values_are_taken_in_the_type_of_the_default(name, value, expected):
    got = SPECS[name].check(value)
    assert got == expected and type(got) is type(expected)


def test_a_number_that_means_nothing_is_refused_where_it_is_set():
    with pytest.raises(SettingError, match='camera_frozen_frames must be 0 .* or at least 2'):
        parameters.check_changes({'camera_frozen_frames': 1}, {}, configured=False)


@given(st.sampled_from(parameters.PARAMETERS), st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=True), st.text(),
    st.lists(st.text()), st.binary(),
))
def test_any_value_is_taken_in_range_or_refused_by_name(spec, value):
    try:
        got = spec.check(value)
    except SettingError as error:
        assert spec.name in str(error)
    else:
        assert type(got) is type(spec.default)
        if spec.minimum is not None and spec.maximum is not None:
            assert spec.minimum <= got <= spec.maximum


# ---- QoS


def offered(reliability, kind='sensor_msgs/msg/Image'):
    profile = SimpleNamespace(reliability=reliability)
    return SimpleNamespace(topic_type=kind, qos_profile=profile, node_name='camera')


RELIABLE = offered(ReliabilityPolicy.RELIABLE)
BEST_EFFORT = offered(ReliabilityPolicy.BEST_EFFORT)
JPEG = offered(ReliabilityPolicy.RELIABLE, 'sensor_msgs/msg/CompressedImage')


@pytest.mark.parametrize(
    ('topic', 'publishers', 'expected'),
    [
        ('/a', [], ('raw', False)),
        ('/a/compressed', [], ('compressed', False)),
        ('/a', [RELIABLE], ('raw', True)),
        ('/a', [RELIABLE, BEST_EFFORT], ('raw', False)),
        ('/a', [JPEG], ('compressed', True)),
        ('/a', [JPEG, RELIABLE], ('raw', True)),
    ],
)
def test_auto_follows_what_is_offered(topic, publishers, expected):
    choice = qos.choose_stream(topic, publishers, image_transport='auto', image_qos='auto')
    assert (choice.transport, choice.reliable) == expected


def test_a_topic_of_another_type_is_named():
    scan = offered(ReliabilityPolicy.RELIABLE, 'sensor_msgs/msg/LaserScan')
    assert 'carries sensor_msgs/msg/LaserScan' in qos.describe_wrong_type('/a', [scan])
    assert qos.describe_wrong_type('/a', [scan, RELIABLE]) is None
    assert qos.describe_wrong_type('/a', []) is None


# ---- messages


def old_types(id_field):
    """Return message classes with the fields of Galactic (class_id) or Foxy (id)."""
    class Result:

        def __init__(self, pose=None):
            setattr(self, id_field, '')
            self.score, self.pose = 0.0, pose or object()

    class Detection:

        def __init__(self, header=None):
            self.header, self.results = header, []
            self.bbox = SimpleNamespace(center=SimpleNamespace(x=0.0, y=0.0), size_x=0, size_y=0)

    class DetectionArray:

        def __init__(self, header=None):
            self.header, self.detections = header, []

    return DetectionArray, Detection, Result


@pytest.mark.parametrize('id_field', ['class_id', 'id'])
def test_messages_of_older_vision_msgs_are_filled_by_field(id_field):
    convert = DetectionsToMsg(('person', 'dog'), old_types(id_field)).convert
    message = convert(FOUND, Header(frame_id='cam'), 'name')
    (detection,) = message.detections
    assert (detection.bbox.center.x, detection.bbox.center.y) == (30, 60)
    assert (detection.bbox.size_x, detection.bbox.size_y) == (40, 80)
    assert getattr(detection.results[0], id_field) == 'dog'
    assert detection.results[0].score == 0.5


def test_class_ids_beyond_the_names_are_still_told():
    convert = DetectionsToMsg(('person',)).convert
    assert convert(FOUND, Header(), 'name').detections[0].results[0].hypothesis.class_id == (
        'class_1'
    )
    assert convert(FOUND, Header(), 'index').detections[0].results[0].hypothesis.class_id == '1'


def test_image_message_round_trip():
    from yolov7_trt_ros.core.messages.image_message import view_message

    pixels = np.random.default_rng(0).integers(0, 255, (7, 5, 3), np.uint8)
    message = image_to_msg(pixels, Header(frame_id='cam'))
    assert (view_message(message).pixels == pixels).all()
    assert message.header.frame_id == 'cam'


# ---- player and process


@pytest.mark.parametrize('encoding', ['bgr8', 'rgb8', 'mono8', 'yuv422_yuy2'])
def test_player_encodings_read_back(encoding):
    from yolov7_trt_ros.core.image import ImageView
    from yolov7_trt_ros.core.preprocess import to_bgr

    bgr = np.full((4, 8, 3), (40, 90, 200), np.uint8)
    data = encode_pixels(bgr, encoding)
    view = ImageView.from_buffer(data.tobytes(), width=8, height=4, encoding=encoding)
    expected = 0.114 * 40 + 0.587 * 90 + 0.299 * 200 if encoding == 'mono8' else bgr
    assert np.abs(to_bgr(view).astype(int) - expected).max() <= 3


def test_an_odd_column_is_left_out_where_two_pixels_share_their_colour():
    bgr = np.full((3, 5, 3), (40, 90, 200), np.uint8)
    assert encode_pixels(bgr, 'yuv422_yuy2').shape == (3, 4, 2)
    assert encode_pixels(bgr, 'mono8').shape == (3, 5)


def test_moving_view_moves_and_keeps_its_size():
    picture = np.random.default_rng(0).integers(0, 255, (300, 500, 3), np.uint8)
    views = list(moving_view(picture, (64, 48), 8))
    assert [view.shape for view in views] == [(48, 64, 3)] * 8
    assert (views[0] != views[3]).any()


MALLOC = ('mmap threshold', 'trim threshold', 'top pad')


class OldMalloc:
    """Mallopt of glibc 2.31, which maps what is larger than half of a heap."""

    def __init__(self) -> None:
        self.values: dict[int, int] = {}

    def __call__(self, option: int, value: int) -> int:
        if option == -3 and value > 32 << 20:
            return 0
        self.values[option] = value
        return 1


def test_malloc_is_tuned_as_far_as_the_c_library_goes():
    old = OldMalloc()
    try:
        assert tune_malloc(old) == dict(zip(MALLOC, (32, 1024, 64), strict=True))
        assert old.values == {-3: 32 << 20, -1: 1 << 30, -2: 64 << 20}
        assert malloc_text() == 'mmap threshold 32 MiB, trim threshold 1024 MiB, top pad 64 MiB'
        assert tune_malloc(lambda *_: 0) == dict.fromkeys(MALLOC, 0)
        assert malloc_text().startswith('mmap threshold refused, ')
    finally:
        assert tune_malloc()['trim threshold'] == 1024  # glibc's own


_FREES = """
import contextlib, threading
import numpy as np
from yolov7_trt_ros.nodes.process.process_setup import returning_freed_memory, tune_malloc

def resident_mib():
    return int(open('/proc/self/status').read().split('RssAnon:')[1].split()[0]) >> 10

tune_malloc()
held = []
thread = threading.Thread(
    target=lambda: held.extend(np.ones(100_000, np.uint8) for _ in range(400))
)
thread.start()
thread.join()
before_mib = resident_mib()
with {block}():
    held.clear()
print(before_mib - resident_mib())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), 'malloc_trim'), reason='not glibc')
def test_the_heap_of_a_thread_is_given_back():
    """38 MiB of a thread that has ended; what `tune_malloc` sets keeps them otherwise."""
    given_mib = {
        block: int(subprocess.run(
            [sys.executable, '-c', _FREES.format(block=block)], capture_output=True, check=True,
        ).stdout)
        for block in ('contextlib.nullcontext', 'returning_freed_memory')
    }
    assert given_mib['contextlib.nullcontext'] < 5 < 30 < given_mib['returning_freed_memory']


def test_malloc_is_as_before_after_memory_was_given_back():
    told = []
    try:
        tune_malloc(lambda *_: 1)
        with (
            contextlib.suppress(ZeroDivisionError),
            returning_freed_memory(lambda *each: told.append(each)),
        ):
            assert told == [(-1, 128 << 10), (-2, 0)]
            raise ZeroDivisionError
        assert told[2:] == [(-1, 1 << 30), (-2, 64 << 20)]
    finally:
        tune_malloc()


def test_profile_is_offered_unless_the_user_has_one():
    (name, path), = large_image_environment({}).items()
    assert name.endswith('_DEFAULT_PROFILES_FILE') and path.endswith('.xml')
    assert large_image_environment({'FASTDDS_DEFAULT_PROFILES_FILE': '/mine.xml'}) == {}
