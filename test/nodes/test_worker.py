"""DetectionWorker: frames of several topics in one batch, failures, what is counted."""

from __future__ import annotations

import array
import dataclasses
import inspect
from pathlib import Path
import re
import sys
import threading
from typing import Any

import cv2
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from ros_probe import image_msg
from sensor_msgs.msg import CompressedImage
from vision_msgs.msg import Detection2DArray

from yolov7_trt_ros.core.messages import serialized_image
from yolov7_trt_ros.core.messages.serialized_image import SerializedImage
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.core.zones import Zones
from yolov7_trt_ros.errors import DeviceLostError, InferenceError
from yolov7_trt_ros.nodes.detector.worker.answer_watch import AnswerWatch
from yolov7_trt_ros.nodes.detector.worker.detection_worker import DetectionWorker
from yolov7_trt_ros.nodes.detector.worker.detections_wire import DetectionsWire
from yolov7_trt_ros.nodes.detector_parameters import parameters
from yolov7_trt_ros.nodes.detector_parameters.settings import node_settings
from yolov7_trt_ros.nodes.images.frame_slots import FrameSlots
from yolov7_trt_ros.nodes.images.frame_statistics import Counts
from yolov7_trt_ros.nodes.images.image_stream import ImageStream, ReceivedFrame
from yolov7_trt_ros.testing import FakeDetector, make_detections

BENCHMARKS = Path(__file__).resolve().parents[2] / 'benchmarks'
sys.path.insert(0, str(BENCHMARKS))

from worker_stream import WorkerStream  # noqa: E402, I100  (its folder has just been added)

DEFAULTS = {spec.name: spec.default for spec in parameters.PARAMETERS}
FOUND = make_detections((8, 8), ((1, 1, 5, 5), 0.9, 0))


class PipelinedFake(FakeDetector):
    """A fake whose frames are begun and collected."""

    def submit(self, images: Any, settings: Any) -> Any:
        return self.detect_batch(images, settings)

    def collect(self, ticket: Any) -> Any:
        return ticket


class Stream(WorkerStream):
    """Publishes into a list."""

    def __init__(self, topic: str, published: list[tuple[str, Any]]) -> None:
        super().__init__(topic)
        self._published = published
        self.removed = False
        self.raises: Exception | None = None
        self.engines: list[str] = []

    def publish(self, message: Any) -> bool:
        if self.raises is not None:
            raise self.raises
        if not self.removed:
            self._published.append((self.topic, deserialize_message(message, Detection2DArray)))
        return not self.removed

    def publish_engine(self, make: Any) -> None:
        self.engines.append(make().method)


@dataclasses.dataclass
class Bench:
    """A worker with topics a to d, whose first frames wait already when it starts."""

    detector: FakeDetector
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    topics: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.published: list[tuple[str, Any]] = []
        self.errors: list[str] = []
        self.defects: list[tuple[str, Exception]] = []
        self.streams = {topic: Stream(topic, self.published) for topic in 'abcd'}
        self.slots: FrameSlots[ReceivedFrame] = FrameSlots()
        values = node_settings(
            DEFAULTS | self.settings, self.detector.spec.class_names, self.topics
        )
        self.worker = DetectionWorker(
            self.detector, DetectionsWire(self.detector.spec.class_names), self.slots,
            lambda: values, self.errors.append, lambda: True,
            lambda *defect: self.defects.append(defect),
        )

    def put(self, topic: str, encoding: str = 'bgr8', frame_id: str = '') -> None:
        """Put a frame of a topic into its slot."""
        message = image_msg(np.zeros((8, 8, 3), np.uint8), encoding)
        message.header.frame_id = frame_id or topic
        stream: Any = self.streams[topic]
        stream.statistics.count('received')
        serialized = serialize_message(message)
        self.slots.put(topic, ReceivedFrame(stream, SerializedImage(serialized, False), 0, None))

    def run(self, **encodings: str) -> None:
        """Put one frame a topic, then let the worker take them all."""
        for topic in self.streams:
            self.put(topic, encodings.get(topic, 'bgr8'))
        self.run_out()

    def run_out(self) -> None:
        """Let the worker take all that waits, and stop it."""
        idle = threading.Event()
        take = self.slots.take

        def watched(*arguments: int) -> Any:
            if not self.slots._waiting:
                idle.set()
            return take(*arguments)

        self.slots.take = watched  # type: ignore[method-assign]
        self.worker.start()
        assert idle.wait(600)
        self.worker.stop()

    def counts(self, name: str) -> list[int]:
        return [getattr(each.statistics.counts(), name) for each in self.streams.values()]


def test_the_stand_in_for_a_stream_has_what_the_worker_uses_of_one():
    folder = Path(inspect.getfile(DetectionWorker)).parent
    used = {name for file in folder.glob('*.py') for name in re.findall(
        r'\bstream\.(\w+)', file.read_text()
    )}
    stand_in = WorkerStream('/a')
    assert {'publish', 'publish_annotations', 'gate'} <= used
    assert [name for name in sorted(used) if not hasattr(stand_in, name)] == []
    for name, method in inspect.getmembers(WorkerStream, inspect.isfunction):
        given = inspect.signature(getattr(ImageStream, name)).parameters
        if name != '__init__':
            assert [*inspect.signature(method).parameters] == [*given], name


@pytest.mark.parametrize(
    ('wanted', 'possible', 'batches'),
    [(4, 4, [4]), (3, 4, [3, 1]), (8, 2, [2, 2]), (1, 4, [1] * 4)],
)
def test_frames_of_several_topics_run_together(wanted, possible, batches):
    bench = Bench(FakeDetector([FOUND], max_batch=possible), {'max_batch': wanted})
    bench.run()
    assert bench.detector.batches == batches
    assert [topic for topic, _ in bench.published] == list('abcd')
    assert [message.header.frame_id for _, message in bench.published] == list('abcd')
    assert bench.counts('processed') == [1, 1, 1, 1]
    assert bench.streams['a'].statistics.mean_batch() == batches[0]


@pytest.mark.parametrize('pipelined', [False, True])
def test_frames_of_other_settings_run_in_batches_of_their_own(pipelined):
    kind = PipelinedFake if pipelined else FakeDetector
    bench = Bench(
        kind([FOUND], max_batch=4), {'max_batch': 4},
        {'b': {'score_threshold': 0.5}, 'd': {'score_threshold': 0.5}, 'c': {'max_rate_hz': 1.0}},
    )
    bench.run()
    assert bench.detector.batches == [2, 2]  # a and c differ in nothing that a detector is told
    assert [topic for topic, _ in bench.published] == list('acbd')
    thresholds = [call.settings.score_threshold for call in bench.detector.calls]
    assert thresholds == [0.25, 0.25, 0.5, 0.5]
    assert bench.counts('processed') == [1, 1, 1, 1]


def test_what_objects_are_followed_by_is_asked_for_and_not_published():
    both = make_detections((8, 8), ((1, 1, 5, 5), 0.9, 0), ((4, 4, 8, 8), 0.2, 0))
    bench = Bench(
        FakeDetector([both], max_batch=4), {'track': 'bytetrack', 'max_batch': 4},
        {'b': {'track': 'off', 'score_threshold': 0.1}, 'd': {'class_thresholds': 'person:0.1'}},
    )
    bench.run()
    thresholds = [call.settings.score_threshold for call in bench.detector.calls]
    assert thresholds == [0.1] * 4
    assert bench.detector.batches == [2, 1, 1]
    ids = {topic: [each.id for each in message.detections] for topic, message in bench.published}
    assert ids == {'a': ['1'], 'b': ['', ''], 'c': ['2'], 'd': ['3', '4']}


def test_ids_end_where_objects_are_not_followed_for_a_while():
    tracks = None
    for mode, expected in (('iou', ['1']), ('iou', ['1']), ('off', ['']), ('iou', ['2'])):
        bench = Bench(FakeDetector([FOUND]), {'track': mode, 'track_lost_s': 3600.0})
        tracks = bench.worker._tracks = tracks or bench.worker._tracks
        bench.put('a')
        bench.run_out()
        (_, message), = bench.published
        assert [each.id for each in message.detections] == expected


def test_ids_go_on_with_the_next_worker():
    bench = Bench(FakeDetector([FOUND]), {'track': 'iou'})
    bench.run()
    again = Bench(FakeDetector([FOUND]), {'track': 'iou'})
    again.worker._tracks = bench.worker._tracks
    again.put('d')
    again.run_out()
    (_, message), = again.published
    assert [each.id for each in message.detections] == ['4']


def test_zones_are_those_of_the_topic():
    bench = Bench(
        FakeDetector([FOUND]), {'ignore_zones': '0,0 2,0 0,2'},
        {'b': {'ignore_zones': '2,2 4,2 4,4 2,4'}, 'c': {'keep_zones': '5,5 7,5 5,7'}},
    )
    bench.run()
    assert [len(message.detections) for _, message in bench.published] == [1, 0, 0, 1]
    assert bench.counts('processed') == [1, 1, 1, 1]


def test_a_frame_that_zones_fail_at_leaves_the_next_ones_alone(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    choose, raised = Zones.choose, [MemoryError('no more')]

    def choose_or_fail(zones: Zones, detections: Any) -> Any:
        if raised:
            raise raised.pop()
        return choose(zones, detections)

    monkeypatch.setattr(Zones, 'choose', choose_or_fail)
    bench = Bench(FakeDetector([FOUND]), {'ignore_zones': '0,0 8,0 0,8'})
    bench.run()
    assert [topic for topic, _ in bench.published] == list('bcd')
    assert bench.counts('failed') == [1, 0, 0, 0] and 'out of memory' in bench.errors[0]


def test_frames_that_were_left_for_later_are_counted_when_the_device_is_lost():
    bench = Bench(
        FakeDetector([DeviceLostError('gone')], max_batch=4), {'max_batch': 4},
        {'b': {'score_threshold': 0.5}, 'c': {'iou_threshold': 0.5}},
    )
    for topic in 'abcd':
        bench.put(topic)
    bench.worker.start()
    bench.worker._thread.join(600)
    assert bench.counts('failed') == [1, 0, 0, 1]
    assert bench.counts('dropped') == [0, 1, 1, 0]


def test_a_bad_image_leaves_the_rest_of_its_batch_alone():
    bench = Bench(FakeDetector([FOUND], max_batch=4), {'max_batch': 4})
    bench.run(b='no such encoding')
    assert bench.detector.batches == [3]
    assert [topic for topic, _ in bench.published] == list('acd')
    assert bench.counts('failed') == [0, 1, 0, 0]
    assert 'b: ' in bench.errors[0] and 'no such encoding' in bench.errors[0]


def test_after_a_failed_batch_each_frame_is_tried_alone():
    script = [FOUND, InferenceError('NaN'), FOUND, InferenceError('NaN'), FOUND, FOUND]
    bench = Bench(FakeDetector(script, max_batch=4), {'max_batch': 4})
    bench.run()
    assert bench.detector.batches == [4, 1, 1, 1, 1]
    assert [topic for topic, _ in bench.published] == list('acd')
    assert bench.counts('failed') == [0, 1, 0, 0]
    assert bench.errors == ['b: NaN']


def test_a_topic_that_was_removed_meanwhile_is_left_out():
    bench = Bench(FakeDetector([FOUND], max_batch=4), {'max_batch': 4})
    bench.streams['c'].removed = True
    bench.run()
    assert [topic for topic, _ in bench.published] == list('abd')
    assert bench.counts('processed') == [1, 1, 0, 1]
    assert bench.counts('dropped') == [0, 0, 1, 0]


def test_a_frame_counts_for_the_stream_it_came_from_not_for_one_of_that_name():
    bench = Bench(FakeDetector([FOUND]))
    former = bench.streams['a']
    bench.put('a')
    bench.streams['a'] = Stream('a', bench.published)  # made anew: another output, say
    former.removed = True
    bench.run_out()
    assert bench.streams['a'].statistics.counts() == Counts()
    assert former.statistics.counts() == Counts(received=1, dropped=1)


def test_what_waits_when_the_worker_is_stopped_is_dropped():
    bench = Bench(FakeDetector([FOUND]))
    in_work, stopped = threading.Event(), threading.Event()
    bench.detector._on_detect = lambda: (in_work.set(), stopped.wait(600))
    for topic in 'abcd':
        bench.put(topic)
    bench.worker.start()
    assert in_work.wait(600)
    close = bench.slots.close
    bench.slots.close = lambda: (close(), stopped.set())[0]  # type: ignore[method-assign]
    bench.worker.stop()
    assert bench.counts('processed') == [1, 0, 0, 0]
    assert bench.counts('dropped') == [0, 1, 1, 1]


def test_a_lost_device_ends_the_worker_and_counts_the_frames():
    bench = Bench(FakeDetector([DeviceLostError('gone')], max_batch=2), {'max_batch': 2})
    for topic in 'ab':
        bench.put(topic)
    bench.worker.start()
    bench.worker._thread.join(600)
    assert bench.worker.device_lost
    assert bench.counts('failed') == [1, 1, 0, 0]


# ---- compressed images


def put_compressed(bench: Bench, topic: str, text: str, data: bytes) -> None:
    """Put a compressed image of a format into the slot of a topic."""
    message = CompressedImage(format=text, data=array.array('B', data))
    stream: Any = bench.streams[topic]
    serialized = SerializedImage(serialize_message(message), True)
    bench.slots.put(topic, ReceivedFrame(stream, serialized, 0, None))


def test_the_inner_coding_of_compressed_images_is_looked_at():
    grey = bytes(cv2.imencode('.png', np.full((8, 8), 70, np.uint8))[1])
    bench = Bench(FakeDetector([FOUND]))
    put_compressed(bench, 'a', 'bayer_rggb8; jpeg compressed ', grey)
    put_compressed(bench, 'b', '16UC1; compressedDepth png', grey)
    put_compressed(bench, 'c', 'mono8; png compressed ', grey)
    put_compressed(bench, 'd', 'h264', b'\0\0\0\1\x67')
    bench.run_out()
    assert [call.encoding for call in bench.detector.calls] == ['bayer_rggb8', 'bgr8']
    assert bench.counts('failed') == [0, 1, 0, 1]
    assert 'b: ' in bench.errors[0] and '16UC1' in bench.errors[0]
    assert "format 'h264': no picture of a known kind" in bench.errors[1]


def test_raw_depth_fails_by_its_name():
    bench = Bench(FakeDetector([FOUND]))
    bench.run(b='32FC1', c='16UC1')
    assert bench.counts('failed') == [0, 1, 1, 0]
    assert 'b: encoding 32FC1 is that of a depth image' in bench.errors[0]


@pytest.mark.parametrize(('most', 'failed'), [(63, 1), (64, 0)])
def test_the_decoded_size_is_limited_by_a_parameter(most, failed):
    bench = Bench(FakeDetector([FOUND]), {'max_image_pixels': most})
    picture = bytes(cv2.imencode('.png', np.zeros((8, 8, 3), np.uint8))[1])
    put_compressed(bench, 'a', 'bgr8; png compressed bgr8', picture)
    bench.run_out()
    assert bench.counts('failed') == [failed, 0, 0, 0]
    assert [f'larger than the limit of {most} pixels' in each for each in bench.errors] == (
        [True] * failed
    )


def test_out_of_memory_costs_one_frame_and_no_more():
    script = [MemoryError(), MemoryError('8 MB'), FOUND, FOUND, FOUND]
    bench = Bench(FakeDetector(script, max_batch=4), {'max_batch': 4})
    bench.run()
    assert [topic for topic, _ in bench.published] == list('bcd')
    assert bench.counts('failed') == [1, 0, 0, 0] and bench.counts('processed') == [0, 1, 1, 1]
    assert bench.errors == ['a: out of memory. 8 MB'] and not bench.defects


def test_out_of_memory_while_an_image_is_read_costs_that_frame(monkeypatch):
    read_image = serialized_image.read_image

    def read_some(serialized: bytes) -> Any:
        message = read_image(serialized)
        if message.header.frame_id == 'b':
            raise MemoryError
        return message

    monkeypatch.setattr(serialized_image, 'read_image', read_some)
    bench = Bench(FakeDetector([FOUND], max_batch=4), {'max_batch': 4})
    bench.run()
    assert bench.counts('failed') == [0, 1, 0, 0] and bench.counts('processed') == [1, 0, 1, 1]


@pytest.mark.parametrize('raised', [MemoryError(), OverflowError('of a field')])
def test_a_message_that_cannot_be_published_costs_its_frame(raised):
    bench = Bench(FakeDetector([FOUND], max_batch=4), {'max_batch': 4})
    bench.streams['c'].raises = raised
    bench.run()
    assert bench.counts('failed') == [0, 0, 1, 0] and bench.counts('processed') == [1, 1, 0, 1]
    assert len(bench.errors) == 1
    assert [error for _, error in bench.defects] == (
        [] if isinstance(raised, MemoryError) else [raised]
    )


def test_an_overlay_that_cannot_be_made_costs_no_frame():
    bench = Bench(FakeDetector([FOUND]))

    def fail(make: Any) -> None:
        raise MemoryError

    bench.streams['a'].publish_overlay = fail  # type: ignore[method-assign]
    bench.run()
    assert bench.counts('processed') == [1, 1, 1, 1] and bench.counts('failed') == [0] * 4
    assert bench.errors == ['a: no overlay: out of memory. ']


def test_a_defect_costs_its_frame_and_is_told_with_what_was_raised():
    defect = KeyError('anchor')
    bench = Bench(FakeDetector([defect, FOUND]))
    bench.run()
    assert bench.counts('failed') == [1, 0, 0, 0] and bench.counts('processed') == [0, 1, 1, 1]
    assert bench.errors == ["a: KeyError: 'anchor'"]
    assert bench.defects == [('frame of a', defect)]


def test_a_frame_id_that_would_be_copied_into_every_detection_is_refused():
    bench = Bench(FakeDetector([FOUND]))
    bench.put('a', frame_id='x' * 1025)
    bench.put('b', frame_id='x' * 1024)
    bench.run_out()
    assert bench.counts('failed') == [1, 0, 0, 0] and bench.counts('processed') == [0, 1, 0, 0]
    assert bench.errors == ['a: frame_id may have 1024 characters, got 1025']


@pytest.mark.parametrize('kind', [FakeDetector, PipelinedFake])
def test_an_engine_that_does_not_answer_is_told_by_what_it_took_before(kind):
    now_s, told = [0.0], []

    class Slow(kind):

        def detect_batch(self, images, settings):
            for seconds in (0.1, 1.7, 28.0, 1.0):
                now_s[0] += seconds
                told.append(bench.worker.hang)
            return super().detect_batch(images, settings)

    bench = Bench(Slow([FOUND] * 4))
    bench.worker._watch = AnswerWatch(lambda: int(now_s[0] * NS_PER_S))
    bench.put('a')
    bench.put('b')
    bench.run_out()
    assert told[:4] == ['', '', '', (
        'the engine has not answered for 31 s: nothing is detected until it does; if it never '
        'does, restart the node'
    )]
    assert told[4:] == [''] * 4 and bench.worker.hang == ''  # 20 times 31 s is not over
    bench.worker._watch.ask()
    now_s[0] += 700.0
    assert bench.worker.hang.startswith(
        'the engine has not answered for 700 s, it took 30.80 s at most: ')
